"""ufw's stored rules, as ufw 0.36.2 wrote them, and what they decide."""

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.netfilter import Packet, evaluate, parse_ruleset
from wizard.parse.ufw import (
    UfwDefaults,
    UfwRule,
    decide,
    parse_defaults,
    parse_enabled,
    parse_user_rules,
)

RECORDED = Path(__file__).parents[1] / "recorded" / "ufw"
SCENES = sorted(path.name for path in RECORDED.iterdir())
DENY = UfwDefaults(ipv6=True, input="deny", output="allow", forward="deny")


def rules(scene: str, family: int = 4) -> tuple[UfwRule, ...]:
    name = "user.rules" if family == 4 else "user6.rules"
    return parse_user_rules((RECORDED / f"0.36.2-{scene}" / name).read_text(), family)


def rule_with(**fields: object) -> UfwRule:
    (found,) = [rule for rule in rules("many") if all(getattr(rule, name) == value for name, value in fields.items())]
    return found


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("name", "family"), [("user.rules", 4), ("user6.rules", 6)])
def test_every_stored_rule_is_read(scene: str, name: str, family: int) -> None:
    text = (RECORDED / scene / name).read_text()
    assert len(parse_user_rules(text, family)) == len(re.findall("^### tuple", text, re.MULTILINE))


def test_guide_has_two_rules_open_to_all() -> None:
    ssh, https = rules("guide")
    assert (ssh.action, ssh.port, ssh.protocol, ssh.comment, ssh.anywhere) == ("allow", "22", "tcp", "SSH", True)
    assert (https.port, https.comment) == ("443", "")


def test_comment_is_decoded_from_hex() -> None:
    assert rule_with(port="9100").comment == "node exporter – Büro"


def test_rule_by_source_is_not_open_to_all() -> None:
    rule = rule_with(port="9100")
    assert (rule.source, rule.anywhere) == ("203.0.113.0/24", False)


def test_rule_by_interface_names_it() -> None:
    rule = rule_with(port="53")
    assert (rule.interface, rule.direction, rule.protocol, rule.anywhere) == ("eth0", "in", "any", False)


def test_application_profile_keeps_its_spaces_and_ports() -> None:
    rule = rule_with(application="Nginx Full")
    assert (rule.port, rule.comment) == ("80,443", "site")
    assert rule_with(application="OpenSSH").port == "22"


def test_routed_rule_names_both_interfaces() -> None:
    rule = rule_with(routed=True)
    assert (rule.interface, rule.out_interface, rule.destination) == ("eth0", "eth1", "10.0.0.5")


def test_logged_rule_is_an_ordinary_allow() -> None:
    rule = rule_with(port="5000")
    assert (rule.action, rule.logged) == ("allow", "log")


def test_outgoing_rule_names_the_interface_it_leaves_by() -> None:
    rule = rule_with(port="123")
    assert (rule.direction, rule.interface) == ("out", "eth0")


@pytest.mark.parametrize(
    ("ports", "port", "inside"),
    [
        ("22", 22, True),
        ("22", 2222, False),
        ("any", 1, True),
        ("80,443", 443, True),
        ("6000:6010", 6005, True),
        ("6000:6010", 6011, False),
        ("3000,4000:4010", 4010, True),
        ("x:y", 22, False),
        ("", 22, False),
    ],
)
def test_ports_in_lists_and_ranges_are_covered(ports: str, port: int, inside: bool) -> None:
    rule = UfwRule("allow", "tcp", ports, "0.0.0.0/0", "any", "0.0.0.0/0", "in")
    assert rule.covers(port, "tcp") is inside
    assert not rule.covers(port, "udp")


@pytest.mark.parametrize(
    ("port", "source", "interface", "action"),
    [
        (22, None, None, "allow"),
        (8081, None, None, "deny"),
        (8000, None, None, "deny"),
        (2222, None, None, "limit"),
        (113, None, None, "reject"),
        (12345, None, None, "deny"),
        (53, None, None, "deny"),
        (53, None, "eth0", "allow"),
        (9100, None, None, "deny"),
        (9100, "203.0.113.9", None, "allow"),
        (443, "198.51.100.7", None, "allow"),
        (80, "198.51.100.7", None, "deny"),
        (7000, None, None, "deny"),
    ],
)
def test_first_rule_that_matches_decides(port: int, source: str | None, interface: str | None, action: str) -> None:
    assert decide(rules("many"), DENY, port, "tcp", source, interface, 4)[0] == action


@pytest.mark.parametrize("scene", SCENES)
def test_rule_is_said_as_ufw_itself_prints_it(scene: str) -> None:
    """`ufw show added` has each rule once, though it be stored for both families."""
    folder = RECORDED / scene
    lines = (folder / "show-added.txt").read_text().splitlines()[1:]
    added = sorted({line for line in lines if line.startswith("ufw ")})
    stored = [
        rule
        for family, name in ((4, "user.rules"), (6, "user6.rules"))
        for rule in parse_user_rules((folder / name).read_text(), family)
    ]
    said = {" ".join(("ufw", shlex.join(rule.words), comment_of(rule))).rstrip() for rule in stored}
    assert sorted(said) == added


