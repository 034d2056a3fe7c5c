"""The firewall step on servers whose rules an operator has made: right ones stay, those in the way are named."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from wizard.engine import Look, walk
from wizard.model import Finding, Level, Output, Remove, Run, Write
from wizard.safety import find_doubts
from wizard.server import Address, FileState, Listener, Operator, Target
from wizard.ssh import listening_at
from wizard.steps import firewall

RECORDED = Path(__file__).parents[1] / "recorded"
FILES = {
    "/etc/ufw/user.rules": "user.rules",
    "/etc/ufw/user6.rules": "user6.rules",
    "/etc/ufw/ufw.conf": "ufw.conf",
    "/etc/default/ufw": "default-ufw",
}
OPERATOR = Operator("203.0.113.20", 22)
ADDRESSES = (Address("eth0", "10.0.0.5", True), Address("eth0", "2001:db8::5", True))
HEAD = "*filter\n### RULES ###\n"


def server(
    scene: str = "guide",
    *,
    rules: str | None = None,
    rules6: str | None = None,
    defaults: Mapping[str, str] | None = None,
    operator: Operator | None = OPERATOR,
    addresses: Sequence[Address] = ADDRESSES,
    enabled: bool | None = None,
    answers: str = "",
    loaded: str | None = None,
) -> Scenario:
    """ufw as it was recorded in this scene, its kernel too; with other lines where they are given."""
    base = scenario.load("half-done")
    folder = RECORDED / "ufw" / f"0.36.2-{scene}"
    text = {path: (folder / name).read_text() for path, name in FILES.items()}
    for path, lines in (("/etc/ufw/user.rules", rules), ("/etc/ufw/user6.rules", rules6)):
        if lines is not None:
            text[path] = HEAD + "".join(f"### tuple ### {line}\n" for line in lines.splitlines() if line) + "COMMIT\n"
    for name, value in (defaults or {}).items():
        text["/etc/default/ufw"] += f"{name}={value}\n"
    if enabled is not None:
        text["/etc/ufw/ufw.conf"] = f"ENABLED={'yes' if enabled else 'no'}\n"
    about = base.description
    files = {**about.files, **{path: FileState("file", one.encode()) for path, one in text.items()}}
    commands: dict[Any, Output] = dict(about.commands)
    for program in ("iptables", "ip6tables"):
        dump = (RECORDED / "netfilter" / f"{program}-1.8.9-{loaded or scene}.txt").read_text()
        known = (rules is None and rules6 is None) or loaded is not None
        commands[((f"{program}-save", "-t", "filter"), "")] = Output(0, dump) if known else Output(1)
    about = replace(
        about,
        files=files,
        commands=commands,
        addresses=tuple(addresses),
        operator=operator,
        answers=about.answers if not answers else answers.encode(),
    )
    return replace(base, description=about)


def with_loaded(about: Scenario, program: str, dump: str) -> Scenario:
    """The same server, with other rules of this program loaded."""
    changed = {**about.description.commands, ((f"{program}-save", "-t", "filter"), ""): Output(0, dump)}
    return replace(about, description=replace(about.description, commands=changed))


def inspect(server: Scenario) -> list[Finding]:
    return list(firewall.inspect(server.look_within()))


def by_key(server: Scenario) -> dict[str, Finding]:
    return {finding.key: finding for finding in inspect(server)}


def commands(findings: Sequence[Finding]) -> list[str]:
    """What is told to ufw."""
    runs = [action for finding in findings for action in finding.fix if isinstance(action, Run)]
    return [" ".join(run.argv) for run in runs if run.argv[0] == "ufw"]


BOTH = "allow tcp {port} 0.0.0.0/0 any 0.0.0.0/0 in"
BOTH6 = "allow tcp {port} ::/0 any ::/0 in"
OPEN = "\n".join(BOTH.format(port=port) for port in (22, 443))
OPEN6 = "\n".join(BOTH6.format(port=port) for port in (22, 443))


# ── right ones are recognised ──


def test_servers_own_right_rules_leave_nothing_to_do() -> None:
    assert [finding.key for finding in inspect(server("guide")) if finding.fix] == []


def test_limit_on_ssh_is_right_and_stays() -> None:
    found = by_key(server("limit"))
    assert found["firewall.ssh_port"].level is Level.OK
    assert "limit 22/tcp" in found["firewall.ssh_port"].summary


def test_limit_on_https_warns_of_clients_that_it_cuts_off() -> None:
    found = by_key(server("limit"))
    assert found["firewall.https_port"].level is Level.OK
    assert found["firewall.limited"].level is Level.WARN
    assert str(found["firewall.limited"].remedy).startswith("to let all in: sudo ufw delete limit 443/tcp;")


RIGHT = {
    "application": ("allow tcp 22 {any} any {any} OpenSSH - in", "allow tcp 80,443 {any} any {any} Nginx%20Full - in"),
    "list": ("allow tcp 22,443 {any} any {any} in", ""),
    "range": ("allow tcp 20:25 {any} any {any} in", "allow tcp 400:500 {any} any {any} in"),
    "any-protocol": ("allow any 22 {any} any {any} in", "allow any 443 {any} any {any} in"),
    "logged": ("allow_log tcp 22 {any} any {any} in", "allow_log-all tcp 443 {any} any {any} in"),
    "interface": ("allow tcp 22 {any} any {any} in_eth0", "allow tcp 443 {any} any {any} in_eth+"),
    "own-address": ("allow tcp 22 {own} any {any} in", "allow tcp 443 {own} any {any} in"),
    "everything": ("allow any any {any} any {any} in", ""),
    "commented": ("allow tcp 22 {any} any {any} in comment=42c3bc726f", "allow tcp 443 {any} any {any} in comment=78"),
    "deny-after": ("allow tcp 22,443 {any} any {any} in", "deny any any {any} any {any} in"),
    "deny-of-others": ("deny any any {any} any {bad} in\nallow tcp 22 {any} any {any} in", BOTH.format(port=443)),
}
PLACES = {4: {"any": "0.0.0.0/0", "own": "10.0.0.5", "bad": "198.51.100.7"}, 6: {"any": "::/0", "own": "2001:db8::5"}}


@pytest.mark.parametrize("form", RIGHT)
def test_rule_that_lets_in_is_recognised_in_every_form(form: str) -> None:
    lines = "\n".join(RIGHT[form])
    six = {"bad": "2001:db8::bad", **PLACES[6]}
    rules6 = lines.format(**six).replace("0.0.0.0/0", "::/0")
    found = inspect(server(rules=lines.format(**PLACES[4]), rules6=rules6))
    assert [finding.key for finding in found if finding.level is not Level.OK] == []


def test_ssh_from_where_the_operator_is_is_enough() -> None:
    found = by_key(server(rules=BOTH.format(port=443) + "\nallow tcp 22 0.0.0.0/0 any 203.0.113.0/24 in"))
    assert found["firewall.ssh_port"].level is Level.OK
    assert "from 203.0.113.20, where you are" in found["firewall.ssh_port"].summary


def test_ssh_for_some_is_not_opened_to_all_where_nobody_is_connected() -> None:
    lines = BOTH.format(port=443) + "\nallow tcp 22 0.0.0.0/0 any 10.0.0.0/8 in_eth0"
    found = by_key(server(rules=lines, rules6=BOTH6.format(port=443), operator=None))
    assert found["firewall.ssh_port"].level is Level.OK
    assert "allowed from 10.0.0.0/8 on eth0 alone" in found["firewall.ssh_port"].summary


NOT_ENOUGH = {
    "other-source": "allow tcp 443 0.0.0.0/0 any 10.0.0.0/8 in",
    "other-interface": "allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 in_wg0",
    "other-address": "allow tcp 443 10.9.9.9 any 0.0.0.0/0 in",
    "routed": "route:allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 in",
    "outgoing": "allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 out",
    "udp": "allow udp 443 0.0.0.0/0 any 0.0.0.0/0 in",
    "source-port": "allow tcp 443 0.0.0.0/0 443 0.0.0.0/0 in",
    "another-port": "allow tcp 444:500,80 0.0.0.0/0 any 0.0.0.0/0 in",
}


@pytest.mark.parametrize("form", NOT_ENOUGH)
def test_rule_that_lets_only_some_in_is_not_taken_for_more(form: str) -> None:
    ssh = BOTH.format(port=22)
    found = inspect(server(rules=f"{ssh}\n{NOT_ENOUGH[form]}", rules6=OPEN6))
    assert commands(found) == ["ufw allow from 0.0.0.0/0 to any port 443 proto tcp comment HTTPS"]


# ── those in the way are named ──


def test_rule_that_another_shadows_is_explained_with_the_commands() -> None:
    found = [one for one in inspect(server("shadowed")) if one.key == "firewall.denied"]
    ssh, https = found
    assert {one.level for one in found} == {Level.BLOCKED}
    assert "“limit 22/tcp” never meets 22/tcp" in ssh.summary
    assert "“deny in on eth0 to any port 22 proto tcp” comes before it" in ssh.summary
    assert "sudo ufw delete deny in on eth0 to any port 22 proto tcp" in str(ssh.remedy)
    assert "“allow 443/tcp” never meets 443/tcp" in https.summary and "“deny 443” comes before it" in https.summary
    assert https.evidence == {"rule": "deny 443", "comment": "for now", "shadows": "allow 443/tcp"}
    first, last = (part.strip() for part in str(https.remedy).split(";")[1:3])
    assert first == "if it stays, and the other is to come first: sudo ufw delete allow 443/tcp"
    assert last == "sudo ufw prepend allow 443/tcp comment site", "its comment is kept"


def test_rule_of_an_application_is_named_as_ufw_takes_it() -> None:
    lines = BOTH.format(port=22) + "\ndeny tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 Nginx%20Full - in"
    denied = by_key(server(rules=lines, rules6=OPEN6))["firewall.denied"]
    assert "sudo ufw delete deny 'Nginx Full'" in str(denied.remedy)


def test_rule_that_keeps_the_operator_alone_out_blocks() -> None:
    lines = f"reject any any 0.0.0.0/0 any 203.0.113.0/24 in\n{OPEN}"
    denied = by_key(server(rules=lines, rules6=OPEN6))["firewall.denied"]
    assert denied.level is Level.BLOCKED
    assert "22/tcp from 203.0.113.20" in denied.summary and "“reject from 203.0.113.0/24”" in denied.summary
    assert "sudo ufw delete reject from 203.0.113.0/24" in str(denied.remedy)


def test_line_of_before_rules_that_comes_first_is_shown_and_left_alone() -> None:
    found = by_key(server("before-rules"))
    refused = found["firewall.refused_before"]
    assert refused.level is Level.BLOCKED
    assert refused.evidence["rule"].startswith("-A ufw-before-input -p tcp -m tcp --dport 443")
    assert "/etc/ufw/before.rules" in str(refused.remedy)
    assert found["firewall.https_port"].level is Level.OK


def test_rules_of_others_before_ufws_are_shown() -> None:
    """Another program's rule in the chain INPUT."""
    about = server("guide")
    dump = about.description.commands[(("iptables-save", "-t", "filter"), "")].out
    own = dump.replace("-A INPUT -j ufw-before-logging-input", "-A INPUT -p tcp -m tcp --dport 443 -j DROP", 1)
    refused = by_key(with_loaded(about, "iptables", own))
    assert "iptables-save" in str(refused["firewall.refused_before"].remedy)


