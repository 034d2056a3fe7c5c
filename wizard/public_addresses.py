"""Where this server is seen from outside: its answers, its interfaces, or what the cloud says of it.

A server behind 1:1 NAT, as clouds have it, knows its public address only from the cloud's metadata service.
"""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .endpoint import INNER_INTERFACES
from .engine import Look
from .server import Request, Response, Server

METADATA = "169.254.169.254"
METADATA_S = 1.0
# What no packet from the internet reaches: RFC 1918, 4193 (ULA), 6598 (carriers' NAT), 3927 and 4291 (link-local),
# loopback, unspecified, multicast. Python's is_private would count the documentation's addresses, too.
PRIVATE = tuple(
    ipaddress.ip_network(one)
    for one in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8"),
        *("0.0.0.0/8", "224.0.0.0/3", "fc00::/7", "fe80::/10", "ff00::/8", "::/127"),
    )
)
Ask = Callable[[Server, float], str]


@dataclass(frozen=True)
class PublicAddresses:
    """The addresses that a public name of this server must have, and who says so; () where nobody knows."""

    addresses: tuple[str, ...]
    source: str

    def of_family(self, family: int) -> tuple[str, ...]:
        return tuple(one for one in self.addresses if ipaddress.ip_address(one).version == family)


def is_private(address: str) -> bool:
    """True if nobody on the internet can connect to it."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in PRIVATE)


def canonical(address: str) -> str:
    """The address in its one written form (RFC 5952), so that two can be compared."""
    return str(ipaddress.ip_address(address))


def interface_addresses(look: Look) -> tuple[str, ...]:
    """All addresses of this server, private ones too, without the bridges of containers."""
    usable = (one for one in look.server.addresses() if not INNER_INTERFACES.match(one.interface))
    return tuple(dict.fromkeys(canonical(one.address) for one in usable))


def find_public_addresses(look: Look) -> PublicAddresses:
    """The answers' addresses; else the interfaces' public ones; else, where none is IPv4, the cloud's metadata.

    The metadata service is given 1 s in all. Unknown is () from "unknown".
    """
    given = look.answers.tls.public_addresses
    if given != "auto":
        return PublicAddresses(tuple(canonical(str(one)) for one in given), "the answers")
    own = tuple(one for one in interface_addresses(look) if not is_private(one))
    if any(ipaddress.ip_address(one).version == 4 for one in own):
        return PublicAddresses(own, "the interfaces")
    told, provider = ask_metadata(look.server)
    if told:
        return PublicAddresses((*told, *own), f"the metadata of {provider}")
    return PublicAddresses(own, "the interfaces" if own else "unknown")


def ask_metadata(server: Server, within_s: float = METADATA_S) -> tuple[tuple[str, ...], str]:
    """The public IPv4 address as the cloud knows it, and which cloud: all are asked at once, the first in order wins.

    No more than `within_s` seconds: an answer that drips in is left behind with its thread.
    """
    until = time.monotonic() + within_s
    answers: dict[str, str] = {}

    def ask(provider: str, how: Ask) -> None:
        answers[provider] = how(server, within_s)

    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in PROVIDERS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    told = dict(answers)
    return next((((told[one],), one) for one in PROVIDERS if told.get(one)), ((), ""))


def public_address(text: str) -> str:
    """The text where it is a public address and nothing else; otherwise ""."""
    try:
        found = canonical(text.strip())
    except ValueError:
        return ""
    return "" if is_private(found) else found


def _get(server: Server, timeout_s: float, path: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return server.exchange(Request(METADATA, 80, path=path, host=METADATA, timeout_s=timeout_s, headers=headers))


def _text(path: str, *headers: tuple[str, str]) -> Ask:
    """The answer as text is the address."""

    def ask(server: Server, timeout_s: float) -> str:
        response = _get(server, timeout_s, path, headers)
        return public_address(response.body.decode("ascii", "replace")) if response.status == 200 else ""

    return ask


def _ask_aws(server: Server, timeout_s: float) -> str:
    """IMDSv2: a session's token first, which every question must bring."""
    ttl = (("X-aws-ec2-metadata-token-ttl-seconds", "60"),)
    asked = Request(METADATA, 80, "PUT", "/latest/api/token", METADATA, timeout_s=timeout_s, headers=ttl)
    response = server.exchange(asked)
    token = response.body.decode("ascii", "replace").strip()
    if response.status != 200 or not token.isprintable() or not token.isascii():
        return ""
    left = max(0.05, timeout_s - response.ms / 1000)
    return _text("/latest/meta-data/public-ipv4", ("X-aws-ec2-metadata-token", token))(server, left)


def _ask_azure_balancer(server: Server, timeout_s: float) -> str:
    """Azure's standard addresses are known only to the load balancer's metadata."""
    response = _get(server, timeout_s, "/metadata/loadbalancer?api-version=2020-10-01", (("Metadata", "true"),))
    try:
        found = json.loads(response.body) if response.status == 200 else {}
        return public_address(str(found["loadbalancer"]["publicIpAddresses"][0]["frontendIpAddress"]))
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


# Each by its own documentation. OpenStack's answers in AWS's old form, as those of many smaller clouds do.
PROVIDERS: dict[str, Ask] = {
    "AWS": _ask_aws,
    "Google Cloud": _text(
        "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
        ("Metadata-Flavor", "Google"),
    ),
    "Azure": _text(
        "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text",
        ("Metadata", "true"),
    ),
    "Azure's load balancer": _ask_azure_balancer,
    "Hetzner": _text("/hetzner/v1/metadata/public-ipv4"),
    "DigitalOcean": _text("/metadata/v1/interfaces/public/0/ipv4/address"),
    "OpenStack": _text("/latest/meta-data/public-ipv4"),
}
