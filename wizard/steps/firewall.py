"""Firewall: SSH first, then what is served; everything else closed. The change undoes itself unless proved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .. import paths
from ..apt import finish_cut_off, install, refresh_system
from ..boot import enable, is_masked, unmask
from ..engine import Look, Step
from ..model import Action, Finding, FirewallIs, Level, Run, UnitIs
from ..models import units
from ..parse.netfilter import is_ufw_stopped
from ..parse.ufw import UfwRule
from ..published import find_published
from ..queries import ALL_PACKAGES, LOADED_RULES, SSH_CONFIGURED, begin_together, units_of_every_look
from ..questions import Choice, Kind, Question
from ..rules import (
    ANYWHERE,
    Rules,
    Verdict,
    check_ipv6,
    denied,
    is_all_loaded,
    is_there,
    limited,
    openings,
    read_opening,
    refused_before,
    said,
)
from ..safety import arm, clear_away, prove_and_disarm
from ..server import Firewall
from ..ssh import find_ssh_ports
from ..ufw_files import check_whole

UNIT = "ufw.service"


def inspect(look: Look) -> Iterator[Finding]:
    units = units_of_every_look(look.answers.vllm.unit)
    begin_together(look.server, units, SSH_CONFIGURED, *LOADED_RULES, ALL_PACKAGES)
    firewall = look.server.firewall()
    if not look.answers.firewall.manage:
        yield Finding(
            "firewall.not_managed",
            Level.INFO,
            f"the firewall is left alone, as the answers say; ufw is {'on' if firewall.enabled else 'off'}",
        )
        return
    yield from check_rules(look, firewall)
    if firewall.installed:
        yield check_boot(look)


def check_rules(look: Look, firewall: Firewall) -> Iterator[Finding]:
    """The rules and their state; a change of them is undone unless it is proved."""
    ports = find_ssh_ports(look).ports
    rules = Rules(look, firewall)
    cut_off = check_whole(firewall)
    findings = [*check_package(look, firewall), *((cut_off,) if cut_off else ())]
    findings += [*check_ipv6(look, firewall), *check_ssh(look, rules, ports)]
    findings += [*check_services(look, rules), *check_leftovers(look, firewall)]
    findings += [*check_incoming(look, rules), check_enabled(rules, (443, *ports))]
    changing = [finding for finding in findings if finding.level is Level.DRIFT]
    unproved = look.server.read(paths.UNCONFIRMED) is not None
    if not changing and not unproved:
        yield from findings
        if left := clear_away(look.server):
            yield Finding("firewall.safety", Level.DRIFT, "an undo that is no longer needed is still there", fix=left)
        return
    yield from (finding for finding in findings if finding.key == "firewall.package")
    seconds = look.answers.firewall.safety_seconds
    yield Finding(
        "firewall.safety",
        Level.DRIFT,
        "an earlier change was never proved" if unproved else f"the change undoes itself in {seconds} s unless proved",
        fix=arm(look, was_active=firewall.enabled and firewall.loaded is not False),
    )
    yield from (finding for finding in findings if finding.key != "firewall.package")
    yield Finding(
        "firewall.proof",
        Level.DRIFT,
        "then a packet from outside must reach SSH: else all is put back",
        fix=prove_and_disarm(look, ports),
    )


def check_package(look: Look, firewall: Firewall) -> Iterator[Finding]:
    if look.server.packages("ufw")["ufw"].half_configured:
        yield Finding(
            "firewall.package",
            Level.DRIFT,
            "ufw is only half installed: an earlier installation was cut off",
            fix=(finish_cut_off(), install_ufw(again=True)),
        )
    elif firewall.installed:
        yield Finding("firewall.package", Level.OK, "ufw is installed")
    else:
        yield Finding(
            "firewall.package",
            Level.DRIFT,
            "ufw is not installed",
            fix=(refresh_system(look.server), install_ufw()),
        )


def check_ssh(look: Look, rules: Rules, ports: tuple[int, ...]) -> Iterator[Finding]:
    for port in ports:
        operator = look.operator.address if look.operator is not None and look.operator.port == port else None
        from_here = rules.verdicts(port, "tcp", operator) if operator else ()
        verdicts = rules.verdicts(port, "tcp")
        some = rules.some_are_let_in(port, "tcp")
        evidence = {"port": port}
        if (finding := denied(rules, from_here, port, "tcp")) is not None:
            yield finding
        elif all(one.lets_in for one in verdicts):
            limit = next((one.rule for one in verdicts if one.action == "limit"), None)
            more = f", by your rule “{said(limit)}”: the limit stays" if limit else ""
            yield Finding("firewall.ssh_port", Level.OK, f"SSH ({port}/tcp) is allowed{more}", evidence=evidence)
        elif from_here and all(one.lets_in for one in from_here) and not lacks_a_family(verdicts, some):
            summary = f"SSH ({port}/tcp) is allowed from {operator}, where you are, by a rule of yours"
            yield Finding("firewall.ssh_port", Level.OK, summary, evidence=evidence)
        elif (finding := denied(rules, verdicts, port, "tcp")) is not None:
            yield finding
        elif look.operator is None and some:
            where = ", ".join(dict.fromkeys(rule.sources for rule in some))
            summary = f"SSH ({port}/tcp) is allowed {where} alone, by rules of yours"
            yield Finding("firewall.ssh_port", Level.OK, summary, evidence=evidence)
        else:
            yield Finding(
                "firewall.ssh_port",
                Level.DRIFT,
                f"SSH ({port}/tcp) is not allowed yet{by_family(verdicts)}",
                evidence=evidence,
                fix=openings(verdicts, str(port), "tcp", "SSH", "keep SSH possible, before anything is closed"),
            )


def lacks_a_family(verdicts: Sequence[Verdict], some: Sequence[UfwRule]) -> bool:
    """True where anybody gets in by one family, and no rule says anything of the other."""
    missing = {one.visit.family for one in verdicts if one.rule is None}
    return any(one.lets_in for one in verdicts) and bool(missing - {rule.family for rule in some})


def by_family(verdicts: Sequence[Verdict]) -> str:
    """Which family is meant, where the other has its rule."""
    missing = [one.visit.family for one in verdicts if not one.lets_in]
    return f" by IPv{missing[0]}" if len(missing) < len(verdicts) else ""


def wanted(look: Look) -> Iterator[tuple[str, str, str, str | None, str]]:
    """The ports to open beside SSH: port, protocol, comment, source, and the finding's key."""
    answers = look.answers
    yield "443", "tcp", "HTTPS", None, "firewall.https_port"
    if answers.proxy.http3:
        yield "443", "udp", "HTTP/3", None, "firewall.http3_port"
    if answers.firewall.http is True or (answers.firewall.http == "auto" and answers.tls.mode != "internal"):
        yield "80", "tcp", "HTTP", None, "firewall.http_port"
    for rule in answers.firewall.allow:
        source = None if rule.from_ == "any" else rule.from_
        yield str(rule.port), rule.protocol, rule.comment, source, "firewall.allow"
    for scraper in answers.harden.metrics_from:
        yield str(answers.harden.metrics_port), "tcp", "metrics", scraper, "firewall.metrics_port"


