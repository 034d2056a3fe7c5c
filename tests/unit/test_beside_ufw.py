"""What is beside ufw and decides before it, or without it: nftables' own tables, and ports that containers publish."""

from __future__ import annotations

import pytest

from tests.servers.scenario import Scenario
from tests.unit.altered import edited_command, exposed, findings, with_command, with_listeners, with_new_command
from wizard.model import Finding, Level
from wizard.server import Listener
from wizard.steps import firewall

NAT = ("iptables-save", "-t", "nat")
HOOK = "type filter hook input priority filter; policy {};"


def test_recorded_table_of_nftables_is_named() -> None:
    found = findings(exposed("nftables-own-table"))["nftables"]
    assert found.evidence["table"] == "inet filter" and "tcp dport 25" in found.evidence["rules"][0]


def own_table(chain: str) -> Finding | None:
    server = with_command(exposed(), "nft", "table ip filter\ntable inet own\ntable inet f2b-table\n")
    table = f"table inet own {{\n\tchain c {{\n\t\t{chain}\n\t}}\n}}\n"
    return findings(with_new_command(server, ("nft", "list", "table", "inet", "own"), table)).get("nftables")


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (f"{HOOK.format('drop')}\n\t\ttcp dport @web accept", "drops what no rule"),
        (HOOK.format("accept"), None),
        ("type filter hook forward priority filter; policy drop;", None),
        ("type filter hook prerouting priority raw; policy accept;\n\t\ttcp dport 25 drop", "has rules for incoming"),
    ],
)
def test_table_matters_where_incoming_packets_meet_it(chain: str, words: str | None) -> None:
    found = own_table(chain)
    assert (found is None) == (words is None)
    assert found is None or (found.level is Level.WARN and str(words) in found.summary)


def test_recorded_table_that_refuses_443_blocks_with_the_rule_that_lets_it_in() -> None:
    found = findings(exposed("nftables-refuses-443"))["nftables"]
    assert found.level is Level.BLOCKED and "policy drop, in its chain incoming" in found.summary
    assert "sudo nft insert rule inet mine incoming tcp dport 443 accept" in str(found.remedy)


@pytest.mark.parametrize(
    ("policy", "rules", "refuses"),
    [
        ("drop", (), True),
        ("drop", ('iifname "lo" accept', "ct state { established, related } accept", "udp dport 53 accept"), True),
        ("drop", ("meta l4proto ipv6-icmp accept", "icmp type echo-request accept", "ip protocol igmp accept"), True),
        ("drop", ("tcp dport { 22, 80, 8000-8100 } accept", "counter packets 0 bytes 0"), True),
        ("drop", ("tcp dport { 22, 443 } accept",), False),
        ("drop", ("tcp dport 400-500 ct state new accept",), False),
        ("drop", ("tcp dport != 25 accept",), False),
        ("drop", ("tcp dport @open accept",), False),
        ("drop", ("ip saddr 10.0.0.0/8 accept",), False),
        ("drop", ("ct state vmap { established : accept, new : jump mine }",), False),
        ("drop", ("jump mine",), False),
        ("drop", ("ct state { established, related, new } accept",), False),
        ("accept", ("tcp dport 443 drop",), True),
        ("accept", ("tcp dport { 80, 443 } counter packets 1 bytes 60 reject with icmp port-unreachable",), True),
        ("accept", ("tcp dport 22 accept", "counter packets 1 bytes 60 drop"), True),
        ("accept", ("ip saddr 203.0.113.0/24 accept", "tcp dport 443 drop"), False),
        ("accept", ("ip saddr 203.0.113.0/24 tcp dport 443 drop",), False),
        ("accept", ("tcp dport 25 drop",), False),
        ("accept", ("ct state invalid drop",), False),
    ],
)
def test_table_blocks_only_where_it_is_certain_that_443_is_refused(
    policy: str, rules: tuple[str, ...], refuses: bool
) -> None:
    found = own_table("\n\t\t".join((HOOK.format(policy), *rules)))
    assert (found is not None and found.level is Level.BLOCKED) is refuses


# ── containers ──


def published(server: Scenario) -> Finding | None:
    return findings(server).get("published_ports")


def test_recorded_port_that_docker_publishes_is_warned_of_and_not_called_closed() -> None:
    server = exposed("docker-publishes")
    found = findings(server)["published_ports"]
    assert found.evidence == {"ports": [3306], "published": ["0.0.0.0:3306"]}, "6379 is on loopback alone"
    assert "-p 127.0.0.1:3306" in str(found.remedy)
    assert "sudo iptables -I DOCKER-USER -i host0 -p tcp -m conntrack --ctorigdstport 3306" in str(found.remedy)
    assert [one.key for one in firewall.inspect(server.look_within()) if one.key == "firewall.cuts_off"] == []


