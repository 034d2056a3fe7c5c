"""Bans and limits by address: whom they never meet, what is found of them, and that a kill anywhere loses nothing."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.scenario import Scenario
from tests.unit.altered import exposed, findings, with_command, with_files, with_new_command
from tests.unit.test_laws import Book, Killed, apply, has_fix
from wizard.answers import AnswersError, dump, load
from wizard.apt import SYSTEM_SOURCES
from wizard.engine import Look, walk
from wizard.harden import bans, connections, exempt
from wizard.model import Finding, Level, PackageIs, QuerySays, Run, Status, UnitIs
from wizard.overlay import Overlay
from wizard.owned import Owned
from wizard.parse.fail2ban import parse_banned, parse_logs
from wizard.paths import CONNECTIONS_RULES, CONNECTIONS_SERVICE
from wizard.queries import TABLES, show_units
from wizard.server import FileState, Operator
from wizard.steps import STEPS, harden
from wizard.undo import undo_actions

RECORDED = Path(__file__).parents[1] / "recorded"
ABSENT = "Id={}\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
EVERYTHING = "harden: {ban_wrong_keys: true, connections_per_address: 200, new_connections_per_minute: 600}"
FILES = (bans.FILTER, bans.JAIL, connections.UNIT_PATH, CONNECTIONS_RULES)


def hardened(answers: str = EVERYTHING) -> Scenario:
    """The exposed server, on which nothing of this is there, and these answers."""
    server = exposed().without(*FILES, *(one for one in SYSTEM_SOURCES if one not in exposed().description.files))
    for unit in (bans.UNIT, CONNECTIONS_SERVICE):
        server = with_new_command(server, show_units(unit), ABSENT.format(unit))
    text = f"{dump(load(server.description.answers))}{answers}\n"
    return replace(server, description=replace(server.description, answers=text.encode()))


def found(look: Look) -> dict[str, Finding]:
    return {finding.key: finding for finding in harden.inspect(look)}


# ── whom they never meet ──


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("", None, ()),
        ("", "198.51.100.7", ("198.51.100.7",)),
        ("# Operators log in from: 192.0.2.1\n", "198.51.100.7", ("192.0.2.1", "198.51.100.7")),
        ("# Operators log in from: 192.0.2.1\n", None, ("192.0.2.1",)),
        ("# Operators log in from: 192.0.2.1 nonsense [sshd] 2001:db8::1\n", None, ("192.0.2.1", "2001:db8::1")),
        ("ignoreip = 203.0.113.0/24\n", None, ()),
        ("", "fe80::1%eth0", ("fe80::1",)),
        ("", "::ffff:192.0.2.1", ("192.0.2.1",)),
        ("", "UNKNOWN", ()),
    ],
)
def test_operators_of_earlier_runs_are_kept_and_the_one_of_now_is_added(
    text: str, now: str | None, expected: Sequence[str]
) -> None:
    look = replace(exposed().look(), operator=Operator(now, 22) if now else None)
    assert exempt.operators(look, text) == expected


def test_oldest_operators_are_forgotten() -> None:
    look = replace(exposed().look(), operator=Operator("198.51.100.7", 22))
    known = [f"192.0.2.{number}" for number in range(1, 20)]
    kept = exempt.operators(look, f"{exempt.OPERATORS}{' '.join(known)}\n")
    assert kept == (*known[-7:], "198.51.100.7")


def test_networks_that_hold_one_another_are_one() -> None:
    """nftables refuses a set, and nobody reads a list, that has an address twice."""
    never = "harden: {never_ban: [10.0.0.0/8, 10.1.2.3, 2001:db8::/32, 192.0.2.1]}"
    networks = exempt.networks(hardened(never).look(), ("10.9.9.9", "2001:db8::5", "198.51.100.7"))
    assert [exempt.written(one) for one in networks] == ["10.0.0.0/8", "192.0.2.1", "198.51.100.7", "2001:db8::/32"]


def test_server_itself_and_its_operator_are_never_banned_and_ssh_is_in_no_rule() -> None:
    look = hardened().look()
    jail = bans.files_wanted(look).jail.decode()
    ignored = re.findall(r"^ignoreip = (.*)$", jail, re.M)[0].split()
    own = {one.address for one in look.server.addresses() if not ipaddress.ip_address(one.address).is_link_local}
    assert look.operator is not None and {"127.0.0.0/8", "::1", *own, look.operator.address} - {"127.0.0.1"} <= {
        *ignored
    }
    assert re.findall(r"port=\"([^\"]*)\"", jail) == ["80,443"]
    file, table = connections.rules(look, "")
    assert file.endswith(table) and 'iifname != "lo" tcp dport { 80, 443 } ct state new jump limited' in table
    assert f"saddr {look.operator.address} return" in table
    assert table.index("return") < table.index("reject"), "before any limit"


def test_who_looks_from_elsewhere_takes_no_address_away() -> None:
    look, _ = hardened().overlaid()
    book = Book(look)
    apply(book)
    assert not has_fix(walk(STEPS, replace(book.look, operator=None))), "a timer's look finds nothing to do"
    other = replace(book.look, operator=Operator("203.0.113.99", 22))
    assert {key for key, one in found(other).items() if one.fix} >= {"harden.bans", "harden.connections"}
    walk(STEPS, other, Book(other))
    assert not has_fix(walk(STEPS, book.look))


# ── the filter ──


def line(**request: object) -> str:
    """A line of Caddy's access log, in the order in which Caddy writes it."""
    asked = {
        "remote_ip": "192.0.2.7",
        "remote_port": "45284",
        "client_ip": "192.0.2.7",
        "method": "GET",
        "uri": "/v1/models",
        "headers": {"User-Agent": ["curl/8"], "Authorization": "REDACTED"},
        **{key: value for key, value in request.items() if key != "status"},
    }
    known = {"level": "info", "ts": 1, "logger": "http.log.access.vllm-https", "msg": "handled request"}
    ended = {"bytes_read": 0, "duration": 0.1, "size": 24, "status": request.get("status", 401), "resp_headers": {}}
    return json.dumps({**known, "request": asked, **ended}, separators=(",", ":")).replace('"ts":1,', ",")


