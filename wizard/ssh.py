"""The ports by which this server is administered over SSH, and why we believe so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .engine import Look
from .model import Finding, Level
from .parse.sshd import parse_sshd_config_dump
from .parse.units import parse_socket_listen
from .queries import SSH_CONFIGURED, SSH_UNITS
from .server import Listener, Server, Target

PROGRAMS = ("sshd", "sshd-session")
# Other servers of SSH, whatever their units are called.
OTHERS = ("dropbear", "tinysshd", "teleport")


@dataclass(frozen=True)
class SshPorts:
    """Port → the reasons. `configured_only` are ports that sshd is told to use and nothing listens on yet."""

    reasons: dict[int, tuple[str, ...]]
    configured_only: tuple[int, ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(sorted(self.reasons))


def find_ssh_ports(look: Look) -> SshPorts:
    """The answers' ports; or all that listeners, ssh.socket, `sshd -T` and this very connection name."""
    wanted = look.answers.firewall.ssh_ports
    if wanted != "auto":
        return SshPorts(dict.fromkeys(wanted, ("named in the answers",)))
    reasons: dict[int, list[str]] = {}

    def note(port: int, reason: str) -> None:
        if reason not in reasons.setdefault(port, []):
            reasons[port].append(reason)

    if look.operator is not None and look.operator.port:
        note(look.operator.port, "you are connected through it")
    for listener in look.server.listeners():
        # A forwarded port (ssh -R) is sshd's too, but of a session's scope, or on loopback.
        of_service = listener.unit in SSH_UNITS or (listener.program in PROGRAMS and not listener.unit)
        if of_service and not listener.is_loopback:
            note(listener.port, "sshd listens on it")
        elif listener.program in OTHERS and not listener.is_loopback:
            note(listener.port, f"{listener.program} listens on it")
    socket = look.server.units(*SSH_UNITS)["ssh.socket"]
    if socket.is_active:
        for _, port in parse_socket_listen(socket.properties.get("Listen", "")):
            note(port, "ssh.socket listens on it")
    listening = set(reasons)
    if any(unit.exists for unit in look.server.units(*SSH_UNITS).values()):
        # Fails while ssh.socket is idle (no /run/sshd): then the socket's ports are all there is to know.
        output = look.server.query(SSH_CONFIGURED)
        for port in parse_sshd_config_dump(output.out) if output.ok else ():
            note(port, "sshd is configured for it")
    configured = tuple(sorted(set(reasons) - listening))
    return SshPorts({port: tuple(why) for port, why in reasons.items()}, configured)


def listening_at(server: Server, addresses: Iterable[str], ports: Iterable[int]) -> tuple[Target, ...]:
    """Where a packet can meet SSH: nobody refuses it at an address, or by a family, that nothing listens on. Where
    that leaves a port without any of these addresses, those that it has."""
    listeners = [one for one in server.listeners() if not one.is_loopback]
    found: list[Target] = []
    for port in ports:
        heard = [one for one in listeners if one.port == port]
        met = [address for address in addresses if any(_hears(one, address) for one in heard)]
        met = met or [one.address for one in heard if not one.is_wildcard]
        found += [Target(address, port, expected=True) for address in met]
    return tuple(found)


def _hears(listener: Listener, address: str) -> bool:
    if not listener.is_wildcard:
        return listener.address == address
    if listener.address == "::" and ":" not in address:
        # sshd sets each of its sockets to one family; systemd's, and others', take both.
        return listener.program not in PROGRAMS
    return (":" in listener.address) == (":" in address) or not listener.address


def check_ssh(look: Look) -> Iterator[Finding]:
    found = find_ssh_ports(look)
    if found.ports or look.answers.firewall.ssh_ports == ():
        named = "; ".join(f"{port}, because {', '.join(why)}" for port, why in sorted(found.reasons.items()))
        yield Finding(
            "preflight.ssh",
            Level.OK,
            f"SSH on port {named}" if named else "no SSH, as the answers say",
            evidence={"ports": {str(port): list(why) for port, why in found.reasons.items()}},
        )
    else:
        there = any(unit.exists for unit in look.server.units(*SSH_UNITS).values())
        why = "sshd is installed, and does not run" if there else "this server has no sshd"
        yield Finding(
            "preflight.ssh",
            Level.BLOCKED,
            f"no SSH port was found, and none is named in the answers: {why}",
            remedy=f"{'sudo systemctl start ssh.socket; or answer ' if there else 'answer '}firewall: {{ssh_ports: "
            "[22]}; or [] on a server that is not administered over SSH, but by its console",
        )
    for port in found.configured_only:
        yield Finding(
            "preflight.ssh_not_listening",
            Level.WARN,
            f"sshd is configured for port {port}, but nothing listens on it yet; it will be allowed too",
            remedy="after a change of sshd's port: sudo systemctl daemon-reload; sudo systemctl restart ssh.socket",
        )
    yield from check_ipv6(look, found)


def check_ipv6(look: Look, found: SshPorts) -> Iterator[Finding]:
    """ufw with IPV6=no drops every packet of IPv6: where sshd has no other address, nobody could log in again."""
    firewall = look.server.firewall()
    if not look.answers.firewall.manage or firewall.defaults.ipv6 or (firewall.enabled and firewall.loaded):
        return
    listening = [one for one in look.server.listeners() if one.port in found.ports and not one.is_loopback]
    if listening and all(":" in one.address and one.address != "::" for one in listening):
        named = ", ".join(str(one) for one in listening)
        yield Finding(
            "preflight.ssh_ipv6",
            Level.BLOCKED,
            f"sshd listens on IPv6 alone ({named}), and ufw is set to drop all of it (IPV6=no)",
            remedy="sudo sed -i 's/^IPV6=no/IPV6=yes/' /etc/default/ufw; then check again",
            evidence={"listeners": [str(one) for one in listening]},
        )
