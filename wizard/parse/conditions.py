"""Whether a packet meets the conditions of a netfilter rule, as far as can be known from the packet."""

import ipaddress
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wizard.parse.netfilter import Match, Packet


class Met(Enum):
    """Three values: a condition that can't be known is MAYBE."""

    NO = 0
    MAYBE = 1
    YES = 2


_PROTOCOL_NAMES = {
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
    "58": "ipv6-icmp",
    "icmpv6": "ipv6-icmp",
    "50": "esp",
}
_TCP_FLAGS = frozenset({"FIN", "SYN", "RST", "PSH", "ACK", "URG"})
# Options that narrow nothing by themselves.
_SILENT = frozenset({"-m", "--match", "--comment", "--set", "--name", "--rsource", "--mask", "--icmp-code"})
_NEW_TCP = frozenset({"SYN"})


def judge(matches: "Sequence[Match]", packet: "Packet") -> Met:
    """The conjunction: NO if any condition is not met, else MAYBE if any can't be known."""
    answer = Met.YES
    for match in matches:
        met = _condition(match, packet)
        if met is Met.NO:
            return Met.NO
        if met is Met.MAYBE:
            answer = Met.MAYBE
    return answer


def _condition(match: "Match", packet: "Packet") -> Met:
    if match.option in _SILENT:
        # `-m set --set` does not exist; `-m recent --set` always matches.
        return Met.YES
    met = _plain_condition(match, packet)
    if not match.negated or met is Met.MAYBE:
        return met
    return Met.NO if met is Met.YES else Met.YES


def _plain_condition(match: "Match", packet: "Packet") -> Met:
    value = match.values[0] if match.values else ""
    match match.option:
        case "-p" | "--protocol":
            return _protocol(value, packet)
        case "-s" | "--source" | "--src-range":
            return _address(value, packet.source)
        case "-d" | "--destination" | "--dst-range":
            return _destination(value, packet)
        case "-i" | "--in-interface":
            return _interface(value, packet.interface)
        case "-o" | "--out-interface":
            # A packet to this server leaves by no interface.
            return Met.MAYBE
        case "--dport" | "--dports" | "--destination-port" | "--destination-ports":
            return _ports(value, packet.port)
        case "--sport" | "--sports" | "--source-port" | "--source-ports":
            return Met.YES if value in ("0:65535", "1:65535") else Met.MAYBE
        case "--ports":
            return Met.YES if _ports(value, packet.port) is Met.YES else Met.MAYBE
        case "--ctstate" | "--state":
            return _state(value, packet.new)
        case "--ctorigdstport":
            return _ports(value, packet.original_port)
        case "--ctdir":
            return Met.MAYBE if not packet.new else Met.YES if value == "ORIGINAL" else Met.NO
        case "--ctproto":
            return _protocol(value, packet)
        case "--dst-type":
            # A packet that meets INPUT was sent to one of this server's own addresses.
            return Met.YES if "LOCAL" in value.split(",") else Met.NO
        case "--pkt-type":
            return Met.YES if value == "unicast" else Met.NO
        case "--tcp-flags":
            return _tcp_flags(match.values, packet)
        case "--syn":
            return Met.YES if packet.new and packet.protocol == "tcp" else Met.MAYBE
        case "-f" | "--fragment" | "--rt-type":
            return Met.NO
        case "--icmp-type" | "--icmpv6-type":
            return Met.MAYBE if _is_icmp(packet.protocol) else Met.NO
        case _:
            return Met.MAYBE


def _protocol(value: str, packet: "Packet") -> Met:
    wanted, real = _PROTOCOL_NAMES.get(value, value), _PROTOCOL_NAMES.get(packet.protocol, packet.protocol)
    if value in ("all", "0") or wanted == real:
        return Met.YES
    # `any` stands for a packet whose protocol is not known.
    return Met.MAYBE if packet.protocol == "any" else Met.NO


def _destination(value: str, packet: "Packet") -> Met:
    if packet.destination is not None:
        return _address(value, packet.destination)
    network = _network(value)
    if network is None:
        return Met.MAYBE
    if network.prefixlen == 0:
        return Met.YES
    # The packet goes to an address of this server that is not loopback.
    return Met.NO if network.is_multicast or network.is_loopback else Met.MAYBE


def _address(value: str, address: str | None) -> Met:
    network = _network(value)
    if network is not None and network.prefixlen == 0:
        return Met.YES
    if address is None:
        return Met.MAYBE
    try:
        real = ipaddress.ip_address(address.partition("%")[0])
        if "-" in value:
            return _in_range(value, real)
    except ValueError:
        return Met.MAYBE
    if network is None:
        return Met.MAYBE
    return Met.YES if real in network else Met.NO


def _in_range(value: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Met:
    first, last = (ipaddress.ip_address(end) for end in value.split("-", 1))
    if not first.version == last.version == address.version:
        return Met.NO
    return Met.YES if int(first) <= int(address) <= int(last) else Met.NO


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def _interface(value: str, interface: str | None) -> Met:
    if value == "+":
        return Met.YES
    if interface is None:
        # From outside, whatever the interface is.
        return Met.NO if value == "lo" else Met.MAYBE
    same = interface.startswith(value[:-1]) if value.endswith("+") else interface == value
    return Met.YES if same else Met.NO


def _ports(value: str, port: int | None) -> Met:
    if port is None:
        return Met.MAYBE
    for item in value.split(","):
        first, colon, last = item.partition(":")
        low = first or "0"
        high = (last or "65535") if colon else low
        if not (low.isascii() and low.isdigit() and high.isascii() and high.isdigit()) or len(low + high) > 10:
            return Met.MAYBE
        if int(low) <= port <= int(high):
            return Met.YES
    return Met.NO


def _state(value: str, new: bool) -> Met:
    states = set(value.split(","))
    if ("NEW" if new else "ESTABLISHED") in states:
        return Met.YES
    return Met.NO if states <= {"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"} else Met.MAYBE


def _tcp_flags(values: Sequence[str], packet: "Packet") -> Met:
    if packet.protocol != "tcp":
        return Met.NO
    if len(values) != 2 or not packet.new:
        return Met.MAYBE
    mask, wanted = (_flags(value) for value in values)
    return Met.YES if _NEW_TCP & mask == wanted else Met.NO


def _flags(value: str) -> frozenset[str]:
    if value == "ALL":
        return _TCP_FLAGS
    return frozenset(value.split(",")) & _TCP_FLAGS


def _is_icmp(protocol: str) -> bool:
    return protocol in ("icmp", "icmpv6", "ipv6-icmp", "any", "1", "58")