def test_rules_that_were_edited_and_not_loaded_are_loaded() -> None:
    found = inspect(server(rules=OPEN, rules6=OPEN6, loaded="limit", scene="guide"))
    assert [one.key for one in found if one.fix] == []
    found = inspect(server(rules=OPEN, rules6=OPEN6, loaded="v6-only", scene="guide"))
    assert commands(found) == ["ufw reload"]


@pytest.mark.parametrize("scene", ["start-cut-off-before-user-rules", "start-cut-off-before-policy"])
def test_ufw_whose_start_was_cut_off_is_not_taken_for_one_that_is_on(scene: str) -> None:
    cut_off = (RECORDED / "netfilter" / f"iptables-1.8.9-{scene}.txt").read_text()
    found = inspect(with_loaded(server("guide"), "iptables", cut_off))
    assert [one.key for one in found if one.level is Level.DRIFT][1:] == ["firewall.enabled", "firewall.proof"]
    assert commands(found) == ["ufw reload"]


@pytest.mark.parametrize("addresses", [ADDRESSES, ADDRESSES[:1]])
@pytest.mark.parametrize("scene", ["start-cut-off-before-policy", "fresh"])
def test_ipv6_that_ufw_has_not_closed_matters_where_the_server_has_it(
    scene: str, addresses: tuple[Address, ...]
) -> None:
    loaded = (RECORDED / "netfilter" / f"ip6tables-1.8.9-{scene}.txt").read_text()
    found = inspect(with_loaded(server("guide", addresses=addresses), "ip6tables", loaded))
    is_there = addresses == ADDRESSES or scene != "fresh"
    assert commands(found) == (["ufw reload"] if is_there else [])


