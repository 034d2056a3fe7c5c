"""The kernel's rules as iptables-save 1.8.9 printed them, walked by single packets."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.netfilter import (
    Packet,
    Ruleset,
    evaluate,
    foreign_chains,
    foreign_rules,
    is_ufw_loaded,
    is_ufw_stopped,
    is_ufw_whole,
    parse_ruleset,
)

RECORDED = Path(__file__).parents[1] / "recorded" / "netfilter"
EVERY = sorted(RECORDED.glob("*.txt"))


def ruleset(scene: str, family: int = 4) -> Ruleset:
    program = "iptables" if family == 4 else "ip6tables"
    return parse_ruleset((RECORDED / f"{program}-1.8.9-{scene}.txt").read_text())


def table(*rules: str, policy: str = "DROP") -> Ruleset:
    return parse_ruleset("\n".join(["*filter", f":INPUT {policy} [0:0]", *rules, "COMMIT", ""]))


def verdict(rules: Ruleset, port: int, source: str | None = None, interface: str | None = None) -> str:
    return evaluate(rules, Packet("tcp", port, source, interface)).result


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_every_recorded_line_is_understood(path: Path) -> None:
    text = path.read_text()
    rules = parse_ruleset(text)
    assert rules.unparsed == ()
    assert sum(map(len, rules.chains.values())) == sum(line.startswith("-A") for line in text.split("\n"))


@pytest.mark.parametrize(
    ("scene", "family", "loaded"),
    [
        ("fresh", 4, False),
        ("added-inactive", 4, False),
        ("guide", 4, True),
        ("guide", 6, True),
        ("default-allow", 4, True),
        ("disabled", 4, False),
        ("disabled", 6, False),
        ("ipv6-no", 4, True),
        ("ipv6-no", 6, False),
    ],
)
def test_ufw_counts_as_loaded_only_where_packets_meet_its_rules(scene: str, family: int, loaded: bool) -> None:
    assert is_ufw_loaded(ruleset(scene, family)) is loaded


@pytest.mark.parametrize(
    ("scene", "family", "incoming", "whole"),
    [
        ("fresh", 4, "deny", False),
        ("disabled", 4, "deny", False),
        ("disabled", 6, "deny", False),
        ("guide", 4, "deny", True),
        ("guide", 6, "deny", True),
        ("many", 4, "deny", True),
        ("many", 6, "deny", True),
        ("foreign", 4, "deny", True),
        ("before-rules", 4, "deny", True),
        ("default-allow", 4, "allow", True),
        ("default-allow", 4, "deny", False),
        ("default-reject", 4, "reject", True),
        ("start-cut-off-before-user-rules", 4, "deny", False),
        ("start-cut-off-before-policy", 4, "deny", False),
        ("start-cut-off-before-policy", 6, "deny", False),
    ],
)
def test_ufw_counts_as_whole_only_where_its_start_came_to_its_end(
    scene: str, family: int, incoming: str, whole: bool
) -> None:
    assert is_ufw_whole(ruleset(scene, family), incoming) is whole


@pytest.mark.parametrize(
    ("scene", "family", "stopped"),
    [
        ("fresh", 4, True),
        ("added-inactive", 4, True),
        ("disabled", 4, True),
        ("disabled", 6, True),
        ("guide", 4, False),
        ("guide", 6, False),
        ("start-cut-off-before-policy", 4, False),
    ],
)
def test_ufw_can_be_started_where_its_users_chain_is_gone(scene: str, family: int, stopped: bool) -> None:
    assert is_ufw_stopped(ruleset(scene, family)) is stopped


@pytest.mark.parametrize(
    ("scene", "family", "port", "source", "interface", "result"),
    [
        ("fresh", 4, 8000, None, None, "accept"),
        ("guide", 4, 22, None, None, "accept"),
        ("guide", 4, 22, "198.51.100.20", "eth0", "accept"),
        ("guide", 6, 443, None, None, "accept"),
        ("guide", 4, 8000, None, None, "drop"),
        ("guide", 6, 8000, "2001:db8::7", "eth0", "drop"),
        ("many", 4, 9100, None, None, "unsure"),
        ("many", 4, 9100, "203.0.113.9", None, "accept"),
        ("many", 4, 9100, "198.51.100.1", None, "drop"),
        ("many", 4, 443, "198.51.100.7", None, "accept"),
        ("many", 4, 80, "198.51.100.7", None, "drop"),
        ("many", 4, 80, "198.51.100.8", None, "accept"),
        ("many", 4, 53, "198.51.100.8", "eth0", "accept"),
        ("many", 4, 53, "198.51.100.8", "eth1", "drop"),
        ("many", 4, 4005, "198.51.100.8", "eth0", "accept"),
        ("many", 4, 2222, "198.51.100.8", "eth0", "accept"),
        ("many", 4, 113, "198.51.100.8", "eth0", "reject"),
        ("many", 4, 8081, "198.51.100.8", "eth0", "drop"),
        ("many", 6, 8000, "2001:db8:1::9", "eth0", "accept"),
        ("many", 6, 8000, "2001:db8:2::9", "eth0", "drop"),
        ("default-allow", 4, 9999, "198.51.100.8", "eth0", "accept"),
        ("default-reject", 4, 9999, "198.51.100.8", "eth0", "reject"),
        ("foreign", 4, 8000, None, None, "accept"),
        ("foreign", 4, 22, None, None, "unsure"),
        ("foreign", 4, 22, "198.51.100.99", None, "reject"),
        ("foreign", 4, 22, "198.51.100.98", None, "accept"),
        ("ipv6-no", 6, 22, None, None, "drop"),
        ("ipv6-no", 6, 22, None, "lo", "accept"),
    ],
)
def test_packet_ends_as_the_loaded_rules_say(
    scene: str, family: int, port: int, source: str | None, interface: str | None, result: str
) -> None:
    assert verdict(ruleset(scene, family), port, source, interface) == result


def test_verdict_names_the_rule_that_decided() -> None:
    found = evaluate(ruleset("guide"), Packet("tcp", 443))
    assert found.rule == "-A ufw-user-input -p tcp -m tcp --dport 443 -j ACCEPT"


def test_packet_to_a_known_address_of_this_server_is_local() -> None:
    packet = Packet("tcp", 22, "198.51.100.8", "eth0", destination="192.0.2.10")
    assert evaluate(ruleset("guide"), packet).result == "accept"


def test_packet_of_an_established_connection_passes_a_closed_firewall() -> None:
    packet = Packet("tcp", 9999, "198.51.100.8", "eth0", new=False)
    assert evaluate(ruleset("guide"), packet).result == "accept"


def test_foreign_rules_and_chains_are_named() -> None:
    rules = ruleset("foreign")
    assert foreign_rules(rules)[0] == "-A INPUT -p tcp -m tcp --dport 8000 -j ACCEPT"
    assert len(foreign_rules(rules)) == 2
    assert foreign_chains(rules) == ("DOCKER", "DOCKER-USER", "f2b-sshd")
    assert foreign_rules(ruleset("guide")) == ()


@pytest.mark.parametrize(
    "condition",
    [
        "-m set --match-set allowed src",
        "-m limit --limit 3/min",
        "-m recent --update --seconds 30 --hitcount 6 --name x --rsource",
        "-m mark --mark 0x1",
        "-m owner --uid-owner 0",
        "-m bpf --bytecode 4",
        "-s 203.0.113.0/24",
        "-p tcp -m tcp --sport 1024:65535",
    ],
)
def test_condition_that_a_packet_cannot_answer_makes_the_verdict_unsure(condition: str) -> None:
    assert verdict(table(f"-A INPUT {condition} -j ACCEPT"), 22) == "unsure"
    assert verdict(table(f"-A INPUT {condition} -j DROP", policy="ACCEPT"), 22) == "unsure"


def test_unknown_target_makes_the_verdict_unsure() -> None:
    assert verdict(table("-A INPUT -j NFQUEUE --queue-num 1"), 22) == "unsure"


def test_line_that_is_not_understood_makes_the_verdict_unsure() -> None:
    assert verdict(table("-A INPUT -p tcp --dport 22 -j ACCEPT", "?!"), 22) == "unsure"


def test_tables_that_only_nft_can_show_make_the_verdict_unsure() -> None:
    text = "# Table `extra' is incompatible, use 'nft' tool.\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
    assert verdict(parse_ruleset(text), 22) == "unsure"


@pytest.mark.parametrize(
    ("rule", "result"),
    [
        ("-A INPUT -i lo -j ACCEPT", "drop"),
        ("-A INPUT ! -i lo -p tcp -j ACCEPT", "accept"),
        ("-A INPUT -p udp --dport 22 -j ACCEPT", "drop"),
        ("-A INPUT -p tcp --dport 20:30 -j ACCEPT", "accept"),
        ("-A INPUT -p tcp ! --dport 22 -j ACCEPT", "drop"),
        ("-A INPUT -p tcp -m multiport --dports 80,20:25 -j ACCEPT", "accept"),
        ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "drop"),
        ("-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", "accept"),
        ("-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", "drop"),
        ("-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT", "drop"),
        ('-A INPUT -m comment --comment "a \\"b\\" -j DROP" -j ACCEPT', "accept"),
        ("-A INPUT -m pkttype --pkt-type broadcast -j ACCEPT", "drop"),
        ("-A INPUT -j LOG --log-prefix ACCEPT", "drop"),
        ("[12:720] -A INPUT -p tcp -j ACCEPT", "accept"),
    ],
)
def test_condition_is_judged(rule: str, result: str) -> None:
    assert verdict(table(rule), 22) == result


def test_rule_after_a_doubtful_return_still_counts() -> None:
    rules = table(":c - [0:0]", "-A INPUT -j c", "-A c -s 203.0.113.0/24 -j RETURN", "-A c -j ACCEPT")
    assert verdict(rules, 22) == "unsure"
    assert verdict(rules, 22, "203.0.113.1") == "drop"
    assert verdict(rules, 22, "203.0.114.1") == "accept"


def test_goto_does_not_come_back() -> None:
    rules = table(":c - [0:0]", "-A INPUT -g c", "-A INPUT -j ACCEPT", "-A c -p udp -j ACCEPT")
    assert verdict(rules, 22) == "drop"


def test_chain_that_calls_itself_ends_unsure() -> None:
    assert verdict(table(":c - [0:0]", "-A INPUT -j c", "-A c -j c"), 22) == "unsure"


def test_long_row_of_chains_is_walked() -> None:
    chains = [f":c{n} - [0:0]" for n in range(500)]
    jumps = [f"-A c{n} -j c{n + 1}\n-A c{n} -j c{n + 1}" for n in range(499)]
    assert verdict(table(*chains, "-A INPUT -j c0", *jumps), 22) == "unsure"


WORDS = r"""*filter :INPUT DROP [0:0] -A INPUT -j -g ! " \ --dport 1: : -s x -p tcp 0/0 --ctstate COMMIT
--src-range 1.1.1.1-::1 --tcp-flags -i + c"""
PIECES = st.sampled_from([*WORDS.split(), "\n"])


@given(st.text() | st.lists(PIECES).map(" ".join))
def test_any_text_is_walked_without_an_error(text: str) -> None:
    rules = parse_ruleset(text)
    packet = Packet("tcp", 22, text[:9], text[:3])
    assert evaluate(rules, packet).result in ("accept", "drop", "reject", "unsure")
    foreign_rules(rules)
    foreign_chains(rules)
    is_ufw_loaded(rules)
