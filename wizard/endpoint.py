"""The endpoint: which names and addresses clients may call, and what they call first."""

from __future__ import annotations

import re

from .engine import Look
from .server import Address, Request

# Bridges and tunnels of containers and virtual machines: no client comes by their addresses.
INNER_INTERFACES = re.compile(r"^(docker|br-|veth|virbr|cni|flannel|cali|lxc|vnet|vhs-)")
NAME = re.compile(r"^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")


def find_hosts(look: Look) -> tuple[str, ...]:
    """Mode internal: the answers' hosts, or every address and name of this server, the primary address first."""
    if look.answers.tls.hosts != "auto":
        return tuple(look.answers.tls.hosts)
    usable = [one for one in look.server.addresses() if not INNER_INTERFACES.match(one.interface)]
    usable.sort(key=lambda one: (":" in one.address, not one.primary))
    others = {one.host for one in look.answers.vllm.more}
    names = [name.lower() for name in _names(look) if NAME.match(name.lower()) and name.lower() not in others]
    return tuple(dict.fromkeys([one.address for one in usable] + names))


def _names(look: Look) -> list[str]:
    """The host's name and what /etc/hosts calls it in full. DNS is not asked: it may be slow, or somebody else's."""
    short = [name for name in look.server.host_names() if not name.startswith("localhost")]
    known = look.server.read("/etc/hosts")
    full = []
    for line in known.text.splitlines() if known else ():
        words = line.split("#")[0].split()[1:]
        full += [word for word in words if any(word.startswith(f"{name}.") for name in short)]
    return short + full


def url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def ask_endpoint(address: str, host: str, path: str, ca_file: str | None) -> Request:
    """A request as a client makes it: to this address, with the endpoint's name as SNI and Host."""
    return Request(address, 443, path=path, host=url_host(host), tls=True, server_name=host, ca_file=ca_file)


def base_url(look: Look) -> str:
    """What a client is configured with; "" where no host is known."""
    host = endpoint_host(look)
    return f"https://{url_host(host)}{look.prefix}/v1" if host else ""


def served_hosts(look: Look) -> tuple[str, ...]:
    """What the site answers to, in any mode."""
    return find_hosts(look) if look.answers.tls.mode == "internal" else (look.answers.tls.domain or "",)


def endpoint_host(look: Look) -> str:
    """The first of them, which clients are told; "" where none is known."""
    return next(iter(served_hosts(look)), "")


def own_address(look: Look) -> str:
    """Where the final test connects: the endpoint's own address, or the server's primary one."""
    addresses: list[Address] = sorted(look.server.addresses(), key=lambda one: (":" in one.address, not one.primary))
    host = endpoint_host(look)
    if any(one.address == host for one in addresses):
        return host
    return addresses[0].address if addresses else "127.0.0.1"
