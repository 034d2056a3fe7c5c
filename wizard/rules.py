"""What ufw's rules do with those who come to this server: let in, kept out, and by which rule."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .engine import Look
from .model import Finding, Level, RuleIs, Run
from .parse.netfilter import Packet, evaluate, is_ufw_whole
from .parse.ufw import UfwRule, decide
from .server import Firewall

ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
LETS_IN = ("allow", "limit")
SET_IPV6 = "sudo sed -i 's/^IPV6=.*/IPV6=yes/' /etc/default/ufw"
# What ufw itself does after its users' rules: a packet that ends here has met none of them.
_AFTER_THE_RULES = tuple(
    f"-A {ufw}-{chain}-input " for ufw in ("ufw", "ufw6") for chain in ("skip-to-policy", "reject", "user")
)


@dataclass(frozen=True)
class Visit:
    """Packets that open a connection: of one family, by the interface and to the address of the default route."""

    family: int
    source: str | None = None
    interface: str | None = None
    destination: str | None = None


@dataclass(frozen=True)
class Verdict:
    visit: Visit
    action: str
    rule: UfwRule | None

    @property
    def lets_in(self) -> bool:
        """True if a rule says so: a default that lets everybody in is about to be closed."""
        return self.action in LETS_IN and self.rule is not None

    @property
    def keeps_out(self) -> bool:
        return self.action not in LETS_IN and self.rule is not None


@dataclass(frozen=True)
class Rules:
    """The rules of a server, as asked about ports."""

    look: Look
    firewall: Firewall

    def visits(self, source: str | None = None) -> tuple[Visit, ...]:
        """From anywhere, once a family that ufw sees to; or from this source alone."""
        if source is not None:
            families: tuple[int, ...] = (6,) if ":" in source else (4,)
        else:
            families = (4, 6) if self.firewall.defaults.ipv6 else (4,)
        found = []
        for family in families:
            known = [one for one in self.look.server.addresses() if (":" in one.address) == (family == 6)]
            way = next((one for one in known if one.primary), known[0] if known else None)
            interface, address = (way.interface, way.address) if way else (None, None)
            found.append(Visit(family, source, interface, address))
        return tuple(found)

    def verdicts(self, port: int, protocol: str, source: str | None = None) -> tuple[Verdict, ...]:
        return tuple(
            Verdict(visit, *self._decide(self.firewall.rules, visit, port, protocol)) for visit in self.visits(source)
        )

    def _decide(self, rules: tuple[UfwRule, ...], visit: Visit, port: int, protocol: str) -> tuple[str, UfwRule | None]:
        where = (visit.source, visit.interface, visit.family, visit.destination)
        return decide(rules, self.firewall.defaults, port, protocol, *where)

    def let_in(self, port: int, protocol: str, source: str | None = None) -> bool:
        return all(one.lets_in for one in self.verdicts(port, protocol, source))

    def of_all(self, ports: str, protocol: str, source: str | None = None) -> Iterator[tuple[int, tuple[Verdict, ...]]]:
        """The verdicts on a range's ports: on those at which any rule begins or ends, for between them all is alike."""
        first, _, last = ports.partition(":")
        low, high = int(first), int(last or first)
        edges = {low, *(edge for rule in self.firewall.rules for edge in rule.edges if low < edge <= high)}
        for port in sorted(edges):
            yield port, self.verdicts(port, protocol, source)

    def some_are_let_in(self, port: int, protocol: str) -> tuple[UfwRule, ...]:
        """The rules that let some in, by where they come from or by which interface."""
        found = (
            rule
            for rule in self.firewall.rules
            if rule.action in LETS_IN and rule.direction == "in" and not rule.routed and rule.covers(port, protocol)
        )
        return tuple(rule for rule in found if rule.source_port == "any" and rule.sources)

    def shadowed_by(self, verdict: Verdict, port: int, protocol: str) -> UfwRule | None:
        """The rule that would let these packets in, if the one that decides did not come first."""
        rules = self.firewall.rules
        if verdict.rule is None:
            return None
        later = rules[rules.index(verdict.rule) + 1 :]
        action, rule = self._decide(later, verdict.visit, port, protocol)
        return rule if action in LETS_IN else None


def said(rule: UfwRule) -> str:
    return shlex.join(rule.words)