@pytest.mark.parametrize(
    ("said", "is_wrong_key"),
    [
        (line(), True),
        (line(remote_ip="2001:db8::7", client_ip="2001:db8::7"), True),
        (line(headers={"Authorization": ["REDACTED"]}), True),
        (line(headers={"Authorization": "REDACTED", "User-Agent": ['x","status":200,"y":"']}), True),
        (line(status=200), False),
        (line(status=403), False),
        (line(status=404), False),
        (line(headers={}), False),
        (line(status=200, headers={"Authorization": "REDACTED", "User-Agent": ['","status":401,"']}), False),
        (line(headers={"User-Agent": ['"Authorization":"REDACTED"']}), False),
        (line(client_ip="198.51.100.1"), False),
    ],
)
def test_wrong_key_is_one_that_was_sent_and_refused_whatever_else_the_request_says(
    said: str, is_wrong_key: bool
) -> None:
    """fail2ban's own reading of the filter is in the lab; here its pattern, with what stands for <ADDR>."""
    wanted = bans.files_wanted(hardened().look()).filter.decode()
    pattern = re.findall(r"^failregex = (.*)$", wanted, re.M)[0]
    addresses = r"(?:(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})|(?P<ip6>[0-9a-f:]+:[0-9a-f:]*))"
    # fail2ban takes out what its datepattern has found.
    assert (re.search(pattern.replace("<ADDR>", addresses), said.replace(",,", ",")) is not None) is is_wrong_key


# ── the steps of it ──


