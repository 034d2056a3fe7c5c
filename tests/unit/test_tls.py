"""What the tls step finds before Caddy is told anything: the CA's account, translated addresses, a key that others
may read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.altered import with_command, with_exchange, with_files
from tests.unit.certificates import CHAIN, DOMAIN, LEAF, LOWER, NOW, UPPER
from wizard import answers, custom, eab, internal
from wizard.actions import show
from wizard.caddyfile import ACCOUNT_KEY, PACKAGED_CADDYFILE, render_caddyfile
from wizard.described import DescribedMachine
from wizard.engine import Look
from wizard.facts import Facts
from wizard.mask import Mask
from wizard.model import Finding, Level, Output, Remove, Run, Write
from wizard.owned import Owned
from wizard.parse.account import read_account
from wizard.paths import CADDY_ROOT, CADDYFILE, ROOT_CERTIFICATE
from wizard.server import Address, FileState, Response
from wizard.steps import tls as tls_step

SECRET = base64.urlsafe_b64encode(bytes(range(200, 232))).decode().rstrip("=")
KEY_ID = "kid-1_A/b"
PATH = "/etc/vllm-https-setup/eab"
ACME = f"mode: acme, domain: {DOMAIN}, email: a@example.com"


def look(
    tls: str,
    files: Mapping[str, FileState | None] | None = None,
    addresses: Sequence[Address] = (),
    now: float | None = None,
) -> Look:
    about = scenario.load("exposed").description
    described = replace(
        about,
        files={**about.files, ACCOUNT_KEY: None, **(files or {})},
        addresses=tuple(addresses) or about.addresses,
        now=now or about.now,
    )
    loaded = answers.load(f"version: 1\ntls: {{{tls}}}\n".encode())
    seen = Look(Facts(DescribedMachine(described)), loaded, None, Owned(), Mask())
    seen.server.units(*scenario.load("exposed").units)
    return seen


# ── an account that was made beforehand ──

GOOD = {
    "lines": f"{KEY_ID}\n{SECRET}\n",
    "windows": f"\ufeff{KEY_ID}\r\n{SECRET}\r\n",
    "comments": f"# of our CA\n\n{KEY_ID}\n\n  {SECRET}",
    "json": json.dumps({"key_id": KEY_ID, "mac_key": SECRET}),
    "zerossl": json.dumps({"success": True, "eab_kid": KEY_ID, "eab_hmac_key": SECRET}, indent=1),
    "padded": f"{KEY_ID}\n{SECRET}=\n",
    "standard": f"{KEY_ID}\n{SECRET.replace('-', '+').replace('_', '/')}=\n",
}
WRONG = {
    "empty": "",
    "one": f"{KEY_ID}\n",
    "three": f"{KEY_ID}\n{SECRET}\nmore\n",
    "exchanged": f"{SECRET}\n{KEY_ID.replace('/', '')}\n",
    "not-base64": f"{KEY_ID}\n{SECRET}!\n",
    "short": f"{KEY_ID}\nabcd\n",
    "spaces": f"kid with spaces\n{SECRET}\n",
    "quoted": f'kid"x\n{SECRET}\n',
    "json-cut": '{"key_id": "' + SECRET,
    "json-other": json.dumps({"kid": KEY_ID, "key": SECRET}),
    "json-number": json.dumps({"key_id": 7, "mac_key": SECRET}),
    "json-deep": "{" + '"a":[' * 5000,
}


@pytest.mark.parametrize("form", GOOD)
def test_account_is_read_in_every_form(form: str) -> None:
    account, wrong = read_account(GOOD[form])
    assert account is not None and wrong == ""
    assert (account.key_id, account.mac_key) == (KEY_ID, SECRET)
    assert SECRET not in repr(account)


@pytest.mark.parametrize("form", WRONG)
def test_what_is_no_account_is_refused_without_a_word_of_it(form: str) -> None:
    account, wrong = read_account(WRONG[form])
    assert account is None and wrong
    assert SECRET not in wrong and KEY_ID not in wrong


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    account, wrong = read_account(text)
    assert (account is None) == bool(wrong)


def owned_by(owner: str = "root", mode: int = 0o600, text: str = GOOD["lines"], kind: str = "file") -> FileState:
    return FileState(kind, text.encode(), mode, owner)


def check(seen: Look, *, required: bool = True) -> list[Finding]:
    return list(eab.check(seen, {"newOrder": "x", "meta": {"externalAccountRequired": required}}, Level.BLOCKED))


def test_ca_that_wants_an_account_blocks_before_it_is_asked() -> None:
    (found,) = check(look(ACME))
    assert found.level is Level.BLOCKED and "tls: {eab_file: FILE}" in str(found.remedy)
    assert check(look(ACME), required=False) == []


REFUSED = {
    "others-may-read": (owned_by(mode=0o640), "chmod 0600"),
    "another-user": (owned_by("alice"), "chown root:"),
    "a-link": (owned_by(kind="link", text="/root/eab"), "name the file itself"),
    "missing": (None, "name the file itself"),
    "no-account": (owned_by(text=WRONG["one"]), "two lines"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_file_that_is_not_roots_alone_is_refused(case: str) -> None:
    state, words = REFUSED[case]
    (found,) = check(look(f"{ACME}, eab_file: {PATH}", {PATH: state}))
    assert found.level is Level.BLOCKED and words in str(found.remedy)


def test_key_goes_to_a_file_for_caddy_alone_and_into_no_text() -> None:
    seen = look(f"{ACME}, eab_file: {PATH}", {PATH: owned_by()})
    (found,) = check(seen)
    (write,) = found.fix
    assert isinstance(write, Write)
    assert (write.path, write.mode, write.owner, write.group) == (ACCOUNT_KEY, 0o640, "root", "caddy")
    assert write.content == SECRET.encode(), "without a line's end: it would be taken for a part of the key"
    shown = json.dumps(show(write, None, seen.mask).as_json())
    assert SECRET not in shown and SECRET not in found.summary
    caddyfile = render_caddyfile(seen, "127.0.0.1:8000")
    assert f"eab {KEY_ID} {{file.{ACCOUNT_KEY}}}" in caddyfile and SECRET not in caddyfile
    assert SECRET not in seen.mask.text(f"said: {SECRET}"), "whatever a command says of it is masked"
    there = {PATH: owned_by(), ACCOUNT_KEY: FileState("file", SECRET.encode(), 0o640, "root", "caddy")}
    (after,) = check(look(f"{ACME}, eab_file: {PATH}", there))
    assert after.level is Level.OK


def test_key_is_cleared_away_where_no_account_is_used_any_more() -> None:
    there = {ACCOUNT_KEY: FileState("file", SECRET.encode(), 0o640, "root", "caddy")}
    seen = look("mode: internal", there)
    assert list(eab.clear_away(seen)) == [], "not ours"
    seen = replace(seen, owned=Owned().after_write(ACCOUNT_KEY, SECRET.encode()))
    (found,) = eab.clear_away(seen)
    assert [type(action) for action in found.fix] == [Remove, Run]


# ── internal: what clients call ──

OWN = (Address("eth0", "10.0.0.5", True), Address("eth0", "fd91::5", True), Address("eth1", "192.168.7.5"))


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        ("203.0.113.7", {}),
        ("203.0.113.7, llm", {}),
        ("203.0.113.7, 192.168.7.5", {}),
        ("203.0.113.7, 10.0.0.5", {"203.0.113.7": "10.0.0.5"}),
        ("llm, 203.0.113.7", {"203.0.113.7": "llm"}),
        ("203.0.113.7, 203.0.113.8", {"203.0.113.8": "203.0.113.7"}),
        ("10.0.0.5, fd91::5, 192.168.7.5, llm, llm.example.com", {}),
        ("'2001:db8::7'", {}),
        ("'2001:db8::7', 'fd91::5'", {"2001:db8::7": "fd91::5"}),
    ],
)
def test_translated_address_is_said_to_be_shown_another_certificate(hosts: str, shown: dict[str, str]) -> None:
    """As Caddy chooses where a client sends no name: by the address that the packet came to, or the first host."""
    found = list(internal.check_before(look(f"mode: internal, hosts: [{hosts}]", addresses=OWN)))
    assert found[0].level is Level.OK
    told = {one.evidence["host"]: one.evidence["shown"] for one in found if one.key == "tls.hosts_translated"}
    assert told == shown


def test_sites_are_written_for_ipv6_and_for_names_without_dots() -> None:
    text = render_caddyfile(look("mode: internal, hosts: ['fd91::5', llm]", addresses=OWN), "127.0.0.1:8000")
    assert "https://[fd91::5], https://llm {" in text
    assert "default_sni fd91::5" in text


# ── custom: the key's file ──


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_key_that_every_user_may_read_is_warned_of(mode: int, warned: bool) -> None:
    files = {"/etc/c.pem": FileState("file", CHAIN), "/etc/k.pem": FileState("file", LEAF.key_pem, mode)}
    tls = f"mode: custom, domain: {DOMAIN}, certificate: /etc/c.pem, private_key: /etc/k.pem"
    pair, found = custom.read(look(tls, files, now=NOW.timestamp()))
    assert pair is not None
    assert ("tls.key_readable" in {one.key for one in found}) is warned
    assert {one.level for one in found} <= {Level.WARN}


@pytest.mark.parametrize("large", ["/etc/c.pem", "/etc/k.pem"])
def test_file_that_is_too_large_for_a_certificate_is_not_read_as_one(large: str) -> None:
    """Whatever was named by mistake: each of its lines would be parsed, and all of it masked as a secret."""
    files = {"/etc/c.pem": FileState("file", CHAIN), "/etc/k.pem": FileState("file", LEAF.key_pem, 0o600)}
    files[large] = FileState("file", files[large].content * 10_000, 0o600)
    looked = look(f"mode: custom, domain: {DOMAIN}, certificate: /etc/c.pem, private_key: /etc/k.pem", files)
    pair, found = custom.read(looked)
    assert pair is None
    assert [(one.key, one.level) for one in found] == [("tls.certificate", Level.BLOCKED)]
    assert found[0].summary == f"{large}: more than 1024 KiB, which no certificate or key has"
    assert looked.mask.text("any text") == "any text"


def found_on(server: Scenario, key: str) -> Finding:
    """What the step alone finds by this key."""
    one_look = server.look_within()
    (found,) = (one for one in tls_step.STEP.inspect(one_look) if one.key == key)
    return found


def test_caddyfile_that_a_package_brought_again_after_a_purge_is_nobodys_edit() -> None:
    """The answers say that an edit is to stop the run: this is none."""
    packaged = {CADDYFILE: PACKAGED_CADDYFILE.decode(), CADDY_ROOT: None}
    server = with_files(scenario.load("caddyfile-edited-stop"), packaged)
    one_look = server.look_within()
    found = tls_step.check_caddyfile(one_look, theirs=False)
    assert found.level is Level.DRIFT
    assert "edited" not in found.summary


@pytest.mark.parametrize(
    ("error", "level", "done"),
    [
        ("certificate not accepted: unable to get local issuer certificate", Level.DRIFT, ["rm", "systemctl"]),
        ("TLS: tlsv1 alert internal error", Level.DRIFT, ["a certificate for"]),
        ("certificate not accepted: certificate is not yet valid", None, []),
        ("no answer in time", None, []),
    ],
)
def test_certificate_of_a_ca_that_is_gone_is_made_anew_and_one_on_its_way_is_waited_for(
    error: str, level: Level | None, done: list[str]
) -> None:
    """A wrong clock, or a busy Caddy, is no reason to throw certificates away."""
    server = with_exchange(scenario.load("finished"), "/v1/models", Response(0, error=error), port=443)
    one_look = server.look_within()
    found = [one for one in tls_step.inspect(one_look) if one.key == "tls.leaf"]
    assert [one.level for one in found] == ([level] if level else [])
    fix = [action for one in found for action in one.fix]
    words = [action.argv[0] if isinstance(action, Run) else getattr(action, "what", "") for action in fix]
    assert [word.rpartition(" 10.")[0] or word for word in words] == done


def test_addition_that_caddy_refuses_blocks_with_its_reason_and_the_file() -> None:
    directory, reason = "/etc/caddy/vllm-https.d", "/etc/caddy/vllm-https.d/own.caddy:1: unrecognized directive: oops"
    server = with_files(scenario.load("caddy-runs-older-config"), {}, {directory: ("own.caddy", "notes.txt")})
    refused = with_command(server, "caddy", Output(1, "", f"Error: adapting config using caddyfile: {reason}\n"))
    found = found_on(refused, "tls.additions")
    assert (found.level, found.fix) == (Level.BLOCKED, ())
    assert reason in found.summary and f"sudo mv {directory}/own.caddy /root/" in (found.remedy or "")
    without = with_files(refused, {}, {directory: ("notes.txt",)})
    assert found_on(without, "tls.running").level is Level.DRIFT


@pytest.mark.parametrize(
    ("exported", "mode", "summary", "why"),
    [
        (UPPER.pem, 0o644, "clients need the new one", "the new root certificate: clients need it"),
        (b"edited\n", 0o644, "not the root certificate any more", "the root certificate, for clients to trust"),
        (None, 0o600, "not everybody can read", "the root certificate, for clients to trust"),
    ],
    ids=["of another CA", "edited", "root's alone"],
)
def test_export_that_is_not_caddys_root_is_told_by_what_is_wrong_with_it(
    exported: bytes | None, mode: int, summary: str, why: str
) -> None:
    """Clients need another certificate only where Caddy's CA is another one."""
    server = with_files(scenario.load("finished"), {CADDY_ROOT: FileState("file", LOWER.pem, 0o600)})
    server = with_files(server, {ROOT_CERTIFICATE: FileState("file", exported or LOWER.pem, mode)})
    found = found_on(server, "tls.root")
    assert found.level is Level.DRIFT
    assert summary in found.summary
    assert [action.why for action in found.fix] == [why]