def denied(rules: Rules, verdicts: Iterable[Verdict], port: int, protocol: str) -> Finding | None:
    """An operator's own rule that keeps these packets out: theirs to decide. Named, with what it shadows."""
    verdict = next((one for one in verdicts if one.keeps_out), None)
    if verdict is None or verdict.rule is None:
        return None
    rule, source = verdict.rule, verdict.visit.source
    whom = f"{port}/{protocol}{f' from {source}' if source else ''} (IPv{verdict.visit.family})"
    shadowed = rules.shadowed_by(verdict, port, protocol)
    if shadowed is None:
        summary = f"a rule of yours denies {whom}: {said(rule)}"
    else:
        summary = f"your rule “{said(shadowed)}” never meets {whom}: “{said(rule)}” comes before it"
    remedy = f"if it may go: {rule.deletion}"
    if shadowed is not None:
        words = shlex.join(("ufw", "prepend", *shadowed.words, *_comment(shadowed.comment)))
        remedy += f"; if it stays, and the other is to come first: {shadowed.deletion}; sudo {words}"
    evidence = {"rule": said(rule), "comment": rule.comment, "shadows": said(shadowed) if shadowed else None}
    return Finding("firewall.denied", Level.BLOCKED, summary, f"{remedy}; then run this again", evidence)


def limited(verdicts: Iterable[Verdict], port: int, protocol: str) -> Iterator[Finding]:
    """A service under ufw's limit: right for SSH, and wrong for an API with many short connections."""
    rule = next((one.rule for one in verdicts if one.action == "limit"), None)
    if rule is not None:
        yield Finding(
            "firewall.limited",
            Level.WARN,
            f"{port}/{protocol} is limited by your rule “{said(rule)}”: of one address ufw takes 5 new connections in "
            "30 s and refuses the rest, so busy clients are cut off",
            f"to let all in: {rule.deletion}; then run this again",
            {"rule": said(rule), "comment": rule.comment},
        )


def loaded_refusals(rules: Rules, port: int, protocol: str) -> Iterator[tuple[int, str | None]]:
    """Where ufw's files let packets in, and the loaded rules surely do not: the family, and the rule that refuses
    them before they meet ufw's (None: ufw's own are not loaded as the files have them)."""
    firewall = rules.firewall
    if not (firewall.enabled and firewall.loaded):
        return
    for visit in rules.visits():
        kernel = firewall.kernel6 if visit.family == 6 else firewall.kernel4
        if kernel is None or visit.destination is None:
            continue
        packet = Packet(protocol, port, None, visit.interface, family=visit.family, destination=visit.destination)
        verdict = evaluate(kernel, packet)
        if verdict.result in ("drop", "reject"):
            own = verdict.rule is None or verdict.rule.startswith(_AFTER_THE_RULES)
            yield visit.family, None if own else verdict.rule


def refused_before(rules: Rules, port: int, protocol: str) -> Iterator[Finding]:
    """What drops packets before ufw's rules meet them: lines of before.rules, or rules of another program."""
    for family, rule in loaded_refusals(rules, port, protocol):
        if rule is None:
            continue
        file, program = ("before.rules", "iptables") if family == 4 else ("before6.rules", "ip6tables")
        own = rule.startswith(("-A ufw-before-input ", "-A ufw6-before-input "))
        look = f"sudo nano /etc/ufw/{file}; sudo ufw reload" if own else f"sudo {program}-save | less"
        summary = f"ufw's rules let {port}/{protocol} in, and a rule that comes before them does not: {rule}"
        remedy = f"if it may go, take it out where it was made: {look}; then run this again"
        yield Finding("firewall.refused_before", Level.BLOCKED, summary, remedy, {"rule": rule, "family": family})
        return


def is_all_loaded(rules: Rules, ports: Iterable[int]) -> bool:
    """False where the kernel has not all of ufw: a start that was cut off lets everything in. Or where the files let a
    port in and the kernel has no rule for that: they were edited, and not loaded."""
    firewall = rules.firewall
    kernels, six = [firewall.kernel4], firewall.kernel6
    # Where IPv6 is not there at all ufw loads nothing for it, and nothing is there.
    has_six = any(":" in one.address for one in rules.look.server.addresses()) or (six is not None and six.policies)
    if firewall.defaults.ipv6 and has_six:
        kernels.append(six)
    if not all(is_ufw_whole(one, firewall.defaults.input) for one in kernels if one is not None):
        return False
    return not any(
        rule is None for port in ports if rules.let_in(port, "tcp") for _, rule in loaded_refusals(rules, port, "tcp")
    )


