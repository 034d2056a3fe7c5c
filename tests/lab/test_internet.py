"""The lab's internet is a real one: names, an authority that validates, a cloud, ports blocked on the way."""

import sys
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

import pytest

from tests.lab import Acme, Lab, Server, ServerSpec
from tests.lab.certificates import BAD, GOOD, Authority
from tests.lab.space import Deadline
from tests.lab.way import Block

pytestmark = pytest.mark.lab

WEB = ("allow 22/tcp", "allow 80/tcp", "allow 443/tcp")
CADDY = """\
set -e
keyring=/usr/share/keyrings/caddy-stable-archive-keyring.gpg
curl -1sLf https://dl.cloudsmith.io/public/caddy/stable/gpg.key | gpg --dearmor -o $keyring
curl -1sLf https://dl.cloudsmith.io/public/caddy/stable/debian.deb.txt >/etc/apt/sources.list.d/caddy-stable.list
apt-get update -qq
apt-get install -y -qq caddy
"""
SITE = """\
{name} {{
	tls {{
		issuer acme {{
			dir {directory}
			{more}
		}}
	}}
	respond "served"
}}
"""
HTTP, ALPN = "disable_tlsalpn_challenge", "disable_http_challenge"
Ask = Callable[..., str]


@pytest.fixture(scope="module")
def web(lab: Lab) -> Iterator[Server]:
    """A host with the repository's Caddy behind its firewall."""
    server = lab.boot(ServerSpec(ufw_rules=WEB, ufw_enabled=True, guide_packages=True))
    server.run(["sh", "-c", CADDY], timeout=120)
    yield server
    server.discard()


@pytest.fixture
def ask(lab: Lab) -> Ask:
    """Asks a name server of the gate; the answer's code and records, or "nothing"."""
    program = """
import sys, dns.flags, dns.message, dns.query, dns.rcode
query = dns.message.make_query(sys.argv[2], sys.argv[3])
try:
    answer = dns.query.udp(query, sys.argv[1], timeout=float(sys.argv[4]))
    rows = [" ".join(line.split()[3:]) for one in answer.answer for line in one.to_text().splitlines()]
    print(dns.rcode.to_text(answer.rcode()), *["AA"] * bool(answer.flags & dns.flags.AA), *rows, sep="; ")
except dns.query.dns.exception.Timeout:
    print("nothing")
"""

    def one(name: str, kind: str = "A", *, at: str = "10.91.0.1", timeout: float = 10) -> str:
        return lab.outside.run([sys.executable, "-I", "-c", program, at, name, kind, str(timeout)]).stdout.strip()

    return one


def issue(server: Server, name: str, directory: str, more: str) -> str:
    """Let Caddy get a certificate; its own words at the end: success, or the error."""
    server.put("/etc/caddy/Caddyfile", SITE.format(name=name, directory=directory, more=more).encode())
    server.run(["systemctl", "reload", "caddy"])
    until = Deadline(f"Caddy's certificate for {name}", 120)
    journal = ["journalctl", "-u", "caddy", "-o", "cat", "--no-pager"]
    while True:
        for line in server.run(journal).stdout.splitlines():
            if name in line and ("certificate obtained" in line or "could not get certificate" in line):
                return line
        until.tick(0.1)


def fetch(lab: Lab, server: Server, name: str, root: bytes, address: str = "") -> str:
    """What a client gets that trusts this root alone."""
    place = lab.outside.key.with_name("issued.pem")
    place.write_bytes(root)
    to = f"::{address or server.address}:"
    return lab.outside.run(["curl", "-sS", "--cacert", str(place), "--connect-to", to, f"https://{name}/"]).stdout


@pytest.mark.parametrize("challenge", [HTTP, ALPN])
def test_the_authority_validates_through_the_hosts_firewall_and_issues(
    lab: Lab, web: Server, acme: Acme, challenge: str
) -> None:
    name = f"{challenge.replace('_', '-')}.example.com"
    lab.gate.name(name, web.address)
    before, begun = acme.orders, time.monotonic()
    assert "certificate obtained" in issue(web, name, acme.directory, challenge)
    print(f"issued in {time.monotonic() - begun:.1f} s")
    assert acme.orders == before + 1
    assert fetch(lab, web, name, acme.issuing_root) == "served"


