"""A finished, hardened server as a stranger's scanners see it: every port, and all of its TLS."""

import json
from collections.abc import Iterator

import pytest

from tests.lab import Lab, Server, ServerSpec
from tests.lab.operator import Operator, troubles
from tests.lab.site import DOMAIN, Site

pytestmark = [pytest.mark.lab, pytest.mark.suites("trixie")]  # whose testssl.sh gives a grade

ROOT = "/root/ca.pem"
# Of the lab's own CA, whose certificate lives for years and is in no log; and of the scanner's own machine.
NOT_THE_SERVERS = ("cert_", "certificate_transparency", "OCSP", "engine_problem")


@pytest.fixture(scope="module")
def scanner(lab: Lab) -> Iterator[Server]:
    found = lab.boot(ServerSpec(packages=("nmap", "testssl.sh"), ufw_installed=False))
    yield found
    found.discard()


@pytest.fixture(scope="module")
def site(lab: Lab, program: object) -> Iterator[Site]:
    acme = lab.acme()
    server = lab.boot(ServerSpec(guide_packages=True, layers=(program,)))  # type: ignore[arg-type]
    found = Site(lab, acme, Operator(lab, server))
    found.name()
    found.answer_acme()
    answers = json.loads(server.get("/home/operator/answers.yaml"))
    hardened = {key: value for key, value in answers.items() if key != "version"} | {"harden": {"recommended": True}}
    found.operator.answer(**hardened)
    document = found.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    yield found
    server.discard()
    acme.reset()
    lab.gate.names.clear()


def test_scanner_finds_ssh_and_the_web_ports_and_nothing_else(site: Site, scanner: Server) -> None:
    """Of all 65,535 ports: the others do not even say that they are closed."""
    flags = ("-Pn", "-n", "-p-", "--min-rate", "8000", "--max-retries", "1", "-oG", "-")
    for family, address in (("-4", site.server.address), ("-6", site.server.address6)):
        said = scanner.run(["nmap", family, *flags, address], timeout=300).stdout
        (line,) = (line for line in said.splitlines() if "Ports:" in line)
        found = dict(one.strip().split("/")[:2] for one in line.partition("Ports: ")[2].split("Ignored")[0].split(","))
        assert found == {"22": "open", "80": "open", "443": "open"}
        assert "filtered (65532)" in line


def test_tls_is_graded_and_has_no_weakness(site: Site, scanner: Server) -> None:
    scanner.put(ROOT, site.acme.issuing_root)
    argv = ("testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", site.server.address)
    files = ("--add-ca", ROOT, "--jsonfile", "/root/found.json")
    print(scanner.run([*argv, *files, f"https://{DOMAIN}/v1/models"], check=False, timeout=400).stdout)
    found = {one["id"]: one for one in json.loads(scanner.get("/root/found.json"))}
    bad = {
        name: (one["severity"], one["finding"])
        for name, one in found.items()
        if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL") and not name.startswith(NOT_THE_SERVERS)
    }
    print({name: one["finding"] for name, one in found.items() if "grade" in name or name == "overall_score"})
    assert bad == {}
    assert found["overall_grade"]["finding"] in ("A", "A+")
    offered = {
        name
        for name in ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3")
        if "not offered" not in found[name]["finding"]
    }
    assert offered == {"TLS1_2", "TLS1_3"}
