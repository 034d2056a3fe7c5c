"""TLS modes acme and custom on booted servers: what succeeds, what is refused before anything changes, and changes of
mode: a reload, never a restart, and nothing left over."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Acme, Lab, Server, ServerSpec
from tests.lab.acme import KEY_ID, MAC_KEY
from tests.lab.certificates import BAD
from tests.lab.operator import Operator, changes_of, findings, in_words, rows, troubles
from tests.lab.site import DOMAIN, Site, proof
from tests.lab.space import Deadline
from tests.lab.unchanged import assert_blocked
from wizard.acme import STAGES
from wizard.caddyfile import ACCOUNT_KEY

pytestmark = pytest.mark.lab

REFRESH = "vllm-https-setup-certificate.service"
COPIES = ("/etc/caddy/vllm-https/certificate.pem", "/etc/caddy/vllm-https/key.pem")


@pytest.fixture
def site(lab: Lab, acme: Acme, attend: Callable[[ServerSpec], Operator]) -> Iterator[Site]:
    found = Site(lab, acme, attend(ServerSpec(guide_packages=True)))
    found.name()
    yield found


@pytest.fixture(scope="module")
def untouched(lab: Lab, program: object) -> Iterator[Site]:
    """A host on which nothing is ever allowed to change: each test here ends with exit 3."""
    server = lab.boot(ServerSpec(layers=(program,)))  # type: ignore[arg-type]
    yield Site(lab, lab.acme(), Operator(lab, server))
    server.discard()


def processes(server: Server) -> str:
    return server.run(["systemctl", "show", "caddy.service", "vllm.service", "-p", "MainPID"]).stdout


def test_acme_issues_through_the_servers_own_firewall(site: Site) -> None:
    site.answer_acme()
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert document["endpoint"]["base_url"] == f"https://{DOMAIN}/v1"
    assert rows(document)["http.redirect"] is True
    assert rows(document)["tls.trusted"] is None, "the root of a private CA can't be known"
    assert site.seen_from_outside("acme") == proof("acme")
    assert site.curl(f"http://{DOMAIN}/v1/models", "-H", "X-Api-Key: x") == "403"
    in_clear = ["curl", "-s", "-H", "Authorization: Bearer x", "-H", f"Host: {DOMAIN}"]
    said = json.loads(site.lab.outside.run([*in_clear, f"http://{site.server.address}/v1/chat/completions"]).stdout)
    assert said["error"]["message"].startswith("Your API key has just crossed the network in clear.")
    told = {event.get("text") for event in site.operator.events()}
    assert told & set(STAGES.values()), "while it is waited for, Caddy's own words are told in plain ones"
    orders = site.acme.orders
    again = site.operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
    assert site.acme.orders == orders, "a rerun costs the CA nothing"


def test_staging_certificate_is_said_to_be_one_and_gives_way_to_a_real_one(site: Site) -> None:
    """As with a public CA: no root of its own is named, and its real certificates are in the system's store."""
    site.trust(site.acme.issuing_root)
    site.answer_acme(acme_directory=site.acme.staging_directory, acme_ca_file=None)
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert "staging directory: clients will not trust" in findings(document, "warn")["tls.staging"]
    (trusted,) = (row for row in document["tests"] if row["id"] == "tls.trusted")
    assert trusted["ok"] is None
    assert "staging" in trusted["detail"]
    assert {name for name, ok in rows(document).items() if ok is not True} == {"tls.trusted"}
    pids = processes(site.server)
    site.answer_acme(acme_ca_file=None)
    site.acme.reject("rateLimited")
    assert site.operator.apply()["exit_code"] == 1
    assert site.curl(f"https://{DOMAIN}/v1/models", "-k") == "401", "where the CA refuses, the old one is served on"
    site.acme.accept()
    planned = site.operator.plan()
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert in_words(changes_of(planned)) == in_words(changes_of(document))
    assert findings(document, "warn") == {}
    assert set(rows(document).values()) == {True}
    assert processes(site.server) == pids, "Caddy was never restarted"


