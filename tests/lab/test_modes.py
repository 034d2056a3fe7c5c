"""TLS modes acme and custom on booted servers: what succeeds, what is refused before anything changes, and changes of
mode: a reload, never a restart, and nothing left over."""

import json
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.lab import Acme, Lab, Server, ServerSpec
from tests.lab.operator import Document, Operator
from tests.lab.space import Deadline

pytestmark = pytest.mark.lab

DOMAIN = "llm.example.test"
CA_FILE = "/etc/ssl/lab-acme.pem"
CHAIN, KEY = "/etc/ssl/llm/chain.pem", "/etc/ssl/llm/key.pem"
COPIES = ("/etc/caddy/vllm-https/certificate.pem", "/etc/caddy/vllm-https/key.pem")


@dataclass
class Site:
    """A host, its operator, and the authority that is to issue for it."""

    lab: Lab
    acme: Acme
    operator: Operator

    @property
    def server(self) -> Server:
        return self.operator.server

    def answer_acme(self) -> None:
        self.server.put(CA_FILE, self.acme.ca_file)
        self.operator.answer(
            tls={
                "mode": "acme",
                "domain": DOMAIN,
                "email": "ops@example.test",
                "acme_directory": self.acme.directory,
                "acme_ca_file": CA_FILE,
                "public_addresses": [self.server.address],
            }
        )

    def answer_custom(self, chain: bytes, key: bytes) -> None:
        self.server.run(["mkdir", "-p", "/etc/ssl/llm"])
        self.server.put(CHAIN, chain)
        self.server.put(KEY, key, 0o600)
        self.operator.answer(tls={"mode": "custom", "domain": DOMAIN, "certificate": CHAIN, "private_key": KEY})

    def name(self, *records: str) -> None:
        self.lab.gate.names.set(DOMAIN, *(records or (f"A {self.server.address}",)))

    def curl(self, url: str, *words: str) -> str:
        """The status that a client elsewhere gets, whatever the certificate's root."""
        argv = ["curl", "-sk", "-o", "/dev/null", "-m", "10", "-w", "%{http_code} %{redirect_url}", *words, url]
        to = ["--connect-to", f"{DOMAIN}::{self.server.address}:"]
        return self.lab.outside.run([*argv, *to], check=False).stdout.strip()


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


def finding(document: Document, level: str) -> list[str]:
    return [one["key"] for step in document["steps"] for one in step["findings"] if one["level"] == level]


def rows(document: Document) -> dict[str, bool | None]:
    return {row["id"]: row["ok"] for row in document["tests"]}


def processes(server: Server) -> str:
    return server.run(["systemctl", "show", "caddy.service", "vllm.service", "-p", "MainPID"]).stdout


def test_acme_issues_through_the_servers_own_firewall(site: Site) -> None:
    site.answer_acme()
    document = site.operator.apply()
    assert document["exit_code"] == 0, document
    assert document["endpoint"]["base_url"] == f"https://{DOMAIN}/v1"
    assert rows(document)["http.redirect"] is True
    assert rows(document)["tls.trusted"] is None, "the root of a private CA can't be known"
    pem = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(site.acme.issuing_root.decode()))
    root = site.lab.outside.key.with_name("issuing-root.pem")
    root.write_text(pem)
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(root)]
    to = ["--connect-to", f"{DOMAIN}::{site.server.address}:", f"https://{DOMAIN}/v1/models"]
    assert site.lab.outside.run([*argv, *to]).stdout == "401", "a client that trusts the CA gets in, and needs the key"
    orders = site.acme.orders
    again = site.operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
    assert site.acme.orders == orders, "a rerun costs the CA nothing"


def test_key_over_http_is_refused_and_not_led_on(site: Site) -> None:
    site.answer_acme()
    assert site.operator.apply()["exit_code"] == 0
    assert site.curl(f"http://{DOMAIN}/v1/models").startswith("308 https://")
    assert site.curl(f"http://{DOMAIN}/v1/models", "-H", "Authorization: Bearer x").startswith("403")
    assert site.curl(f"http://{DOMAIN}/v1/models", "-H", "X-Api-Key: x").startswith("403")