def check_services(look: Look, rules: Rules) -> Iterator[Finding]:
    for port, protocol, comment, source, key in wanted(look):
        where = f" from {source}" if source else ""
        judged = list(rules.of_all(port, protocol, source))
        shut = [(number, verdicts) for number, verdicts in judged if not all(one.lets_in for one in verdicts)]
        blocked = (denied(rules, verdicts, number, protocol) for number, verdicts in shut)
        if not shut:
            yield Finding(key, Level.OK, f"{port}/{protocol} is allowed{where}")
            for number, verdicts in judged if key != "firewall.allow" else ():
                yield from limited(verdicts, number, protocol)
                yield from refused_before(rules, number, protocol)
        elif (finding := next((one for one in blocked if one is not None), None)) is not None:
            yield finding
        else:
            name = comment or "a rule of the answers"
            why = f"let {comment or 'this'} in{where}"
            verdicts = shut[0][1] if len(judged) == 1 else ()
            fix: tuple[Action, ...] = openings(verdicts, port, protocol, comment, why, source)
            summary = f"{port}/{protocol} ({name}) is not allowed yet{where}{by_family(verdicts) if verdicts else ''}"
            yield Finding(key, Level.DRIFT, summary, fix=fix)


def check_leftovers(look: Look, firewall: Firewall) -> Iterator[Finding]:
    """Rules that we made and no answer wants any more: another mode's port 80. SSH's are never taken away."""
    kept = {(port, protocol, source) for port, protocol, _, source, _ in wanted(look)}
    for known in look.owned.commands:
        rule = read_opening(known.argv) if known.argv[-1] != "SSH" else None
        if rule is None or not is_there(firewall, rule):
            continue
        source = None if rule.source in ANYWHERE.values() else rule.source
        if (rule.port, rule.protocol, source) in kept:
            continue
        yield Finding(
            "firewall.rule_left",
            Level.DRIFT,
            f"{rule.port}/{rule.protocol} is still allowed, by a rule of an earlier run that nothing needs now",
            fix=tuple(
                Run(command, "close what is no longer needed", makes=(replace(rule, present=False),))
                for command in known.undo
            ),
        )