@pytest.mark.suites("trixie")
def test_the_authority_of_the_other_base_issues_too(lab: Lab, web: Server, acme: Acme) -> None:
    lab.gate.name("trixie.example.com", web.address, web.address6)
    assert "certificate obtained" in issue(web, "trixie.example.com", acme.directory, HTTP)
    assert fetch(lab, web, "trixie.example.com", acme.issuing_root) == "served"


def test_closed_port_in_the_hosts_own_firewall_stops_issuance(lab: Lab, web: Server, acme: Acme) -> None:
    lab.gate.name("shut.example.com", web.address)
    web.run(["ufw", "delete", "allow", "80/tcp"])
    try:
        assert "acme:error:connection" in issue(web, "shut.example.com", acme.directory, HTTP)
    finally:
        web.run(["ufw", "allow", "80/tcp"])


# Pebble's words; Let's Encrypt calls both "connection".
@pytest.mark.parametrize(
    ("port", "challenge", "how", "words"),
    [
        (80, HTTP, "silent", "acme:error:connection"),
        (80, HTTP, "refused", "connection refused"),
        (443, ALPN, "refused", "Failed to connect to {address}:443 for the tls-alpn-01"),
    ],
)
def test_port_blocked_on_the_way_stops_issuance(
    lab: Lab, web: Server, acme: Acme, port: int, challenge: str, how: Block, words: str
) -> None:
    name = f"blocked{port}-{how}.example.com"
    lab.gate.name(name, web.address)
    lab.gate.block(web, port, how)
    try:
        seen = [lab.outside.tcp(address, port, 0.5) for address in (web.address, web.address6)]
        assert seen == ["filtered", "filtered"]
        assert words.format(address=web.address) in issue(web, name, acme.directory, challenge)
    finally:
        lab.gate.unblock(web, port)
    assert lab.outside.tcp(web.address, port, 10) == "open"


# Another's address; an IPv6 address that nobody has; a CNAME that leads nowhere; no such name. Pebble's words.
@pytest.mark.parametrize(
    ("records", "words"),
    [
        (("A 10.91.0.9",), "connection refused"),
        (("A {own}", "AAAA fd91::1:ffff"), "no route to host"),
        (("CNAME away.example.net.",), "could not resolve URL"),
        ((), "could not resolve URL"),
    ],
)
def test_wrong_names_stop_issuance(lab: Lab, web: Server, acme: Acme, records: tuple[str, ...], words: str) -> None:
    name = f"wrong{len(' '.join(records))}.example.com"
    lab.gate.names.set(name, *(one.format(own=web.address) for one in records))
    assert words in issue(web, name, acme.directory, HTTP)


def test_authority_refuses_is_down_and_comes_back(lab: Lab, web: Server, acme: Acme) -> None:
    for name in ("limited.example.com", "down.example.com", "back.example.com"):
        lab.gate.name(name, web.address)
    acme.reject()
    assert "HTTP 429 urn:ietf:params:acme:error:rateLimited" in issue(web, "limited.example.com", acme.directory, HTTP)
    until = Deadline("the refusal in the log, which is written after the answer", 20)
    while "POST newOrder 429" not in acme.requests():
        until.tick()
    acme.accept()
    acme.stop()
    assert "connection refused" in issue(web, "down.example.com", acme.directory, HTTP)
    acme.start()
    assert "certificate obtained" in issue(web, "back.example.com", acme.directory, HTTP)
    assert fetch(lab, web, "back.example.com", acme.issuing_root) == "served"


def test_directory_of_a_private_authority_needs_its_ca_file(lab: Lab, web: Server, acme: Acme) -> None:
    lab.gate.name("private.example.com", web.address)
    lab.gate.name("private2.example.com", web.address)
    acme.trust(False)
    assert "certificate signed by unknown authority" in issue(web, "private.example.com", acme.directory, HTTP)
    web.put("/etc/caddy/acme-ca.pem", acme.ca_file)
    more = f"{HTTP}\n\t\t\ttrusted_roots /etc/caddy/acme-ca.pem"
    assert "certificate obtained" in issue(web, "private2.example.com", acme.directory, more)


