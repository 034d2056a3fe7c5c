"""Who is never banned nor limited: this server itself, whom the answers name, and where its operators log in from.

A run knows one operator, and one that is started by a timer none. So our own files name, in a comment, where operators
have logged in from: who looks from elsewhere does not take another's address away.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from ..engine import Look

OPERATORS = "# Operators log in from: "
# An address that is lent anew each day is another's after some days.
MOST_OPERATORS = 8
Network = IPv4Network | IPv6Network


def operators(look: Look, text: str) -> tuple[str, ...]:
    """Where operators log in from: as the file's text names them, and the one of now; at most MOST_OPERATORS."""
    named = next((line for line in text.splitlines() if line.startswith(OPERATORS)), "").removeprefix(OPERATORS)
    known = [*named.split(), *([look.operator.address] if look.operator else [])]
    found = dict.fromkeys(one for one in map(_plain, known) if one)
    return tuple(found)[-MOST_OPERATORS:]


def _plain(address: str) -> str:
    """As the kernel sees the sender: without an interface, an IPv4 address as one; "" for what is no address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def networks(look: Look, operating: Iterable[str]) -> tuple[Network, ...]:
    """The answers' networks and these operators, none inside another, IPv4 first."""
    named = [ip_network(one) for one in (*look.answers.harden.never_ban, *operating)]
    found4 = collapse_addresses(one for one in named if isinstance(one, IPv4Network))
    found6 = collapse_addresses(one for one in named if isinstance(one, IPv6Network))
    return (*found4, *found6)


def own(look: Look) -> tuple[str, ...]:
    """This server's addresses: what it sends to one of them comes from there, too."""
    return tuple(sorted({str(one) for one in _routable(look)} - {"127.0.0.1", "::1"}))


def _routable(look: Look) -> Iterable[str]:
    for one in look.server.addresses():
        address = _plain(one.address)
        if address and not ip_address(address).is_link_local:
            yield address


def written(network: Network) -> str:
    """A network as nftables and fail2ban write it: an address alone without its length."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)
