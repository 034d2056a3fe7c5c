"""The rules that the kernel has loaded, and what they do with one packet.

`iptables-save` prints them; the walk is symbolic. A condition is met, not met, or can't be known from the
packet alone; where the answer hangs on one that can't be known, the verdict is "unsure", never a guess.
"""

import functools
from dataclasses import dataclass, field

from wizard.parse.conditions import Met, judge

_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "TARPIT": "drop"}
# Targets after which the next rule is met.
_PASSING = frozenset(
    {"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "SET", "TRACE", "AUDIT", "CLASSIFY", "CHECKSUM", "TCPMSS"}
)
_UFW_LIMITS = frozenset({"ufw-user-limit", "ufw6-user-limit"})
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Match:
    """One option of a rule, such as `--dport 22`; an option with two values keeps both."""

    option: str
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True)
class Rule:
    """One -A line. `target` is None for a rule that only counts."""

    chain: str
    matches: tuple[Match, ...]
    target: str | None
    target_options: tuple[str, ...] = ()
    goto: bool = False
    text: str = ""


@dataclass(frozen=True)
class Ruleset:
    """One table. `unparsed` holds what the walk could not take into account."""

    policies: dict[str, str] = field(default_factory=dict)
    chains: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    unparsed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Packet:
    """A packet as it meets a chain. None means: not known. `new` opens a connection (TCP: SYN).

    `original_port` is the one that it was sent to, where that has been translated since.
    """

    protocol: str
    port: int | None
    source: str | None = None
    interface: str | None = None
    new: bool = True
    destination: str | None = None
    family: int = 4
    original_port: int | None = None


@dataclass(frozen=True)
class Verdict:
    """`result` is accept, drop, reject or unsure; `rule` decided (None: the chain's policy).

    Where a packet is refused either way, it is the first way that is told.
    """

    result: str
    rule: str | None


@functools.lru_cache(maxsize=8)
def parse_ruleset(text: str, table: str = "filter") -> Ruleset:
    """One table of `iptables-save` or `ip6tables-save`; a look reads the same text several times."""
    policies: dict[str, str] = {}
    chains: dict[str, list[Rule]] = {}
    unparsed: list[str] = []
    current = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith("*"):
            current = line[1:].strip()
        elif line.startswith("#") or not line:
            if "incompatible" in line or "legacy tables present" in line:
                unparsed.append(line)
        elif line == "COMMIT":
            current = ""
        elif current == table:
            _read_line(line, policies, chains, unparsed)
        elif not current:
            unparsed.append(line)
    return Ruleset(policies, {name: tuple(rules) for name, rules in chains.items()}, tuple(unparsed))


def _read_line(line: str, policies: dict[str, str], chains: dict[str, list[Rule]], unparsed: list[str]) -> None:
    fields = line.split()
    if line.startswith(":") and len(fields) >= 2:
        chains.setdefault(fields[0][1:], [])
        if fields[1] != "-":
            policies[fields[0][1:]] = fields[1]
        return
    rule = _parse_rule(line)
    if rule is None:
        unparsed.append(line)
    else:
        chains.setdefault(rule.chain, []).append(rule)


def _parse_rule(line: str) -> Rule | None:
    words = _split(line)
    while words and words[0][0].startswith("["):
        words = words[1:]
    if len(words) < 2 or words[0][0] not in ("-A", "--append"):
        return None
    text = line[line.index("-A") :] if "-A" in line else line
    matches: list[Match] = []
    target: str | None = None
    negated, goto, index = False, False, 2
    while index < len(words):
        word, quoted = words[index]
        index += 1
        if word == "!" and not quoted:
            negated = True
            continue
        if quoted or not word.startswith("-"):
            return None
        if word in ("-j", "--jump", "-g", "--goto"):
            if index >= len(words):
                return None
            target, goto = words[index][0], word in ("-g", "--goto")
            options = tuple(option for option, _ in words[index + 1 :])
            return Rule(words[1][0], tuple(matches), target, options, goto, text)
        values = []
        while index < len(words) and (words[index][1] or not words[index][0].startswith(("-", "!"))):
            values.append(words[index][0])
            index += 1
        matches.append(Match(word, tuple(values), negated))
        negated = False
    return Rule(words[1][0], tuple(matches), target, (), goto, text)


def _split(line: str) -> list[tuple[str, bool]]:
    """Words of a line and whether they were quoted, as iptables-save does it (double quotes, backslash)."""
    if '"' not in line:
        return [(word, False) for word in line.replace("\t", " ").split(" ") if word]
    words: list[tuple[str, bool]] = []
    word, quoted, inside, escaped, begun = "", False, False, False, False
    for character in line:
        if escaped:
            word, escaped = word + character, False
        elif inside and character == "\\":
            escaped = True
        elif character == '"':
            inside, quoted, begun = not inside, True, True
        elif character in " \t" and not inside:
            if begun:
                words.append((word, quoted))
            word, quoted, begun = "", False, False
        else:
            word, begun = word + character, True
    if begun:
        words.append((word, quoted))
    return words


def is_ufw_loaded(ruleset: Ruleset) -> bool:
    """True if packets to this server pass through ufw's chains, and those are not empty."""
    targets = _targets(ruleset, "INPUT")
    return any(name in targets and bool(ruleset.chains.get(name)) for name in ("ufw-before-input", "ufw6-before-input"))