def test_server_behind_nat_finds_its_address_and_gets_a_certificate(site: Site) -> None:
    """The public address is on no interface, and the server itself can't reach it: the cloud knows it."""
    public = "203.0.113.21"
    site.lab.translate(public, site.server)
    site.lab.metadata("aws", public)
    site.trust(site.acme.issuing_root)
    site.name(f"A {public}")
    site.answer_acme(public_addresses=None, acme_ca_file=None)
    assert site.server.run(["curl", "-s", "-m", "1", f"http://{public}/"], check=False).code == 28, "no hairpin"
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    (address,) = (one for step in document["steps"] for one in step["findings"] if one["key"] == "tls.dns_address")
    assert (address["level"], address["evidence"]["wanted"]) == ("ok", [public])
    assert address["evidence"]["wanted_from"] == "the metadata of AWS"
    assert set(rows(document).values()) == {True}
    assert site.seen_from_outside("acme", public) == proof("acme")


# What DNS says; the finding; and what its text must have: which record says what, and what it should say.
BLOCKED: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "wrong-address": (("A 10.91.7.7",), "tls.dns_address", ("leads to 10.91.7.7", f"{DOMAIN}. A {{own}}")),
    "no-such-name": ((), "tls.dns_address", (f"does not know {DOMAIN}", f"{DOMAIN}. A {{own}}")),
    "stray-aaaa": (
        ("A {own}", "AAAA fd91::7:7"),
        "tls.dns_ipv6",
        ("elsewhere (fd91::7:7)", f"{DOMAIN}. AAAA {{own6}}"),
    ),
    "caa-forbids": (("A {own}", 'CAA 0 issue ";"'), "tls.dns_caa", ("allow no CA at all", f"{DOMAIN}. CAA 0 issue")),
    "cname-loop": ((f"CNAME {DOMAIN}.",), "tls.dns_cname", ("circle", "by an A record")),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_dns_that_is_wrong_blocks_before_anything_changes(case: str, untouched: Site) -> None:
    records, key, words = BLOCKED[case]
    server, orders = untouched.server, untouched.acme.orders
    own = {"own": server.address, "own6": server.address6}
    untouched.lab.gate.names.set(DOMAIN, *(one.format(**own) for one in records))
    untouched.answer_acme()
    assert_blocked(untouched.operator, key, tuple(word.format(**own) for word in words))
    assert untouched.acme.orders == orders


def test_ca_that_is_down_blocks_before_anything_changes(untouched: Site) -> None:
    untouched.name()
    untouched.answer_acme()
    untouched.acme.stop()
    try:
        assert_blocked(untouched.operator, "tls.acme_directory", (untouched.acme.directory, "curl -v"))
    finally:
        untouched.acme.start()


def test_clock_that_differs_from_the_cas_blocks_before_anything_changes(untouched: Site) -> None:
    untouched.name()
    untouched.answer_acme()
    untouched.acme.clock(ahead=-3 * 3600)
    try:
        assert_blocked(untouched.operator, "tls.clock", ("180 minutes ahead of the CA's", "timedatectl set-ntp true"))
    finally:
        untouched.acme.clock()


@pytest.fixture
def no_dns(lab: Lab) -> Iterator[None]:
    """No name is answered any more, whoever asks for it."""
    lab.gate.names.fail(".", "silent")
    yield
    lab.gate.names.fail(".", None)


def test_first_run_without_any_dns_blocks_before_anything_changes(untouched: Site, no_dns: None) -> None:
    untouched.answer_acme()
    assert_blocked(untouched.operator, "caddy.keyring", ("name resolution", "does this server reach the internet?"))


def test_change_of_mode_without_any_dns_blocks_before_anything_changes(
    lab: Lab, acme: Acme, secured: Operator, no_dns: None
) -> None:
    """Where Caddy is there already, it is the domain's own look-up that ends it; and clients notice nothing."""
    site = Site(lab, acme, secured)
    site.answer_acme()
    words = (f"no resolver of this server answers the question for {DOMAIN}", "/etc/resolv.conf")
    assert_blocked(secured, "tls.dns_unreachable", words, too=("tls.acme_directory",))
    assert site.seen_from_outside("internal") == proof("internal")