def test_the_authoritys_clock_can_differ(web: Server, acme: Acme) -> None:
    acme.clock(ahead=-400 * 24 * 3600)
    told = web.run(["curl", "-sSI", acme.directory]).stdout.lower()
    (date,) = [line.partition(":")[2] for line in told.splitlines() if line.startswith("date:")]
    assert parsedate_to_datetime(date).timestamp() == pytest.approx(time.time() - 400 * 24 * 3600, abs=60)


def test_translated_address_reaches_the_host_for_the_authority_and_others(lab: Lab, web: Server, acme: Acme) -> None:
    lab.translate("203.0.113.7", web)
    lab.gate.name("nat.example.com", "203.0.113.7")
    assert "certificate obtained" in issue(web, "nat.example.com", acme.directory, HTTP)
    assert fetch(lab, web, "nat.example.com", acme.issuing_root, "203.0.113.7") == "served"
    assert lab.outside.tcp("203.0.113.7", 8000, 0.5) == "filtered"
    assert "203.0.113.7" not in web.run(["ip", "addr"]).stdout
    assert web.run(["curl", "-sS", "-m", "1", "http://203.0.113.7/"], check=False).code == 28


METADATA = {
    "aws": (
        "/latest/meta-data/public-ipv4",
        "X-aws-ec2-metadata-token: $(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $token)",
        "401",
    ),
    "gcp": (
        "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
        "Metadata-Flavor: Google",
        "403",
    ),
    "azure": (
        "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01\\&format=text",
        "Metadata: true",
        "400",
    ),
    "hetzner": ("/hetzner/v1/metadata/public-ipv4", "X: y", "200"),
}


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure", "hetzner"])
def test_metadata_answers_as_the_provider_does(lab: Lab, web: Server, acme: Acme, provider: str) -> None:
    lab.metadata(provider, "203.0.113.7")  # type: ignore[arg-type]
    path, header, without = METADATA[provider]
    script = f"""
base=http://169.254.169.254 token=http://169.254.169.254/latest/api/token
curl -s -o /dev/null -w '%{{http_code}} ' $base{path}
curl -sf -H "{header}" $base{path}
"""
    assert web.run(["sh", "-c", script]).stdout.split() == [without, "203.0.113.7"]


def test_metadata_off_fails_at_once_silent_and_hanging_do_not(lab: Lab, web: Server, acme: Acme) -> None:
    curl = ["curl", "-sS", "-m", "0.5", "http://169.254.169.254/"]
    assert web.run(curl, check=False).code == 7
    lab.metadata("silent")
    assert "Connection timed out" in web.run(curl, check=False).stderr
    lab.metadata("hangs")
    assert "Operation timed out" in web.run(curl, check=False).stderr
    lab.metadata(None)
    assert web.run(curl, check=False).code == 7


def test_names_have_zones_records_and_failures(lab: Lab, acme: Acme, ask: Ask) -> None:
    names, authority = lab.gate.names, "10.91.0.2"
    names.set("llm.example.com", "A 10.91.1.2", 'CAA 0 issue "letsencrypt.org"')
    names.set("www.example.com", "CNAME llm.example.com.")
    names.set("far.example.com", "CNAME www.example.net.")
    names.set("www.example.net", "AAAA fd91::77")
    names.set("one.example.com", "CNAME two.example.com.")
    names.set("two.example.com", "CNAME one.example.com.")
    assert ask("llm.example.com") == "NOERROR; A 10.91.1.2"
    assert ask("llm.example.com", at=authority) == "NOERROR; AA; A 10.91.1.2"
    assert ask("llm.example.com", "CAA") == 'NOERROR; CAA 0 issue "letsencrypt.org"'
    assert ask("llm.example.com", "AAAA") == "NOERROR"
    assert ask("www.example.com") == "NOERROR; CNAME llm.example.com.; A 10.91.1.2"
    assert ask("far.example.com", "AAAA") == "NOERROR; CNAME www.example.net.; AAAA fd91::77"
    assert ask("far.example.com", "AAAA", at=authority) == "NOERROR; AA; CNAME www.example.net."
    assert ask("one.example.com") == "SERVFAIL"
    assert ask("one.example.com", "CNAME") == "NOERROR; CNAME two.example.com."
    assert ask("nothing.example.com") == "NXDOMAIN"
    assert ask("example.com", "NS", at=authority) == "NOERROR; AA; NS ns1.dns.lab."
    assert ask("example.com", "SOA").startswith("NOERROR; SOA ns1.dns.lab.")
    assert ask("ns1.dns.lab") == f"NOERROR; A {authority}"
    assert ask("nowhere.test", at=authority) == "REFUSED"


