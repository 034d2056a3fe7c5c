"""net.closed and net.open: why a packet from another machine gets through, or does not.

Packets come from a network namespace of this server: what they meet is on the server. A provider's firewall is not.
"""

from __future__ import annotations

from .terms import REPAIR, Explanation, Seen, always, both, caddy_is, neither

CLOSED, OPEN = ("net.closed",), ("net.open",)
RULES = "sudo ufw status numbered"


def is_open(seen: Seen) -> bool:
    return seen.state == "open"


def is_refused(seen: Seen) -> bool:
    return seen.state == "refused"


def is_unknown(seen: Seen) -> bool:
    return seen.state == "unknown"


def is_web(seen: Seen) -> bool:
    return seen.port in (80, 443)


def firewall_is_off(seen: Seen) -> bool:
    return not seen.firewall


def by_rule(seen: Seen) -> bool:
    return bool(seen.rule)


def by_ufw(seen: Seen) -> bool:
    return "ufw" in seen.rule


def by_default(seen: Seen) -> bool:
    return seen.rule.startswith("the IPv")


def let_in(seen: Seen) -> bool:
    return seen.verdict == "accept"


TABLE = (
    Explanation(
        (*CLOSED, *OPEN),
        "no packet could be sent",
        is_unknown,
        "No namespace can be had here (a container? a hardened kernel?). From another machine, port by port:",
        "nc -vz {seen.address} {seen.port}",
    ),
    Explanation(
        CLOSED,
        "another machine reaches it; the firewall is off",
        both(is_open, firewall_is_off),
        "The firewall is off, and vLLM listens to all. Until it is repaired, stop {seen.unit}.",
        REPAIR,
    ),
    Explanation(
        CLOSED,
        "another machine reaches it; incoming is allowed by default",
        both(is_open, by_default),
        "What no rule names is let in by default, and vLLM listens to all. Until it is repaired, stop {seen.unit}.",
        REPAIR,
    ),
    Explanation(
        CLOSED,
        "another machine reaches it by a rule",
        both(is_open, by_rule),
        "Delete this rule by its number; stop {seen.unit} until then: {seen.rule}",
        RULES,
    ),
    Explanation(
        CLOSED,
        "another machine reaches it, by no rule that is known",
        is_open,
        "No rule of ufw's explains it: Docker's tables or nft's own pass it on. Until then stop {seen.unit}.",
        "sudo nft list ruleset",
    ),
    Explanation(
        CLOSED,
        "some machines reach it by a rule",
        always,
        "Not all, but some others are let in: by source, or by interface. Delete the rule by its number.",
        RULES,
    ),
    Explanation(
        OPEN,
        "443 or 80 refused; Caddy does not run",
        both(is_refused, is_web, neither(caddy_is("runs"))),
        "It is not the firewall: nobody listens there, for Caddy does not run. tls.handshake says more.",
    ),
    Explanation(
        OPEN,
        "443 or 80 refused, though Caddy runs",
        both(is_refused, is_web, neither(by_rule)),
        "Nobody listens on {seen.address} port {seen.port}: Caddy has another configuration than it should.",
        REPAIR,
    ),
    Explanation(
        OPEN,
        "SSH refused",
        both(is_refused, neither(by_rule)),
        "It is not the firewall: sshd does not listen on {seen.address} port {seen.port} (ListenAddress?).",
        "sudo ss -ltnp 'sport = :{seen.port}'",
    ),
    Explanation(
        OPEN,
        "filtered, with ufw off",
        firewall_is_off,
        "ufw is off, so it is another firewall of this server that drops it: nft's own tables, or iptables.",
        "sudo nft list ruleset",
    ),
    Explanation(
        OPEN,
        "filtered, though the rules let it in",
        let_in,
        "ufw lets port {seen.port} in: another table drops it first (nft, an agent of the provider, fail2ban).",
        "sudo nft list ruleset",
    ),
    Explanation(
        OPEN,
        "filtered by a rule of ufw's",
        both(by_rule, by_ufw),
        "A rule of ufw's stands before the one that lets it in: {seen.rule}",
        RULES,
    ),
    Explanation(
        OPEN,
        "filtered by a rule before ufw's",
        by_rule,
        "A rule that is not ufw's comes first: {seen.rule}",
        "sudo iptables -S INPUT; sudo ip6tables -S INPUT",
    ),
    Explanation(
        OPEN,
        "filtered: no rule lets it in",
        always,
        "ufw has no rule that lets port {seen.port} in: it was deleted since, or never made.",
        REPAIR,
    ),
)