def check_incoming(look: Look, rules: Rules) -> Iterator[Finding]:
    """What the default does with all other packets, and whom that cuts off."""
    firewall = rules.firewall
    if firewall.defaults.input != "allow":
        yield Finding("firewall.incoming", Level.OK, f"incoming is {firewall.defaults.input} by default")
    else:
        command = ("ufw", "default", "deny", "incoming")
        back = Run(("ufw", "default", "allow", "incoming"), "", makes=(FirewallIs(incoming="allow"),))
        yield Finding(
            "firewall.incoming",
            Level.DRIFT,
            "incoming is allowed by default: every port that listens is open",
            fix=(
                Run(
                    command,
                    "close every port that no rule opens",
                    undo=(back,),
                    makes=(FirewallIs(incoming="deny"),),
                ),
            ),
        )
    closed = firewall.enabled and firewall.defaults.input != "allow"
    expected = {int(port.split(":")[0]) for port, *_ in wanted(look)}
    for port, program in others_that_listen(look):
        if port in expected:
            continue
        opened = rules.let_in(port, "tcp")
        some = () if opened else rules.some_are_let_in(port, "tcp")
        if some:
            where = ", ".join(dict.fromkeys(rule.sources for rule in some))
            summary = f"{port}/tcp ({program or 'unknown'}) is reachable {where} alone, by a rule of yours"
            yield Finding("firewall.partly_open", Level.INFO, summary, evidence={"port": port, "program": program})
        elif opened and closed:
            yield Finding("firewall.other_open", Level.INFO, f"{port}/tcp ({program}) is open too, by a rule of yours")
        elif not opened and not closed:
            yield Finding(
                "firewall.cuts_off",
                Level.WARN,
                f"{port}/tcp ({program or 'unknown'}) will no longer be reachable from outside",
                remedy=f"to keep it: firewall: {{allow: [{{port: {port}}}]}}",
                evidence={"port": port, "program": program},
            )


def others_that_listen(look: Look) -> list[tuple[int, str]]:
    """Ports and programs that other machines may want to reach, beside SSH, vLLM and Caddy."""
    ssh, ours = find_ssh_ports(look).ports, (*units(look.answers), "caddy.service")
    # ufw has no say in what is led past it, as preflight tells.
    published = {one.port for one in find_published(look) if one.protocol == "tcp"}
    return sorted(
        {
            (one.port, one.program)
            for one in look.server.listeners()
            if not one.is_loopback and one.unit not in ours and one.port not in ssh and one.port not in published
        }
    )