def test_names_can_be_stale_broken_and_silent(lab: Lab, acme: Acme, ask: Ask) -> None:
    names = lab.gate.names
    names.set("llm.example.com", "A 10.91.1.2")
    names.stale("llm.example.com", "A 10.91.1.1")
    assert (ask("llm.example.com"), ask("llm.example.com", at="10.91.0.2")) == (
        "NOERROR; A 10.91.1.1",
        "NOERROR; AA; A 10.91.1.2",
    )
    names.stale("new.example.com")
    names.set("new.example.com", "A 10.91.1.2")
    assert ask("new.example.com") == "NXDOMAIN"
    names.fail("example.com")
    assert ask("llm.example.com") == "SERVFAIL"
    names.fail("example.com", "refused")
    assert ask("llm.example.com") == "REFUSED"
    names.fail("example.com", "silent")
    assert ask("llm.example.com", timeout=0.5) == "nothing"
    names.fail("example.com", None)
    assert ask("llm.example.com") == "NOERROR; A 10.91.1.1"
    names.clear()
    assert ask("llm.example.com") == "NXDOMAIN"
    assert ask("archive.lab") == "NOERROR; A 10.91.0.1"


def test_own_certificates_are_what_they_are_called(lab: Lab, web: Server) -> None:
    """openssl, on the host, agrees with the names of all cases."""
    name = "llm.example.com"
    web.put("/tmp/root.pem", lab.certificates.root)
    script = f"""cd /tmp; openssl x509 -in chain.pem -noout >/dev/null 2>&1 || {{ echo unreadable; exit; }}
[ "$(openssl x509 -in chain.pem -pubkey -noout)" = "$(openssl pkey -in key.pem -pubout -passin pass: 2>/dev/null)" ] ||
    echo key
openssl verify -auth_level 2 -CAfile root.pem -untrusted chain.pem -verify_hostname {name} chain.pem 2>&1 |
    sed -n 's/^error .*: //p; s/.*verification failed.*/failed/p'
"""
    said = {}
    for case, make in (GOOD | BAD).items():
        chain, key = make(lab.certificates, name)
        web.put("/tmp/chain.pem", chain)
        web.put("/tmp/key.pem", key)
        said[case] = web.run(["sh", "-c", script]).stdout.split("\n")[0]
    untrusted = "unable to get local issuer certificate"
    wrong = {
        "expired": "certificate has expired",
        "not_yet_valid": "certificate is not yet valid",
        "no_san": "",  # openssl looks at the common name then; browsers and Go do not
        "other_name": "hostname mismatch",
        "rsa1024": "EE certificate key too weak",
        "no_intermediate": untrusted,
        "foreign_intermediate": untrusted,
        **dict.fromkeys(("wrong_order", "mismatch", "encrypted", "encrypted_traditional"), "key"),
        "der": untrusted,
        **dict.fromkeys(("swapped", "empty", "cut_off"), "unreadable"),
    }
    assert said == dict.fromkeys(GOOD, "") | wrong
    assert set(wrong) == set(BAD)


def test_chain_with_two_intermediates_is_accepted(lab: Lab, web: Server) -> None:
    authority = Authority(intermediates=2)
    leaf = authority.issue("deep.example.com", "10.0.0.7")
    web.put("/etc/caddy/deep.pem", leaf.chain)
    web.put("/etc/caddy/deep.key", leaf.key, 0o640, "root:caddy")
    site = 'deep.example.com {\n\ttls /etc/caddy/deep.pem /etc/caddy/deep.key\n\trespond "served"\n}\n'
    web.put("/etc/caddy/Caddyfile", site.encode())
    web.run(["systemctl", "reload", "caddy"])
    assert fetch(lab, web, "deep.example.com", authority.root) == "served"
