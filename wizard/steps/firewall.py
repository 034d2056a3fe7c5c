"""Firewall: SSH first, then what is served; everything else closed. The change undoes itself unless proved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .. import paths
from ..apt import finish_cut_off, install, refresh_system
from ..engine import Look, Step
from ..model import Action, Finding, FirewallIs, Level, RuleIs, Run
from ..parse.ufw import UfwRule, decide
from ..questions import Choice, Kind, Question
from ..safety import arm, clear_away, prove_and_disarm
from ..server import Firewall
from ..ssh import find_ssh_ports


def inspect(look: Look) -> Iterator[Finding]:
    firewall = look.server.firewall()
    if not look.answers.firewall.manage:
        yield Finding(
            "firewall.not_managed",
            Level.INFO,
            f"the firewall is left alone, as the answers say; ufw is {'on' if firewall.enabled else 'off'}",
        )
        return
    ports = find_ssh_ports(look).ports
    findings = [*check_package(look, firewall), *check_ssh(look, firewall, ports), *check_services(look, firewall)]
    findings += [*check_leftovers(look, firewall), *check_incoming(look, firewall), check_enabled(firewall)]
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
            fix=(finish_cut_off(), install(("ufw",), "the firewall's tool", again=True)),
        )
    elif firewall.installed:
        yield Finding("firewall.package", Level.OK, "ufw is installed")
    else:
        yield Finding(
            "firewall.package",
            Level.DRIFT,
            "ufw is not installed",
            fix=(refresh_system(look.server), install(("ufw",), "the firewall's tool")),
        )


def families(firewall: Firewall) -> tuple[int, ...]:
    return (4, 6) if firewall.defaults.ipv6 else (4,)


def verdicts(
    firewall: Firewall, port: int, protocol: str, source: str | None = None, interface: str | None = None
) -> list[tuple[str, UfwRule | None]]:
    """What the rules say for this port, once a family; from anywhere, or from this source alone."""
    asked = families(firewall) if source is None else ((6,) if ":" in source else (4,))
    return [decide(firewall.rules, firewall.defaults, port, protocol, source, interface, family) for family in asked]


def lets_in(
    firewall: Firewall, port: int, protocol: str, source: str | None = None, interface: str | None = None
) -> bool:
    found = verdicts(firewall, port, protocol, source, interface)
    return all(action in ("allow", "limit") and rule is not None for action, rule in found)


def allow(port: str, protocol: str, comment: str, why: str, source: str | None = None) -> Run:
    """The rule as its command. ufw keeps comments in single quotes: none can be in one (answers refuse it)."""
    plain = (f"{port}/{protocol}",)
    words = ("from", source, "to", "any", "port", port, "proto", protocol) if source else plain
    effect = RuleIs(port, protocol, source, comment)
    gone = RuleIs(port, protocol, source, present=False)
    return Run(
        ("ufw", "allow", *words, *(("comment", comment) if comment else ())),
        why,
        undo=(Run(("ufw", "delete", "allow", *words), f"take back: {why}", makes=(gone,)),),
        makes=(effect,),
    )


def denied(firewall: Firewall, port: int, protocol: str) -> Finding | None:
    """An operator's own rule that denies this port: theirs to decide."""
    for action, rule in verdicts(firewall, port, protocol):
        if rule is not None and action in ("deny", "reject"):
            return Finding(
                "firewall.denied",
                Level.BLOCKED,
                f"a rule of yours denies {port}/{protocol} ({rule.action} {_words(rule)}, IPv{rule.family})",
                remedy=f"if it may go: sudo ufw delete {rule.action} {_words(rule)}; then run this again",
                evidence={"rule": f"{rule.action} {_words(rule)}", "comment": rule.comment},
            )
    return None


def _words(rule: UfwRule) -> str:
    return rule.port if rule.protocol == "any" else f"{rule.port}/{rule.protocol}"