BLOCKED = {
    "wrong-address": (("A 10.91.7.7",), "tls.dns_address"),
    "no-such-name": ((), "tls.dns_address"),
    "stray-aaaa": (("A {own}", "AAAA fd91::7:7"), "tls.dns_ipv6"),
    "caa-forbids": (("A {own}", 'CAA 0 issue ";"'), "tls.dns_caa"),
    "cname-loop": ((f"CNAME {DOMAIN}.",), "tls.dns_cname"),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_dns_that_is_wrong_blocks_before_anything_changes(case: str, untouched: Site) -> None:
    records, key = BLOCKED[case]
    untouched.lab.gate.names.set(DOMAIN, *(one.format(own=untouched.server.address) for one in records))
    untouched.answer_acme()
    before, orders = untouched.server.snapshot(), untouched.acme.orders
    document = untouched.operator.apply()
    assert document["exit_code"] == 3, document
    assert key in finding(document, "blocked"), document
    assert untouched.acme.orders == orders
    assert not [
        line for line in before.differences(untouched.server.snapshot()) if "vllm-https" in line or "caddy" in line
    ]


def test_ca_that_is_down_blocks_before_anything_changes(untouched: Site) -> None:
    untouched.name()
    untouched.answer_acme()
    untouched.acme.stop()
    try:
        document = untouched.operator.apply()
    finally:
        untouched.acme.start()
    assert document["exit_code"] == 3
    assert "tls.acme_directory" in finding(document, "blocked")


def test_rate_limit_is_told_and_costs_no_further_attempts(site: Site) -> None:
    site.answer_acme()
    site.acme.reject("rateLimited")
    document = site.operator.apply()
    assert document["exit_code"] == 1
    said = json.dumps(document)
    assert "the CA's limit is reached" in said and "too many certificates" in said
    assert "the API is local only now" in document["warnings"][0]
    orders = site.acme.orders
    site.server.run(["systemctl", "reload", "caddy.service"])
    assert site.acme.orders == orders, "Caddy is left with a configuration that asks no CA"
    site.acme.accept()
    assert site.operator.apply()["exit_code"] == 0, "the next run completes it"


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
    assert "could not connect to this server" in json.dumps(document)


def test_custom_certificate_is_copied_for_caddy_alone_and_served(site: Site) -> None:
    leaf = site.lab.certificates.issue(DOMAIN)
    site.server.put("/usr/local/share/ca-certificates/company.crt", site.lab.certificates.root)
    site.server.run(["update-ca-certificates"])
    site.answer_custom(leaf.chain, leaf.key)
    document = site.operator.apply()
    assert document["exit_code"] == 0, document
    assert rows(document)["tls.trusted"] is True
    modes = site.server.run(["stat", "-c", "%a %U:%G", *COPIES]).stdout.split("\n")
    assert modes[:2] == ["644 root:root", "640 root:caddy"]
    assert b"PRIVATE KEY" not in json.dumps(document).encode()
    again = site.operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)


def test_replaced_certificate_is_loaded_by_itself(site: Site) -> None:
    first, second = (site.lab.certificates.issue(DOMAIN) for _ in range(2))
    site.server.put("/usr/local/share/ca-certificates/company.crt", site.lab.certificates.root)
    site.server.run(["update-ca-certificates"])
    site.answer_custom(first.chain, first.key)
    assert site.operator.apply()["exit_code"] == 0
    pids = processes(site.server)
    served = serial(site)
    site.server.put(KEY, second.key, 0o600)
    site.server.put(CHAIN, second.chain)
    deadline = Deadline("the new certificate", 40)
    while serial(site) == served:
        deadline.tick(0.5)
    assert processes(site.server) == pids, "a reload, not a restart"


def serial(site: Site) -> str:
    """The serial number of the certificate that the server shows."""
    argv = ["openssl", "s_client", "-connect", f"{site.server.address}:443", "-servername", DOMAIN]
    shown = site.server.run(argv, check=False, stdin=b"").stdout
    certificate = re.search(r"-----BEGIN.*?END CERTIFICATE-----", shown, re.S)
    assert certificate is not None, shown
    return site.server.run(["openssl", "x509", "-noout", "-serial"], stdin=certificate.group().encode()).stdout


def test_certificate_for_another_name_blocks_before_anything_changes(untouched: Site) -> None:
    leaf = untouched.lab.certificates.issue("another.example.test")
    untouched.answer_custom(leaf.chain, leaf.key)
    document = untouched.operator.apply()
    assert document["exit_code"] == 3
    assert "tls.certificate_refused" in finding(document, "blocked")
    assert untouched.server.run(["test", "-e", "/etc/vllm-https-setup"], check=False).code == 1, "nothing was changed"


def test_modes_change_by_a_reload_and_leave_nothing_over(site: Site) -> None:
    server, operator = site.server, site.operator
    assert operator.apply()["exit_code"] == 0
    pids, root = processes(server), server.get("/etc/vllm-https-setup/root.crt")

    site.answer_acme()
    document = operator.apply()
    assert document["exit_code"] == 0, document
    assert server.run(["test", "-e", "/etc/vllm-https-setup/root.crt"], check=False).code == 1
    assert "80/tcp" in server.run(["ufw", "status"]).stdout

    leaf = site.lab.certificates.issue(DOMAIN)
    server.put("/usr/local/share/ca-certificates/company.crt", site.lab.certificates.root)
    server.run(["update-ca-certificates"])
    site.answer_custom(leaf.chain, leaf.key)
    document = operator.apply()
    assert document["exit_code"] == 0, document
    assert server.run(["systemctl", "is-active", "vllm-https-setup-certificate.path"]).stdout == "active\n"

    operator.answer(tls={"mode": "internal"})
    document = operator.apply()
    assert document["exit_code"] == 0, document
    left = server.run(["sh", "-c", "ls /etc/caddy /etc/systemd/system /etc/systemd/system/*.wants"]).stdout
    assert "vllm-https" not in left
    assert "80/tcp" not in server.run(["ufw", "status"]).stdout
    assert server.get("/etc/vllm-https-setup/root.crt") == root, "clients that trust the root go on trusting it"
    assert processes(server) == pids, "Caddy and vLLM were never restarted"
    assert operator.apply()["changed"] is False