def test_fail2ban_finds_its_files_when_it_starts_for_the_first_time() -> None:
    """The jail for SSH is off before the package is there: it never starts."""
    look, overlay = hardened().overlaid()
    book = Book(look)
    results = apply(book)
    assert [result.problem for result in results if result.status is Status.FAILED] == []
    words = [" ".join(one.argv) if isinstance(one, Run) else getattr(one, "path", "") for one in book.actions]
    install = next(number for number, one in enumerate(words) if one.endswith(f"-- {bans.PACKAGE}"))
    assert {bans.FILTER, bans.JAIL} <= {*words[:install]}
    jail = overlay.read(bans.JAIL)
    assert jail is not None and bans.QUIET in jail.text
    assert not has_fix(walk(STEPS, book.look))


def test_kill_anywhere_is_completed_and_undo_gives_back_what_was() -> None:
    server = hardened()
    look, whole = server.overlaid()
    book = Book(look)
    apply(book)
    wanted = whole.differences()
    for number in [number for number, one in enumerate(book.actions) if number and number >= len(book.actions) - 12]:
        for when_done in (False, True):
            overlay = Overlay(whole.below)
            cut = Book(replace(server.look(), server=overlay), number, when_done)
            with pytest.raises(Killed):
                walk(STEPS, cut.look, cut)
            resumed = Book(cut.look)
            walk(STEPS, resumed.look, resumed)
            assert overlay.differences() == wanted, book.actions[number]
            assert not has_fix(walk(STEPS, resumed.look))
    for action in undo_actions(book.performed):
        whole.perform(action)
    assert whole.differences() == {}


@pytest.mark.parametrize("last", ["harden: {ban_wrong_keys: true}", ""])
def test_what_is_turned_off_goes_and_what_stays_asked_for_stays(last: str) -> None:
    look, overlay = hardened().overlaid()
    book = Book(look)
    apply(book)
    simulated = {("apt-get", "-s", "-q", *words): "" for words in (("autoremove",), ("purge", "--", bans.PACKAGE))}
    simulated[("apt-get", "-s", "-q", "purge", "--auto-remove", "--", bans.PACKAGE)] = (
        f"Purg {bans.PACKAGE} [1.0.2-2]\n"
    )
    for argv, said in simulated.items():
        overlay.make_true(QuerySays(argv, said))
    off = Book(replace(book.look, answers=hardened(last).look().answers))
    results = walk(STEPS, off.look, off)
    assert [result.problem for result in results if result.status is Status.FAILED] == []
    there = {path for path in FILES if overlay.read(path) is not None}
    assert there == ({bans.FILTER, bans.JAIL} if last else set())
    assert overlay.packages(bans.PACKAGE)[bans.PACKAGE].installed is bool(last)
    assert not has_fix(walk(STEPS, off.look))


def there_before(server: Scenario, *, active: bool = True) -> tuple[Look, Overlay]:
    look, overlay = server.overlaid()
    overlay.make_true(PackageIs(bans.PACKAGE, True))
    overlay.make_true(UnitIs(bans.UNIT, active=active, enabled=active))
    overlay.make_true(QuerySays(bans.DIGEST, "Sorry but the jail 'vllm-https' does not exist\n", 255))
    return look, overlay


@pytest.mark.parametrize("active", [True, False])
def test_fail2ban_of_others_is_told_and_keeps_its_jail_for_ssh(active: bool) -> None:
    look, overlay = there_before(hardened(), active=active)
    book = Book(look)
    apply(book)
    jail = overlay.read(bans.JAIL)
    assert jail is not None and "[sshd]" not in jail.text
    told = [one.argv for one in book.actions if isinstance(one, Run) and bans.UNIT in one.argv]
    assert told.count(("systemctl", "reload-or-restart", bans.UNIT)) == 1
    undone = [one.argv for one in undo_actions(book.performed) if isinstance(one, Run) and bans.UNIT in one.argv]
    assert ("systemctl", "reload-or-restart" if active else "stop", bans.UNIT) in undone
    assert not any("purge" in argv and bans.PACKAGE in argv for argv in undone)