def comment_of(rule: UfwRule) -> str:
    return f"comment '{rule.comment}'" if rule.comment else ""


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("limit from 192.0.2.0/24 to any app OpenSSH", "sudo ufw delete limit from 192.0.2.0/24 to any app OpenSSH"),
        ("allow in on eth1 to any app 'Nginx HTTPS'", "sudo ufw delete allow in on eth1 to any app 'Nginx HTTPS'"),
        ("route allow to 172.17.0.2 app OpenSSH", "sudo ufw route delete allow to 172.17.0.2 app OpenSSH"),
        ("deny to any", "sudo ufw delete deny to any"),
    ],
)
def test_rule_is_taken_away_by_the_command_that_ufw_took(words: str, command: str) -> None:
    (found,) = {rule.deletion for rule in rules("forms") if shlex.join(rule.words) == words}
    assert found == command


PACKETS = [
    (port, source, interface, destination)
    for port in (22, 23, 25, 53, 80, 113, 443, 2222, 3000, 4005, 5000, 5353, 7000, 8000, 8081, 8443, 9100, 12345)
    for source in ("203.0.113.66", "203.0.113.9", "198.51.100.7", "10.1.2.3", "192.0.2.1", "192.0.2.77", "8.8.8.8")
    for interface in ("eth0", "eth1", "wg0")
    for destination in ("10.0.0.5", "192.0.2.10")
]


@pytest.mark.parametrize("scene", ["many", "guide", "shadowed", "forms", "limit", "v6-only", "ipv6-later"])
def test_what_the_files_say_is_what_the_kernel_does(scene: str) -> None:
    """The stored rules, and the rules that ufw made the kernel load of them, decide each packet alike."""
    folder = RECORDED / f"0.36.2-{scene}"
    kernel = parse_ruleset((RECORDED.parent / "netfilter" / f"iptables-1.8.9-{scene}.txt").read_text())
    stored, defaults = rules(scene), parse_defaults((folder / "default-ufw").read_text())
    ends = {"allow": "accept", "limit": "accept", "deny": "drop", "reject": "reject"}
    for port, source, interface, destination in PACKETS:
        action, _ = decide(stored, defaults, port, "tcp", source, interface, 4, destination)
        verdict = evaluate(kernel, Packet("tcp", port, source, interface, destination=destination))
        assert verdict.result == ends[action], (port, source, interface, destination, verdict)


def test_network_is_decided_by_rules_for_all_of_it() -> None:
    """10.0.0.0/8 is not let in by a rule for 10.1.0.0/16."""
    lan = UfwRule("allow", "tcp", "9100", "10.1.0.0/16", "any", "0.0.0.0/0", "in")
    assert decide((lan,), DENY, 9100, "tcp", "10.0.0.0/8", None, 4) == ("deny", None)
    assert decide((lan,), DENY, 9100, "tcp", "10.1.2.0/24", None, 4) == ("allow", lan)
    assert decide((lan,), DENY, 9100, "tcp", "fd00::1", None, 4) == ("deny", None)


def test_without_a_rule_the_default_decides_and_no_rule_is_named() -> None:
    assert decide((), DENY, 22, "tcp", None, None, 4) == ("deny", None)


def test_rule_of_the_other_family_decides_nothing() -> None:
    assert decide(rules("guide", 6), DENY, 22, "tcp", None, None, 4) == ("deny", None)
    assert decide(rules("guide", 6), DENY, 22, "tcp", None, None, 6)[0] == "allow"


@pytest.mark.parametrize(
    ("scene", "enabled", "incoming", "ipv6"),
    [
        ("fresh", False, "deny", True),
        ("guide", True, "deny", True),
        ("default-allow", True, "allow", True),
        ("default-reject", True, "reject", True),
        ("disabled", False, "deny", True),
        ("ipv6-no", True, "deny", False),
    ],
)
def test_settings_are_read(scene: str, enabled: bool, incoming: str, ipv6: bool) -> None:
    folder = RECORDED / f"0.36.2-{scene}"
    defaults = parse_defaults((folder / "default-ufw").read_text())
    assert parse_enabled((folder / "ufw.conf").read_text()) is enabled
    assert (defaults.input, defaults.ipv6) == (incoming, ipv6)


@pytest.mark.parametrize(
    "text",
    [
        "### tuple ### allow tcp 22",
        "### tuple ### explode tcp 22 0.0.0.0/0 any 0.0.0.0/0 in",
        "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 sideways_eth0",
        "### tuple ###",
    ],
)
def test_line_that_ufw_would_skip_is_skipped(text: str) -> None:
    assert parse_user_rules(text, 4) == ()


def test_old_form_without_a_direction_is_incoming() -> None:
    (rule,) = parse_user_rules("### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0", 4)
    assert (rule.direction, rule.anywhere) == ("in", True)


LINES = st.lists(
    st.sampled_from(["### tuple ###", "allow", "tcp", "22", "any", "0.0.0.0/0", "in_e", "!", "comment=zz", "-", "\n"])
)


@given(st.text() | LINES.map(" ".join), st.integers())
def test_any_text_is_read_without_an_error(text: str, port: int) -> None:
    found = parse_user_rules(text, 4)
    decide(found, parse_defaults(text), port, "tcp", text, text, 4)
    parse_enabled(text)