def is_ufw_whole(ruleset: Ruleset, incoming: str) -> bool:
    """True if ufw has loaded all of it: its users' rules are asked, and what they do not decide ends as by its default.

    A start hooks those rules in and sets the policy last, in this order (ufw-init-functions, ufw 0.36.2): one that was
    cut off has neither, and lets everything in.
    """
    inputs, policy = _targets(ruleset, "INPUT"), "ACCEPT" if incoming == "allow" else "DROP"
    return ruleset.policies.get("INPUT") == policy and any(
        f"{ufw}-before-input" in inputs and f"{ufw}-user-input" in _targets(ruleset, f"{ufw}-before-input")
        for ufw in ("ufw", "ufw6")
    )


def is_ufw_stopped(ruleset: Ruleset) -> bool:
    """True if nothing keeps ufw from starting. Where its users' chain is there, a start says that it was done already,
    and loads nothing; a stop that was cut off leaves that chain, full or empty (ufw-init-functions, ufw 0.36.2)."""
    return ruleset.chains.keys().isdisjoint(("ufw-user-input", "ufw6-user-input"))


def _targets(ruleset: Ruleset, chain: str) -> set[str | None]:
    return {rule.target for rule in ruleset.chains.get(chain, ())}


def foreign_rules(ruleset: Ruleset, chain: str = "INPUT") -> tuple[str, ...]:
    """Rules of the chain that are not ufw's own jumps: they act before or beside ufw."""
    return tuple(
        rule.text
        for rule in ruleset.chains.get(chain, ())
        if rule.target is None or not rule.target.startswith(("ufw-", "ufw6-"))
    )


def foreign_chains(ruleset: Ruleset) -> tuple[str, ...]:
    """Chains that neither the kernel nor ufw made, such as Docker's or fail2ban's."""
    return tuple(
        name for name in ruleset.chains if name not in ruleset.policies and not name.startswith(("ufw-", "ufw6-"))
    )


def evaluate(ruleset: Ruleset, packet: Packet, chain: str = "INPUT") -> Verdict:
    """What the chain does with the packet.

    Sure only if every way through the rules that is possible for the packet ends the same. A rule that
    can't be judged (an address set, a rate limit, a mark, an option unknown here) keeps both ways open. One
    exception, so that ufw's `limit` can be read at all: the source is taken to be below its limit.
    """
    endings, falls = _Walk(ruleset, packet).through(chain, 0)
    if falls:
        policy = ruleset.policies.get(chain, "ACCEPT" if chain not in ruleset.chains else "unsure")
        endings = (*endings, Verdict(_VERDICTS.get(policy, "unsure"), None))
    refused = {ending.result in ("drop", "reject") for ending in endings if ending.result != "unsure"}
    unsure = any(ending.result == "unsure" for ending in endings)
    if ruleset.unparsed or unsure or len(refused) != 1:
        doubtful = next((ending.rule for ending in endings if ending.rule is not None), None)
        return Verdict("unsure", ruleset.unparsed[0] if ruleset.unparsed else doubtful)
    return endings[0]


class _Walk:
    """All possible endings of one packet; a chain does the same from wherever it is met."""

    def __init__(self, ruleset: Ruleset, packet: Packet) -> None:
        self._ruleset = ruleset
        self._packet = packet
        self._known: dict[str, tuple[tuple[Verdict, ...], bool]] = {}

    def through(self, chain: str, depth: int) -> tuple[tuple[Verdict, ...], bool]:
        """Endings in this chain, in order, and whether the packet may leave it without one."""
        if chain in self._known:
            return self._known[chain]
        # A chain that is met again on the way through itself: the kernel would have refused that.
        self._known[chain] = ((Verdict("unsure", f"chain {chain}"),), True)
        endings: list[Verdict] = []
        falls, may_return = True, False
        for rule in self._ruleset.chains.get(chain, ()):
            met = self._meets(rule)
            if met is Met.NO or rule.target is None or rule.target in _PASSING:
                continue
            rule_endings, rule_falls = self._follow(rule, depth)
            endings.extend(ending for ending in rule_endings if ending not in endings)
            if met is Met.YES and not rule_falls:
                falls = False
                break
            if rule_falls and (rule.target == "RETURN" or rule.goto):
                # Back to the caller: for certain, or only perhaps.
                if met is Met.YES:
                    break
                may_return = True
        self._known[chain] = (tuple(endings), falls or may_return)
        return self._known[chain]

    def _follow(self, rule: Rule, depth: int) -> tuple[tuple[Verdict, ...], bool]:
        target = rule.target or ""
        if target in _VERDICTS:
            return (Verdict(_VERDICTS[target], rule.text),), False
        if target == "RETURN":
            return (), True
        if target not in self._ruleset.chains or depth >= _MAX_DEPTH:
            return (Verdict("unsure", rule.text),), True
        return self.through(target, depth + 1)

    def _meets(self, rule: Rule) -> Met:
        if rule.target in _UFW_LIMITS and any(match.option == "--hitcount" for match in rule.matches):
            return Met.NO
        return judge(rule.matches, self._packet)