def test_rate_limit_is_told_and_costs_no_further_attempts(site: Site) -> None:
    site.answer_acme()
    site.acme.reject("rateLimited")
    before = site.acme.orders
    document = site.operator.apply()
    assert document["exit_code"] == 1
    said = json.dumps(document)
    assert "the CA's limit is reached: 5 certificates for just this name were issued in the last 7 days" in said
    assert "try again after 2026-12-24 09:13 UTC" in said
    assert "the API is local only now" in document["warnings"][0]
    orders = site.acme.orders
    assert orders == before + 1, "one attempt, and no second"
    site.server.run(["systemctl", "reload", "caddy.service"])
    running = site.server.run(["curl", "-sS", "http://localhost:2019/config/"]).stdout
    assert DOMAIN not in running, "Caddy is left with a configuration that asks no CA"
    assert site.acme.orders == orders
    site.acme.accept()
    assert site.operator.apply()["exit_code"] == 0, "the next run completes it"


def test_account_made_beforehand_is_used_and_its_key_is_shown_nowhere(site: Site) -> None:
    server, operator = site.server, site.operator
    site.acme.bind()
    site.answer_acme()
    planned = operator.plan()
    assert (planned["exit_code"], list(findings(planned, "blocked"))) == (3, ["tls.eab"])
    server.put("/root/eab", f"{KEY_ID}\n{MAC_KEY[::-1]}\n".encode(), 0o600)
    site.answer_acme(eab_file="/root/eab")
    document = operator.apply()
    assert document["exit_code"] == 1
    assert "the CA refuses the account" in json.dumps(document), troubles(document)
    server.put("/root/eab", f"{KEY_ID}\n{MAC_KEY}\n".encode(), 0o600)
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert site.seen_from_outside("acme") == proof("acme")
    assert server.run(["stat", "-c", "%a %U:%G", ACCOUNT_KEY]).stdout == "640 root:caddy\n"
    running = server.run(["curl", "-sS", "http://localhost:2019/config/"]).stdout
    assert ACCOUNT_KEY in running, "Caddy has the file's name, and tells that"
    kept = server.run(["sh", "-c", "cat /var/log/vllm-https-setup/* /etc/caddy/Caddyfile; journalctl -u caddy"]).stdout
    logged = server.run(["find", "/var/lib/vllm-https-setup", "-name", "*.json*", "-exec", "cat", "{}", "+"]).stdout
    for text in (json.dumps(document), running, kept, logged):
        assert MAC_KEY not in text and MAC_KEY[::-1] not in text
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
    operator.answer(tls={"mode": "internal"})
    assert operator.apply()["exit_code"] == 0
    assert server.run(["test", "-e", "/etc/caddy/vllm-https"], check=False).code == 1


def test_ports_closed_on_the_way_are_named(site: Site) -> None:
    site.answer_acme()
    for port in (80, 443):
        site.lab.gate.way.block(site.server, port, "refused")
    try:
        document = site.operator.apply()
    finally:
        for port in (80, 443):
            site.lab.gate.way.unblock(site.server, port)
    assert document["exit_code"] == 1
    assert "could not connect to this server" in json.dumps(document), troubles(document)


def test_custom_certificate_is_copied_for_caddy_alone_and_served(site: Site) -> None:
    site.answer_mode("custom")
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}
    assert site.seen_from_outside("custom") == proof("custom")
    modes = site.server.run(["stat", "-c", "%a %U:%G", *COPIES]).stdout.split("\n")
    assert modes[:2] == ["644 root:root", "640 root:caddy"]
    assert b"PRIVATE KEY" not in json.dumps(document).encode()
    again = site.operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)


LIVE, ARCHIVE = (f"/etc/letsencrypt/{which}/{DOMAIN}" for which in ("live", "archive"))


def renew(site: Site, number: int, chain: bytes, key: bytes) -> None:
    """As certbot does: new files in its archive, and links that move on to them, the key's first."""
    for name, content in (("privkey", key), ("fullchain", chain)):
        site.server.put(f"{ARCHIVE}/{name}{number}.pem", content, 0o600)
        site.server.run(["mkdir", "-p", LIVE])
        site.server.run(["ln", "-sfn", f"../../archive/{DOMAIN}/{name}{number}.pem", f"{LIVE}/{name}.pem"])


