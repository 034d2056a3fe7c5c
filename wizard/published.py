"""Ports that containers publish: the kernel translates their packets, and leads them past ufw before it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .engine import Look
from .parse.netfilter import Packet, Rule, Ruleset, evaluate, parse_ruleset
from .queries import SAVE

ELSEWHERE = {4: "203.0.113.9", 6: "2001:db8::9"}  # stands for any other machine
# Chains by which Docker, netavark (podman) and CNI (podman, Kubernetes) are known, and those that translate.
_OF_CONTAINERS = ("DOCKER", "NETAVARK_FORWARD", "CNI-FORWARD", "KUBE-FORWARD", "FLANNEL-FWD")
_TRANSLATING = re.compile(r"^(?:DOCKER$|NETAVARK-(?:DN-|HOSTPORT-DNAT)|CNI-(?:DN-|HOSTPORT-DNAT))")
# Rootless ones (rootlessport, pasta, slirp4netns) are programs like any other: their packets meet ufw's rules.
_HOLDS_A_PORT = ("conmon",)


@dataclass(frozen=True)
class Published:
    """`address` is the one of this server that is translated ("" for each), `to` the container's."""

    port: int
    address: str = ""
    protocol: str = "tcp"
    to: str = ""
    to_port: int = 0
    family: int = 4

    def __str__(self) -> str:
        address = self.address or ("0.0.0.0" if self.family == 4 else "::")
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"


def loaded_rules(look: Look, family: int, table: str = "filter") -> Ruleset | None:
    output = look.server.query((SAVE[family], "-t", table))
    return parse_ruleset(output.out, table) if output.ok else None


def find_published(look: Look) -> tuple[Published, ...]:
    """What other machines reach by a translation, whether or not a program listens; loopback is left out."""
    held = {
        Published(one.port, "" if one.is_wildcard else one.address, family=6 if ":" in one.address else 4)
        for one in look.server.listeners()
        if one.program.startswith(_HOLDS_A_PORT) and not one.is_loopback
    }
    translated: set[Published] = set()
    for family in SAVE:
        rules = loaded_rules(look, family)
        if rules is not None and any(chain in rules.chains for chain in _OF_CONTAINERS):
            translated |= set(_translations(loaded_rules(look, family, "nat"), family))
    known = {(one.family, one.port) for one in translated}
    found = translated | {one for one in held if (one.family, one.port) not in known}
    return tuple(sorted(found, key=lambda one: (one.port, one.family, one.address)))


def _translations(nat: Ruleset | None, family: int) -> Iterator[Published]:
    for chain, rules in nat.chains.items() if nat is not None else ():
        for rule in rules if _TRANSLATING.match(chain) else ():
            port, target = _value(rule, "--dport"), rule.target_options[-1] if rule.target_options else ""
            to, colon, to_port = target.rpartition(":")
            if rule.target != "DNAT" or not port.isdigit() or not (colon and to_port.isdigit()):
                continue
            address = _value(rule, "-d").partition("/")[0]
            if not address.startswith("127.") and address != "::1":
                protocol = _value(rule, "-p") or "tcp"
                yield Published(int(port), address, protocol, to.strip("[]"), int(to_port), family)


def _value(rule: Rule, option: str) -> str:
    return next((one.values[0] for one in rule.matches if one.option == option and one.values and not one.negated), "")


def is_closed(look: Look, published: Published) -> bool:
    """True where a rule of the operator's, in DOCKER-USER or before it, keeps everybody out."""
    rules = loaded_rules(look, published.family)
    if rules is None or not published.to:
        return False
    packet = Packet(
        published.protocol,
        published.to_port,
        ELSEWHERE[published.family],
        outer_interface(look),
        destination=published.to,
        family=published.family,
        original_port=published.port,
    )
    return evaluate(rules, packet, "FORWARD").result in ("drop", "reject")


def outer_interface(look: Look) -> str:
    """Where packets of other machines come in."""
    return next((one.interface for one in look.server.addresses() if one.primary), "eth0")
