"""What ufw stored: its rules, whether it is enabled, and its default policies.

The files under /etc/ufw are read, not `ufw status`: they hold every field of a rule, in any language.
"""

import ipaddress
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_TUPLE = re.compile(r"^### tuple ###\s*(\S.*)$")
_ANY_ADDRESS = frozenset({"any", "0.0.0.0/0", "::/0"})
_ACTIONS = frozenset({"allow", "deny", "reject", "limit"})
_LOG_LEVELS = frozenset({"off", "low", "medium", "high", "full"})
_POLICIES = {"accept": "allow", "drop": "deny", "reject": "reject"}


@dataclass(frozen=True)
class UfwRule:
    """One rule as `ufw show added` would name it. `interface` is where a packet comes in, or, out, leaves."""

    action: str
    protocol: str
    port: str
    source: str
    source_port: str
    destination: str
    direction: str
    interface: str | None = None
    routed: bool = False
    comment: str = ""
    application: str | None = None
    family: int = 4
    out_interface: str | None = None
    source_application: str | None = None
    logged: str = ""

    @property
    def anywhere(self) -> bool:
        """True if the rule asks nothing of a packet but its protocol and its destination port."""
        return (
            self.source in _ANY_ADDRESS
            and self.destination in _ANY_ADDRESS
            and self.interface is None
            and self.out_interface is None
            and self.source_port == "any"
        )

    @property
    def words(self) -> tuple[str, ...]:
        """The rule as ufw is told it and `ufw show added` prints it, without its comment."""
        short = self.anywhere and self.source_application is None and self.port != "any"
        if short:
            way = () if self.direction == "in" else (self.direction,)
            ports = self.port if self.protocol == "any" else f"{self.port}/{self.protocol}"
            said = (*way, *_given(self.logged), self.application or ports)
        else:
            came_in, went_out = self.interface, self.out_interface
            if self.direction == "out":
                came_in, went_out = None, self.interface
            bare_out = self.direction == "out" and went_out is None
            ways = (("in", came_in), ("out", went_out))
            said = (
                *(word for way, name in ways if name for word in (way, "on", name)),
                *(("out",) if bare_out else ()),
                *_given(self.logged),
                *self._ends(named=bool(came_in or went_out)),
            )
            if self.protocol != "any" and not self.application and not self.source_application:
                said += ("proto", self.protocol)
        return (*(("route",) if self.routed else ()), self.action, *said)

    def _ends(self, *, named: bool) -> tuple[str, ...]:
        """From where and to where, as far as the rule asks for either; `named` where it has an interface."""
        ends: list[str] = []
        for word, address, port, application in (
            ("from", self.source, self.source_port, self.source_application),
            ("to", self.destination, self.port, self.application),
        ):
            place = "any" if address in _ANY_ADDRESS else address
            if (place, port, application) == ("any", "any", None):
                continue
            ends += [word, place]
            ends += ["app", application] if application else [] if port == "any" else ["port", port]
        return tuple(ends) if ends or named else ("to", "any")

    @property
    def deletion(self) -> str:
        """The command that takes the rule away, of both families where both have it."""
        words = ("route", "delete", *self.words[1:]) if self.routed else ("delete", *self.words)
        return f"sudo ufw {shlex.join(words)}"

    @property
    def sources(self) -> str:
        """Where the rule is for, in words; "" for anywhere."""
        source = "" if self.source in _ANY_ADDRESS else f"from {self.source}"
        return " ".join(word for word in (source, f"on {self.interface}" if self.interface else "") if word)

    @property
    def edges(self) -> tuple[int, ...]:
        """The ports at which the rule begins to cover, or no longer does."""
        found = []
        for first, colon, last in (item.partition(":") for item in self.port.split(",")):
            if _is_number(first) and (not colon or _is_number(last)):
                found += [int(first), int(last if colon else first) + 1]
        return tuple(found)

    def covers(self, port: int, protocol: str) -> bool:
        """True if the rule's protocol and destination port include this one."""
        return self.protocol in ("any", protocol) and port_in(port, self.port)


@dataclass(frozen=True)
class UfwDefaults:
    """Default policies in ufw's own words: allow, deny or reject."""

    ipv6: bool
    input: str
    output: str
    forward: str


def port_in(port: int, ports: str) -> bool:
    """True if ufw's list (`80,443,6000:6010`, `any`) holds the port."""
    if ports == "any":
        return True
    for item in ports.split(","):
        first, colon, last = item.partition(":")
        if not (_is_number(first) and (not colon or _is_number(last))):
            continue
        if int(first) <= port <= int(last if colon else first):
            return True
    return False


def parse_user_rules(text: str, family: int) -> tuple[UfwRule, ...]:
    """Rules of /etc/ufw/user.rules (family 4) or user6.rules (6), in the order in which packets meet them.

    The form is that of ufw 0.36's backend_iptables.py; lines that ufw itself would skip are left out.
    """
    rules = []
    for line in text.split("\n"):
        found = _TUPLE.match(line.rstrip())
        if found and (rule := _parse_tuple(found[1], family)) is not None:
            rules.append(rule)
    return tuple(rules)