def ask(look: Look, seen: Sequence[Finding]) -> Iterator[Question]:
    """Each service that would be cut off can be kept; so can each rule that was answered before."""
    if not look.answers.firewall.manage:
        return
    given = [rule.model_dump(by_alias=True, exclude_unset=True) for rule in look.answers.firewall.allow]
    cut_off = [finding.evidence for finding in seen if finding.key == "firewall.cuts_off"]
    rules: list[dict[str, object]] = [{"port": one["port"], "comment": one["program"]} for one in cut_off]
    choices = [Choice(rule, _label(rule)) for rule in sorted((*given, *rules), key=lambda rule: str(rule["port"]))]
    if choices:
        label = "No longer reachable from outside, unless you keep it"
        yield Question("firewall.allow", label, Kind.ANY, tuple(choices), tells="firewall.cuts_off")


def _label(rule: dict[str, object]) -> str:
    source = rule.get("from", "any")
    where = "" if source == "any" else f" from {source}"
    return f"{rule['port']}/{rule.get('protocol', 'tcp')} {rule.get('comment', '')}{where}".strip()


def check_enabled(rules: Rules, ports: tuple[int, ...]) -> Finding:
    firewall = rules.firewall
    kernels = [one for one in (firewall.kernel4, firewall.kernel6) if one is not None]
    reload = Run(("ufw", "reload"), "load ufw's rules", makes=(FirewallIs(active=True),))
    if firewall.enabled and firewall.loaded is not False and is_all_loaded(rules, ports):
        return Finding("firewall.enabled", Level.OK, "ufw is on, and its rules are loaded")
    if firewall.enabled:
        return Finding(
            "firewall.enabled",
            Level.DRIFT,
            "ufw is on in its file, but its rules are not loaded as its files have them",
            fix=(reload,),
        )
    off = Run(("ufw", "--force", "disable"), "switch the firewall off again", makes=(FirewallIs(active=False),))
    return Finding(
        "firewall.enabled",
        Level.DRIFT,
        "ufw is off",
        fix=(
            Run(
                ("ufw", "--force", "enable"),
                "switch the firewall on, now and after reboots",
                undo=(off,),
                makes=(FirewallIs(active=True),),
            ),
            *(() if all(map(is_ufw_stopped, kernels)) else (reload,)),
        ),
    )


def check_boot(look: Look) -> Finding:
    """ufw.conf says that ufw is on; its unit is what loads the rules at boot. That lets nobody in or out now: there is
    nothing to be proved."""
    unit = look.server.units(UNIT)[UNIT]
    if unit.is_enabled:
        return Finding("firewall.boot", Level.OK, f"{UNIT} is enabled")
    if is_masked(unit):
        summary = f"{UNIT} is masked, somebody has forbidden it to run: after a reboot there would be no firewall"
        return Finding("firewall.boot", Level.BLOCKED, summary, unmask(UNIT))
    summary = f"{UNIT} is disabled: after a reboot there would be no firewall"
    return Finding("firewall.boot", Level.DRIFT, summary, fix=(enable(UNIT, "load the rules at boot"),))


def install_ufw(*, again: bool = False) -> Run:
    makes = (UnitIs(UNIT, active=True, enabled=True),)
    undoes = (UnitIs(UNIT, active=False, enabled=False, exists=False),)
    return install(("ufw",), "the firewall's tool", makes, undoes, again=again)


STEP = Step(
    "firewall",
    "Firewall",
    inspect,
    ask=ask,
    about="Which doors stay open. Everything else is closed.",
    help=(
        "ufw is Ubuntu's firewall. SSH is allowed before anything is closed, then HTTPS; every other port no longer "
        "answers to other machines. What listens there goes on, for programs on this server.\n\n"
        "You can't be locked out: after the change a packet from outside must reach SSH, and the loaded rules must let "
        "your own address in. If that can't be shown, everything is put back as it was, even if this program is "
        "killed or the server reboots. Your session stays up in any case."
    ),
)