def test_masked_unit_blocks_and_who_is_banned_is_told() -> None:
    look, overlay = there_before(hardened())
    apply(Book(look))
    overlay.make_true(QuerySays(bans.STATUS, (RECORDED / "fail2ban/banned.txt").read_text()))
    told = found(look)["harden.banned"]
    assert (told.level, told.evidence) == (Level.INFO, {"addresses": ["10.91.0.66", "fd91::66"]})
    overlay.make_true(QuerySays(bans.STATUS, (RECORDED / "fail2ban/log-missing.txt").read_text()))
    assert found(look)["harden.fail2ban"].level is Level.DRIFT, "it does not read the access log"
    masked = with_new_command(
        hardened(), show_units(CONNECTIONS_SERVICE), ABSENT.format(CONNECTIONS_SERVICE).replace("not-found", "masked")
    )
    assert found(masked.look())["harden.connections"].level is Level.BLOCKED


def test_nothing_is_asked_of_a_server_that_wants_none_of_it() -> None:
    look = exposed().look()
    assert found(replace(look, owned=Owned())) == {}


def test_table_that_lacks_a_rule_is_drift_and_its_lines_may_be_broken_anywhere() -> None:
    look, overlay = hardened("harden: {connections_per_address: 200}").overlaid()
    apply(Book(look))
    _, table = connections.rules(look, "")
    overlay.make_true(QuerySays(connections.LOADED, table.replace("\t", " ").replace("reject", "\n\treject")))
    assert found(look)["harden.connections"].level is Level.OK
    for loaded in ("", table.replace("over 200", "over 2000"), table.replace("{ 80, 443 }", "443")):
        overlay.make_true(QuerySays(connections.LOADED, loaded))
        assert found(look)["harden.connections"].level is Level.DRIFT
    overlay.make_true(UnitIs(CONNECTIONS_SERVICE, active=False))
    assert found(look)["harden.connections"].level is Level.DRIFT, "nobody would load it at boot"


def test_link_or_nonsense_in_place_of_our_files_is_drift() -> None:
    for state in (FileState("link", b"/etc/passwd"), FileState("file", b"\xff\x00[sshd]\n"), FileState("directory")):
        server = with_files(hardened(), {bans.JAIL: state, CONNECTIONS_RULES: state})
        drift = found(server.look())
        assert (drift["harden.bans"].level, drift["harden.connections"].level) == (Level.DRIFT, Level.DRIFT)


def test_own_table_is_not_named_as_another_firewall() -> None:
    server = with_command(exposed(), TABLES[0], "table inet vllm-https\ntable inet f2b-table\n")
    assert "nftables" not in findings(server)


# ── what is answered, and what fail2ban says ──


@pytest.mark.parametrize("harden_answers", ["ban_wrong_keys: true", "recommended: true"])
def test_bans_need_the_access_log(harden_answers: str) -> None:
    text = f"version: 1\ntls: {{mode: internal}}\nproxy: {{access_log: false}}\nharden: {{{harden_answers}}}\n"
    with pytest.raises(AnswersError) as error:
        load(text.encode())
    assert [one.key for one in error.value.errors] == ["harden.ban_wrong_keys"]
    load(text.replace("harden: {", "harden: {ban_wrong_keys: false, ").replace("ban_wrong_keys: true", "").encode())


def test_recorded_status_is_read() -> None:
    banned = (RECORDED / "fail2ban/banned.txt").read_text()
    assert parse_banned(banned) == ("10.91.0.66", "fd91::66")
    assert parse_logs(banned) == ("/var/log/caddy/vllm-https.log",)
    missing = (RECORDED / "fail2ban/log-missing.txt").read_text()
    assert (parse_banned(missing), parse_logs(missing)) == ((), (bans.FILTER,))
    assert parse_banned("Sorry but the jail does not exist") == parse_banned("Banned IP list: no one") == ()
