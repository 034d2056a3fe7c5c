"""Who has used the endpoint, from Caddy's access log: a JSON object a line."""

import ipaddress
import json
import math
import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Arrival:
    """A request for the API that was answered at that time."""

    address: str
    path: str
    status: int
    at: float


# Of a further service below its own prefix.
_API = re.compile(r"(/[a-z0-9_-]+)?/v1/", re.I)


def arrivals(lines: Iterable[str], own_addresses: Collection[str], since: float) -> tuple[Arrival, ...]:
    """The requests for /v1/… from other machines, answered since then. A line that is no record is passed over."""
    own = {_address(one) for one in own_addresses}
    found = []
    for line in lines:
        arrival = parse_record(line)
        if arrival is None or arrival.at < since or not _API.match(arrival.path):
            continue
        address = _address(arrival.address)
        if address is not None and not address.is_loopback and address not in own:
            found.append(arrival)
    return tuple(found)


def parse_record(line: str) -> Arrival | None:
    """The record that the line is, be the request for the API or not; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(request := record.get("request"), dict):
        return None
    # What a proxy in front says of the client counts only where Caddy is told to trust it: client_ip has both.
    address = _address(request.get("client_ip") or request.get("remote_ip"))
    uri, status, at = request.get("uri"), record.get("status"), _seconds(record.get("ts"))
    if address is None or at is None or not isinstance(uri, str) or type(status) is not int:
        return None
    # As Caddy compares it: with the dots taken out.
    return Arrival(str(address), posixpath.normpath(uri.partition("?")[0]), status, at)


def _address(text: object) -> Address | None:
    try:
        address = ipaddress.ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None
    # A v4 client on a v6 socket is known by its v4 address.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _seconds(value: object) -> float | None:
    try:
        found = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