def is_cut_off(text: str) -> bool:
    """True if the end of a rules file is missing: iptables-restore(8) loads nothing without it, nor does a boot."""
    return not any(line.strip() == "COMMIT" for line in text.split("\n"))


def parse_log_level(text: str) -> str:
    """The level of /etc/ufw/ufw.conf, in the word that `ufw logging` takes; ufw's own where it says none."""
    level = _settings(text).get("LOGLEVEL", "").lower()
    return level if level in _LOG_LEVELS else "low"


def parse_enabled(text: str) -> bool:
    """Whether /etc/ufw/ufw.conf says that ufw starts at boot. It does not prove that ufw is loaded now."""
    return _settings(text).get("ENABLED", "no").lower() == "yes"


def parse_defaults(text: str) -> UfwDefaults:
    """Default policies of /etc/default/ufw; what is missing there is what ufw's package ships."""
    settings = _settings(text)

    def policy(name: str, default: str) -> str:
        value = settings.get(f"DEFAULT_{name}_POLICY", "").lower()
        return _POLICIES.get(value, default)

    return UfwDefaults(
        ipv6=settings.get("IPV6", "yes").lower() == "yes",
        input=policy("INPUT", "deny"),
        output=policy("OUTPUT", "allow"),
        forward=policy("FORWARD", "deny"),
    )


def decide(
    rules: Sequence[UfwRule],
    defaults: UfwDefaults,
    port: int,
    protocol: str,
    source: str | None,
    interface: str | None,
    family: int,
    destination: str | None = None,
) -> tuple[str, UfwRule | None]:
    """What ufw does with a new incoming packet to this server, and the first rule that matches it, or None.

    None as source, interface or destination means one that no rule names: rules by these, or by a source port, are
    then passed over. A network as source is all of its addresses: a rule for some of them is passed over, too.
    """
    for rule in rules:
        if rule.family != family or rule.routed or rule.direction != "in" or not rule.covers(port, protocol):
            continue
        if _meets(rule, source, interface, destination):
            return rule.action, rule
    return defaults.input, None


def _meets(rule: UfwRule, source: str | None, interface: str | None, destination: str | None) -> bool:
    if rule.source_port != "any":
        return False
    if rule.interface is not None and not _interface_is(rule.interface, interface):
        return False
    return all(
        wanted in _ANY_ADDRESS or (given is not None and _is_within(given, wanted))
        for given, wanted in ((source, rule.source), (destination, rule.destination))
    )


def _interface_is(pattern: str, name: str | None) -> bool:
    if name is None:
        return False
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def _is_within(part: str, network: str) -> bool:
    """Whether all of an address or a network is in the network."""
    try:
        inner = ipaddress.ip_network(part.partition("%")[0], strict=False)
        outer = ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def _parse_tuple(text: str, family: int) -> UfwRule | None:
    text, _, comment = text.partition(" comment=")
    fields = text.split()
    if not 6 <= len(fields) <= 9:
        return None
    route, colon, action = fields[0].rpartition(":")
    action, _, logged = action.partition("_")
    if action not in _ACTIONS or (colon and route != "route"):
        return None
    # Six and eight fields are ufw's form before directions were added.
    way = _parse_direction(fields[-1]) if len(fields) in (7, 9) else ("in", None, None)
    if way is None:
        return None
    direction, came_in, went_out = way
    applications = fields[6:8] if len(fields) >= 8 else ["-", "-"]
    return UfwRule(
        action=action,
        protocol=fields[1],
        port=fields[2],
        destination=fields[3],
        source_port=fields[4],
        source=fields[5],
        direction=direction,
        interface=went_out if direction == "out" else came_in,
        out_interface=went_out if direction == "in" else None,
        routed=bool(colon),
        comment=_decode_comment(comment),
        application=_application(applications[0]),
        source_application=_application(applications[1]),
        family=family,
        logged=logged,
    )


def _parse_direction(field: str) -> tuple[str, str | None, str | None] | None:
    """Direction, interface in, interface out of `in`, `out_eth0`, or a routed rule's `in_eth0!out_eth1`."""
    came_in = went_out = None
    direction = field.partition("_")[0]
    for part in field.split("!"):
        way, underscore, name = part.partition("_")
        if way not in ("in", "out") or (underscore and not name):
            return None
        if way == "in":
            came_in = name or None
        else:
            went_out = name or None
    return direction, came_in, went_out


def _application(field: str) -> str | None:
    return None if field == "-" else field.replace("%20", " ")


def _decode_comment(text: str) -> str:
    try:
        return bytes.fromhex(text.strip()).decode("utf-8", "replace")
    except ValueError:
        return text.strip()


def _settings(text: str) -> dict[str, str]:
    """KEY=value lines; the last wins, as in the shell that reads them."""
    settings = {}
    for line in text.split("\n"):
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            settings[name.strip()] = value.partition(" #")[0].strip().strip("\"'")
    return settings


def _given(word: str) -> tuple[str, ...]:
    return (word,) if word else ()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