def test_renewed_certificate_is_checked_and_loaded_by_itself(site: Site) -> None:
    authority = site.lab.certificates
    one, two, three = (authority.issue(DOMAIN) for _ in range(3))
    site.trust(authority.root)
    renew(site, 1, one.chain, one.key)
    paths = {"certificate": f"{LIVE}/fullchain.pem", "private_key": f"{LIVE}/privkey.pem"}
    site.operator.answer(tls={"mode": "custom", "domain": DOMAIN, **paths})
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    pids = processes(site.server)
    assert site.serial() == one.certificate.serial_number
    renew(site, 2, two.chain, two.key)
    site.wait_until_served(two)
    # As acme.sh does: the same files, written over. (The unit watches again once its service has ended.)
    until = Deadline("the end of the refresh", 40)
    while site.server.run(["systemctl", "is-active", REFRESH], check=False).stdout != "inactive\n":
        until.tick(0.3)
    for name, content in (("fullchain", three.chain), ("privkey", three.key)):
        site.server.run(["sh", "-c", f"cat >{LIVE}/{name}.pem"], stdin=content)
    site.wait_until_served(three)
    # A renewal that went wrong is not loaded, and is seen.
    renew(site, 4, *BAD["mismatch"](authority, DOMAIN))
    until = Deadline("the refusal", 40)
    while site.server.run(["systemctl", "is-failed", REFRESH], check=False).stdout != "failed\n":
        until.tick(0.3)
    assert site.serial() == three.certificate.serial_number
    assert site.curl(f"https://{DOMAIN}/v1/models", "-k") == "401"
    status = site.operator.ask("status")
    assert (status["exit_code"], list(findings(status, "blocked"))) == (1, ["tls.certificate_refused"])
    assert processes(site.server) == pids, "reloads, never a restart"


# What the contract refuses, and the key's size; and what its text must have.
REFUSED = {
    "der": ("PEM",),
    "expired": ("expired",),
    "not_yet_valid": ("good from",),
    "mismatch": ("key",),
    "other_name": (DOMAIN,),
    "wrong_order": ("first",),
    "encrypted": ("encrypted",),
    "rsa1024": ("1024",),
}


@pytest.mark.parametrize("case", REFUSED)
def test_certificate_that_cannot_be_served_blocks_before_anything_changes(case: str, untouched: Site) -> None:
    untouched.answer_custom(*BAD[case](untouched.lab.certificates, DOMAIN))
    assert_blocked(untouched.operator, "tls.certificate_refused", REFUSED[case])


def test_modes_change_by_a_reload_and_leave_nothing_over(site: Site) -> None:
    server, operator = site.server, site.operator
    addition = b'handle /hello {\n\trespond "hello"\n}\n'
    server.run(["mkdir", "-p", "/etc/caddy/vllm-https.d"])
    server.put("/etc/caddy/vllm-https.d/hello.caddy", addition)
    assert operator.apply()["exit_code"] == 0
    pids, root = processes(server), server.get("/etc/vllm-https-setup/root.crt")

    site.answer_acme()
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert server.run(["test", "-e", "/etc/vllm-https-setup/root.crt"], check=False).code == 1
    assert "80/tcp" in server.run(["ufw", "status"]).stdout

    site.answer_mode("custom")
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert server.run(["systemctl", "is-active", "vllm-https-setup-certificate.path"]).stdout == "active\n"

    operator.answer(tls={"mode": "internal"})
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    left = server.run(["sh", "-c", "ls /etc/caddy /etc/systemd/system /etc/systemd/system/*.wants"]).stdout
    assert "vllm-https" not in left.replace("vllm-https.d", "")
    assert server.get("/etc/caddy/vllm-https.d/hello.caddy") == addition
    assert site.curl(f"https://{server.address}/hello", "-k") == "200", "the operator's own addition goes on"
    assert "80/tcp" not in server.run(["ufw", "status"]).stdout
    assert server.get("/etc/vllm-https-setup/root.crt") == root, "clients that trust the root go on trusting it"
    assert processes(server) == pids, "Caddy and vLLM were never restarted"
    assert operator.apply()["changed"] is False
