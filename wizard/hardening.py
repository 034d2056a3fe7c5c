"""What of `harden` is wanted: an `auto` stands for nothing, or, where it is asked for, for what is recommended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers import Answers
    from .engine import Look

# What an `auto` stands for: without `harden.recommended`, and with it. The reasons are in docs/security.md.
OFF: Mapping[str, Any] = {
    "max_body": None,
    "max_requests": None,
    "slow_clients": False,
    "connections_per_address": None,
    "ban_wrong_keys": False,
    "sandbox": (),
    "admin_socket": False,
    "watch": False,
}
RECOMMENDED: Mapping[str, Any] = {
    "max_body": "100MB",
    "max_requests": 512,
    "slow_clients": True,
    "connections_per_address": 200,
    "ban_wrong_keys": True,
    "sandbox": ("caddy", "vllm"),
    "admin_socket": True,
    "watch": True,
}
# What turns something on without an `auto`.
SWITCHES = ("requests_per_minute", "new_connections_per_minute", "allow_from", "metrics_from")


LOOPBACK = ("127.0.0.0/8", "::1")


def chosen(answers: Answers, key: str) -> Any:
    """The value of a key of `harden`; an `auto` is what it stands for."""
    value = getattr(answers.harden, key)
    return value if value != "auto" else (RECOMMENDED if answers.harden.recommended else OFF)[key]


def is_wanted(answers: Answers) -> bool:
    """Whether anything of `harden` is turned on."""
    return any(chosen(answers, key) for key in (*OFF, *SWITCHES))


def allowed(look: Look) -> tuple[str, ...]:
    """Who may use the API: the networks of the answers, and this server itself, which tests it; () for everybody."""
    networks = look.answers.harden.allow_from
    return with_own(look, networks) if networks else ()


def with_own(look: Look, networks: Iterable[str]) -> tuple[str, ...]:
    """Where this server's own requests come from, and these networks; each once."""
    own = sorted({one.address for one in look.server.addresses()} - {"127.0.0.1", "::1"})
    return tuple(dict.fromkeys((*LOOPBACK, *own, *networks)))


def holds(networks: tuple[str, ...], address: str) -> bool:
    """Whether one of the networks has the address in it."""
    found = ip_address(address)
    return any(found in network for network in map(ip_network, networks) if network.version == found.version)