@pytest.mark.parametrize(
    ("rule", "closed"),
    [
        ("-A DOCKER-USER -i host0 -p tcp -m conntrack --ctorigdstport 3306 --ctdir ORIGINAL -j DROP", True),
        ("-A DOCKER-USER ! -s 10.0.0.0/8 -i host0 -j DROP", True),
        ("-A DOCKER-USER -i host0 -p tcp -m tcp --dport 80 -j REJECT", True),
        ("-A DOCKER-USER -i host0 -p tcp -m conntrack --ctorigdstport 6379 --ctdir ORIGINAL -j DROP", False),
        ("-A DOCKER-USER -i host0 -p udp -m conntrack --ctproto 17 --ctorigdstport 3306 -j DROP", False),
        ("-A DOCKER-USER -s 198.51.100.0/24 -j DROP", False),
    ],
)
def test_published_port_that_a_rule_of_the_operators_closes_is_no_longer_warned_of(rule: str, closed: bool) -> None:
    server = edited_command(
        exposed("docker-publishes"),
        "iptables-save",
        lambda said: said.replace("-A DOCKER-USER", f"{rule}\n-A DOCKER-USER"),
        has="filter",
    )
    assert (published(server) is None) is closed


def test_port_of_dockers_own_proxy_alone_meets_ufw_and_is_cut_off() -> None:
    """With `iptables: false` Docker translates nothing: its proxy is a program like any other; so are rootless ones."""
    for program in ("docker-proxy", "rootlessport", "pasta.avx2", "slirp4netns"):
        server = with_listeners(exposed(), Listener("0.0.0.0", 3306, program, 9, "docker.service"))
        assert published(server) is None
        cut = [one.evidence["port"] for one in firewall.inspect(server.look_within()) if one.key == "firewall.cuts_off"]
        assert cut == [3306]
    held = published(with_listeners(exposed(), Listener("0.0.0.0", 3306, "conmon", 9, "user.slice")))
    assert held is not None, "podman, whose rules may be nftables' own"


# In the form in which podman's two kinds of networks, and Kubernetes', write them: no port is held by a program.
NETAVARK = """\
*nat
:NETAVARK-DN-1D8721804F16F - [0:0]
:NETAVARK-HOSTPORT-DNAT - [0:0]
-A NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 8080 -j NETAVARK-DN-1D8721804F16F
-A NETAVARK-DN-1D8721804F16F -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j NETAVARK-HOSTPORT-SETMARK
-A NETAVARK-DN-1D8721804F16F -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.88.0.2:80
COMMIT
"""
CNI = """\
*nat
:CNI-DN-2d1e6ba5e0d8a4bd4b5b5 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 8080 -j CNI-DN-2d1e6ba5e0d8a4bd4b5b5
-A CNI-DN-2d1e6ba5e0d8a4bd4b5b5 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.88.0.2:80
COMMIT
"""


@pytest.mark.parametrize(
    ("chain", "nat"), [("NETAVARK_FORWARD", NETAVARK), ("CNI-FORWARD", CNI), ("KUBE-FORWARD", CNI)]
)
def test_port_that_podman_publishes_is_seen_in_its_translation(chain: str, nat: str) -> None:
    rules = f"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:{chain} - [0:0]\nCOMMIT\n"
    server = with_new_command(with_command(exposed(), "iptables-save", rules), NAT, nat)
    found = published(server)
    assert found is not None and found.evidence == {"ports": [8080], "published": ["0.0.0.0:8080"]}


@pytest.mark.parametrize("program", ["docker-proxy", "dockerd"])
def test_container_on_443_is_named_and_docker_itself_never_stopped(program: str) -> None:
    found = findings(with_listeners(exposed(), Listener("0.0.0.0", 443, program, 9, "docker.service")))["web_ports"]
    assert found.level is Level.BLOCKED
    assert "docker ps --filter publish=443" in str(found.remedy) and "systemctl" not in str(found.remedy)


def test_container_on_443_blocks_though_nobody_listens() -> None:
    server = edited_command(
        exposed("docker-publishes"),
        "iptables-save",
        lambda said: said.replace("--dport 3306", "--dport 443"),
        has="nat",
    )
    found = findings(server)["web_ports"]
    assert found.level is Level.BLOCKED and "172.17.0.2" in found.summary
    assert "docker ps --filter publish=443" in str(found.remedy)
