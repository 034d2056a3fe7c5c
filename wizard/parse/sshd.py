"""What OpenSSH says about its ports and about the connection that we run in."""

import ipaddress
import re
from dataclasses import dataclass

_PORT = re.compile(r"^\s*port\s+(\d{1,5})\s*$", re.IGNORECASE)
_LISTEN = re.compile(r"^\s*listenaddress\s+\S+?:(\d{1,5})(?:\s.*)?$", re.IGNORECASE)


@dataclass(frozen=True)
class SshConnection:
    """The fields of SSH_CONNECTION, in its order."""

    client: str
    client_port: int
    server: str
    server_port: int


def parse_sshd_config_dump(text: str) -> tuple[int, ...]:
    """Ports of `sshd -T`, sorted; () where it failed.

    The `listenaddress` lines decide, since a Port without any address of its own is not listened on.
    """
    return _ports(_LISTEN, text) or _ports(_PORT, text)


def parse_ssh_connection(value: str) -> SshConnection | None:
    """The connection that SSH_CONNECTION names, or None where it is not one."""
    fields = value.split()
    if len(fields) != 4:
        return None
    client, server = _address(fields[0]), _address(fields[2])
    client_port, server_port = _port(fields[1]), _port(fields[3])
    if client is None or server is None or client_port is None or server_port is None:
        return None
    return SshConnection(client, client_port, server, server_port)


def _ports(pattern: re.Pattern[str], text: str) -> tuple[int, ...]:
    found = (pattern.match(line) for line in text.split("\n"))
    return tuple(sorted({port for match in found if match and 0 < (port := int(match[1])) <= 65535}))


def _address(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A v4 client on a v6 socket: the firewall sees the v4 address.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _port(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535:
        return int(text)
    return None