def check_ipv6(look: Look, firewall: Firewall) -> Iterator[Finding]:
    """IPV6=no: ufw then drops all IPv6 but loopback's, whatever its rules say."""
    own = [one.address for one in look.server.addresses() if ":" in one.address]
    operator = look.operator.address if look.operator else ""
    sources = (*(rule.from_ for rule in look.answers.firewall.allow), *look.answers.harden.metrics_from)
    wanted = [source for source in sources if ":" in source]
    if firewall.defaults.ipv6 or not (own or ":" in operator or wanted):
        return
    told = "/etc/default/ufw says IPV6=no: no IPv6 gets in"
    reload = "; sudo ufw reload" if firewall.enabled else ""
    remedy = f"to have the same rules for IPv6: {SET_IPV6}{reload}; then run this again"
    evidence = {"addresses": own, "operator": operator}
    if ":" in operator:
        summary = f"{told}, and you are connected by it, from {operator}: you could not log in again"
        yield Finding("firewall.ipv6", Level.BLOCKED, summary, remedy, evidence)
    elif wanted:
        summary = f"{told}, and ufw takes no rule for it: {', '.join(wanted)} (of the answers)"
        yield Finding("firewall.ipv6", Level.BLOCKED, summary, remedy, evidence)
    else:
        summary = f"{told}, and clients that call {', '.join(own)} get no answer"
        yield Finding("firewall.ipv6", Level.WARN, summary, remedy, evidence)


def _comment(comment: str) -> tuple[str, ...]:
    return ("comment", comment) if comment else ()


def opening(port: str, protocol: str, comment: str, why: str, source: str | None = None, action: str = "allow") -> Run:
    """The rule as its command. ufw keeps comments in single quotes: none can be in one (answers refuse it)."""
    plain = (f"{port}/{protocol}",)
    words = ("from", source, "to", "any", "port", port, "proto", protocol) if source else plain
    effect = RuleIs(port, protocol, source, comment, action=action)
    gone = RuleIs(port, protocol, source, present=False, action=action)
    return Run(
        ("ufw", action, *words, *_comment(comment)),
        why,
        undo=(Run(("ufw", "delete", action, *words), f"take back: {why}", makes=(gone,)),),
        makes=(effect,),
    )


def openings(
    verdicts: Iterable[Verdict], port: str, protocol: str, comment: str, why: str, source: str | None = None
) -> tuple[Run, ...]:
    """The commands that let these packets in. Where one family has its rule, the other alone is told: ufw would take
    the comment, and the limit, of a rule that is there for those of the new one."""
    missing = [one for one in verdicts if not one.lets_in]
    there = [one for one in verdicts if one.lets_in]
    if source is not None or not there:
        return (opening(port, protocol, comment, why, source),)
    action = "limit" if all(one.action == "limit" for one in there) else "allow"
    return tuple(
        opening(port, protocol, comment, f"{why}, by IPv{one.visit.family} too", ANYWHERE[one.visit.family], action)
        for one in missing
    )


def read_opening(argv: tuple[str, ...]) -> RuleIs | None:
    """The rule that a command of `opening` makes; None for any other command."""
    if len(argv) < 3 or argv[0] != "ufw" or argv[1] not in LETS_IN:
        return None
    action, words = argv[1], argv[2:]
    if "comment" in words:
        words = words[: words.index("comment")]
    if words[:1] == ("from",) and len(words) == 8:
        return RuleIs(words[5], words[7], words[1], action=action)
    port, _, protocol = words[0].partition("/")
    return RuleIs(port, protocol, action=action) if protocol else None


def is_there(firewall: Firewall, rule: RuleIs) -> bool:
    """Whether ufw has this very rule."""
    return any(is_rule(known, rule) for known in firewall.rules)


def is_rule(known: UfwRule, rule: RuleIs) -> bool:
    """Whether a rule of ufw's is this very one: not an application's, nor one for an interface or an address."""
    sources = (rule.source,) if rule.source else tuple(ANYWHERE.values())
    return (
        (known.action, known.port, known.protocol) == (rule.action, rule.port, rule.protocol)
        and known.source in sources
        and known.destination in ANYWHERE.values()
        and known.source_port == "any"
        and (known.direction, known.routed) == ("in", False)
        and (known.interface, known.application) == (None, None)
    )