def test_ufw_that_was_half_switched_off_is_loaded_anew_for_it_takes_itself_for_started() -> None:
    assert commands(inspect(server("guide", enabled=False))) == ["ufw --force enable", "ufw reload"]
    assert commands(inspect(server("guide", enabled=False, loaded="disabled"))) == ["ufw --force enable"]


@pytest.mark.parametrize("path", ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"])
@pytest.mark.parametrize("level", ["medium", "off", ""])
def test_rules_file_that_a_full_disk_has_cut_off_is_written_again(path: str, level: str) -> None:
    """Its log's level stays; and once that is done nothing is left to do."""
    known = server(rules=OPEN, rules6=OPEN6, loaded="limit", scene="guide")
    files = known.description.files
    whole, configuration = files[path], files["/etc/ufw/ufw.conf"]
    assert whole is not None and configuration is not None
    cut = replace(whole, content=whole.content.removesuffix(b"MIT\n"))
    told = replace(configuration, content=f"ENABLED=yes\nLOGLEVEL={level}\n".encode())
    about = replace(known.description, files={**files, path: cut, "/etc/ufw/ufw.conf": told})
    found = inspect(replace(known, description=about))
    (finding,) = [one for one in found if one.key == "firewall.cut_off"]
    assert commands(found) == [f"ufw logging {level or 'low'}"] and path in finding.summary
    look, overlay = replace(known, description=about).overlaid()
    for action in finding.fix:
        overlay.perform(action)
    assert not look.server.firewall().cut_off


# ── comments, and the other family ──


def test_family_without_its_rule_is_told_alone_and_the_other_keeps_comment_and_limit() -> None:
    """IPV6=yes came later. `ufw allow 443/tcp comment HTTPS` would have taken the comment “site” away."""
    found = inspect(server("ipv6-later"))
    assert commands(found) == [
        "ufw limit from ::/0 to any port 22 proto tcp comment SSH",
        "ufw allow from ::/0 to any port 443 proto tcp comment HTTPS",
    ]
    assert "by IPv6" in by_key(server("ipv6-later"))["firewall.https_port"].summary


@pytest.mark.parametrize("scene", ["ipv6-later", "v6-only"])
def test_after_the_change_nothing_is_left_to_do_and_undo_gives_the_rules_back(scene: str) -> None:
    look, overlay = server(scene).overlaid()
    look.server.units(*server(scene).units)
    before = overlay.firewall().rules
    (result,) = walk((firewall.STEP,), look)
    assert [finding.key for finding in result.after if finding.fix] == []
    now = overlay.firewall().rules
    assert set(before) < set(now), "no rule, and no comment, is lost"
    for action in reversed(result.actions):
        for undo in action.undo if isinstance(action, Run) else ():
            overlay.perform(undo)
    assert overlay.firewall().rules == before


@pytest.mark.parametrize("name", scenario.names())
def test_no_file_of_ufw_is_written_by_the_program_itself(name: str) -> None:
    """before.rules and what else an operator wrote there stays; rules are told to ufw."""
    written = [
        action.path
        for result in scenario.load(name).planned()
        for action in result.actions
        if isinstance(action, Write | Remove)
    ]
    assert not any(path.startswith(("/etc/ufw", "/etc/default", "/lib/ufw")) for path in written)


# ── IPV6=no ──


def test_operator_on_ipv6_is_not_locked_out_by_ipv6_no() -> None:
    on_six = server("ipv6-no", operator=Operator("2001:db8::20", 22), enabled=False)
    found = by_key(on_six)["firewall.ipv6"]
    assert found.level is Level.BLOCKED
    assert "2001:db8::20" in found.summary and "IPV6=yes" in str(found.remedy)


def test_ipv6_no_is_said_where_the_server_has_ipv6() -> None:
    found = by_key(server("ipv6-no"))["firewall.ipv6"]
    assert (found.level, found.evidence["addresses"]) == (Level.WARN, ["2001:db8::5"])


def test_ipv6_no_matters_to_nobody_without_ipv6() -> None:
    assert "firewall.ipv6" not in by_key(server("ipv6-no", addresses=ADDRESSES[:1]))


def test_rule_for_ipv6_that_ufw_would_refuse_blocks() -> None:
    wanted = "version: 1\ntls: {mode: internal}\nfirewall: {allow: [{port: 9100, from: 'fd00::/8'}]}\n"
    found = by_key(server("ipv6-no", answers=wanted, addresses=ADDRESSES[:1]))["firewall.ipv6"]
    assert found.level is Level.BLOCKED and "fd00::/8" in found.summary


def test_firewall_is_proved_by_ipv4_where_ipv6_is_shut() -> None:
    about = server("ipv6-no", addresses=ADDRESSES)
    asked: list[Target] = []

    def reached(look: Look) -> None:
        class Seen(type(look.server)):  # type: ignore[misc]
            def reach(self, targets: Sequence[Target]) -> tuple[Any, ...]:
                asked.extend(targets)
                return ()

        seen = Seen(look.server.machine)  # type: ignore[attr-defined]
        find_doubts(seen, replace(look, server=seen), (22,))

    reached(about.look())
    assert {target.address for target in asked} == {"10.0.0.5"}


SSHD4, SSHD6 = Listener("0.0.0.0", 22, "sshd"), Listener("::", 22, "sshd")


@pytest.mark.parametrize(
    ("listeners", "asked"),
    [
        ((SSHD4, SSHD6), {"10.0.0.5", "2001:db8::5"}),
        ((SSHD6,), {"2001:db8::5"}),
        ((SSHD4,), {"10.0.0.5"}),
        ((Listener("::", 22, "systemd", unit="ssh.socket"),), {"10.0.0.5", "2001:db8::5"}),
        ((Listener("10.0.0.5", 22, "sshd"),), {"10.0.0.5"}),
        ((Listener("10.8.0.1", 22, "sshd"), Listener("127.0.0.1", 22, "sshd")), {"10.8.0.1"}),
    ],
    ids=["both", "IPv6 alone", "IPv4 alone", "a socket of both", "one address", "no address of the default route"],
)
def test_firewall_is_proved_where_ssh_listens(listeners: tuple[Listener, ...], asked: set[str]) -> None:
    """A family that sshd does not listen on refuses every packet, whatever the firewall lets in."""
    about = server()
    look = replace(about, description=replace(about.description, listeners=listeners)).look()
    targets = listening_at(look.server, [one.address for one in ADDRESSES], (22,))
    assert {target.address for target in targets} == asked


# ── what is asked for, and what is cut off ──


ALLOW = "version: 1\ntls: {{mode: internal}}\nfirewall: {{allow: [{rule}]}}\n"


def test_range_is_allowed_only_where_all_of_it_is() -> None:
    rule = ALLOW.format(rule="{port: '6000:6010', comment: render}")
    six = OPEN6 + "\n" + BOTH6.format(port="6000:6010")
    part = server(rules=f"{OPEN}\n{BOTH.format(port='6000:6005')}", rules6=six, answers=rule)
    assert commands(inspect(part)) == ["ufw allow 6000:6010/tcp comment render"]
    hole = f"{OPEN}\ndeny tcp 6007 0.0.0.0/0 any 0.0.0.0/0 in\n{BOTH.format(port='6000:6010')}"
    assert "deny 6007/tcp" in by_key(server(rules=hole, rules6=six, answers=rule))["firewall.denied"].summary
    whole = server(rules=f"{OPEN}\n{BOTH.format(port='5000:7000')}", rules6=six, answers=rule)
    assert by_key(whole)["firewall.allow"].level is Level.OK


def test_network_is_allowed_only_where_all_of_it_is() -> None:
    rule = ALLOW.format(rule="{port: 9100, from: 10.0.0.0/8}")
    part = server(rules=f"{OPEN}\nallow tcp 9100 0.0.0.0/0 any 10.0.0.0/24 in", rules6=OPEN6, answers=rule)
    assert commands(inspect(part)) == ["ufw allow from 10.0.0.0/8 to any port 9100 proto tcp"]


def test_port_that_some_reach_by_a_rule_is_not_called_cut_off() -> None:
    about = scenario.load("other-listener")
    listening = [one for one in about.description.listeners if one.port not in (22, 8000)]
    rules = f"{OPEN}\nallow tcp 9400 0.0.0.0/0 any 10.0.0.0/8 in"
    base = server(rules=rules, rules6=OPEN6, enabled=False)
    listener = replace(listening[0], address="0.0.0.0", port=9400, program="exporter", unit="exporter.service")
    described = replace(base.description, listeners=(*base.description.listeners, listener))
    found = by_key(replace(base, description=described))
    assert "9400/tcp (exporter) is reachable from 10.0.0.0/8 alone" in found["firewall.partly_open"].summary
    assert "firewall.cuts_off" not in found


@pytest.mark.parametrize(("policy", "level"), [("ACCEPT", Level.DRIFT), ("DROP", Level.OK), ("REJECT", Level.OK)])
def test_default_policy_is_closed_or_made_so(policy: str, level: Level) -> None:
    found = by_key(server(rules=OPEN, rules6=OPEN6, defaults={"DEFAULT_INPUT_POLICY": policy}))
    assert found["firewall.incoming"].level is level


# ── 200 rules ──


def calls(count: int) -> int:
    """How many functions a look at a server with so many rules calls."""
    many = "\n".join(
        f"deny tcp {number} 0.0.0.0/0 any 198.51.100.{number % 250} in" for number in range(1000, 1000 + count)
    )
    look = server(rules=f"{many}\n{OPEN}", rules6=OPEN6).look_within()
    called = 0

    def note(frame: object, event: str, arg: object) -> None:
        nonlocal called
        called += event == "call"

    sys.setprofile(note)
    try:
        found = list(firewall.inspect(look))
    finally:
        sys.setprofile(None)
    assert all(finding.level is Level.OK for finding in found)
    return called


def test_look_at_many_rules_costs_no_more_than_a_look_at_each() -> None:
    few, many = calls(200), calls(800)
    assert many < 4.2 * few