def check_ssh(look: Look, firewall: Firewall, ports: tuple[int, ...]) -> Iterator[Finding]:
    operator = look.operator
    for port in ports:
        if lets_in(firewall, port, "tcp"):
            yield Finding("firewall.ssh_port", Level.OK, f"SSH ({port}/tcp) is allowed", evidence={"port": port})
        elif operator is not None and operator.port == port and lets_in(firewall, port, "tcp", operator.address):
            summary = f"SSH ({port}/tcp) is allowed from {operator.address}, where you are, by a rule of yours"
            yield Finding("firewall.ssh_port", Level.OK, summary, evidence={"port": port})
        elif (finding := denied(firewall, port, "tcp")) is not None:
            yield finding
        else:
            yield Finding(
                "firewall.ssh_port",
                Level.DRIFT,
                f"SSH ({port}/tcp) is not allowed yet",
                evidence={"port": port},
                fix=(allow(str(port), "tcp", "SSH", "keep SSH possible, before anything is closed"),),
            )


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


def check_services(look: Look, firewall: Firewall) -> Iterator[Finding]:
    for port, protocol, comment, source, key in wanted(look):
        first = int(port.split(":")[0])
        where = f" from {source}" if source else ""
        if lets_in(firewall, first, protocol, source.split("/")[0] if source else None):
            yield Finding(key, Level.OK, f"{port}/{protocol} is allowed{where}")
        elif (finding := denied(firewall, first, protocol)) is not None:
            yield finding
        else:
            name = comment or "a rule of the answers"
            why = f"let {comment or 'this'} in{where}"
            fix: tuple[Action, ...] = (allow(port, protocol, comment, why, source),)
            yield Finding(key, Level.DRIFT, f"{port}/{protocol} ({name}) is not allowed yet{where}", fix=fix)


def check_leftovers(look: Look, firewall: Firewall) -> Iterator[Finding]:
    """Rules that we made and no answer wants any more: another mode's port 80. SSH's are never taken away."""
    kept = {allow(port, protocol, comment, "", source).argv for port, protocol, comment, source, _ in wanted(look)}
    for argv, undo in look.owned.commands:
        if argv[:2] != ("ufw", "allow") or argv in kept or argv[-1] == "SSH":
            continue
        rule = read_allow(argv)
        if rule is None or not is_there(firewall, rule):
            continue
        yield Finding(
            "firewall.rule_left",
            Level.DRIFT,
            f"{rule.port}/{rule.protocol} is still allowed, by a rule of an earlier run that nothing needs now",
            fix=tuple(
                Run(command, "close what is no longer needed", makes=(replace(rule, present=False),))
                for command in undo
            ),
        )


def read_allow(argv: tuple[str, ...]) -> RuleIs | None:
    """The rule that a command of `allow` made."""
    words = argv[2:]
    if "comment" in words:
        words = words[: words.index("comment")]
    if words[:1] == ("from",) and len(words) == 8:
        return RuleIs(words[5], words[7], words[1])
    port, _, protocol = words[0].partition("/")
    return RuleIs(port, protocol) if protocol else None


def is_there(firewall: Firewall, rule: RuleIs) -> bool:
    return any(
        (known.action, known.port, known.protocol) == ("allow", rule.port, rule.protocol)
        and known.source in (rule.source or "0.0.0.0/0", rule.source or "::/0")
        and known.direction == "in"
        for known in firewall.rules
    )


def check_incoming(look: Look, firewall: Firewall) -> Iterator[Finding]:
    """What the default does with all other packets, and whom that cuts off."""
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
        opened = lets_in(firewall, port, "tcp")
        if port in expected:
            continue
        if opened and closed:
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
    ssh, ours = find_ssh_ports(look).ports, (look.answers.vllm.unit, "caddy.service")
    return sorted(
        {
            (one.port, one.program)
            for one in look.server.listeners()
            if not one.is_loopback and one.unit not in ours and one.port not in ssh
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


def check_enabled(firewall: Firewall) -> Finding:
    if firewall.enabled and firewall.loaded is not False:
        return Finding("firewall.enabled", Level.OK, "ufw is on, also after reboots")
    if firewall.enabled:
        return Finding(
            "firewall.enabled",
            Level.DRIFT,
            "ufw is on in its file, but its rules are not loaded",
            fix=(Run(("ufw", "reload"), "load ufw's rules", makes=(FirewallIs(active=True),)),),
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
        ),
    )


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
