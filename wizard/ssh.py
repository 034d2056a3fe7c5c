"""The ports by which this server is administered over SSH, and why we believe so."""

from __future__ import annotations

from dataclasses import dataclass

from .engine import Look
from .parse.sshd import parse_sshd_config_dump
from .parse.units import parse_socket_listen

UNITS = ("ssh.service", "sshd.service", "ssh.socket")
PROGRAMS = ("sshd", "sshd-session")


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
        of_service = listener.unit in UNITS or (listener.program in PROGRAMS and not listener.unit)
        if of_service and not listener.is_loopback:
            note(listener.port, "sshd listens on it")
    socket = look.server.units(*UNITS)["ssh.socket"]
    if socket.is_active:
        for _, port in parse_socket_listen(socket.properties.get("Listen", "")):
            note(port, "ssh.socket listens on it")
    listening = set(reasons)
    if any(unit.exists for unit in look.server.units(*UNITS).values()):
        # Fails while ssh.socket is idle (no /run/sshd): then the socket's ports are all there is to know.
        output = look.server.query(("sshd", "-T"))
        for port in parse_sshd_config_dump(output.out) if output.ok else ():
            note(port, "sshd is configured for it")
    configured = tuple(sorted(set(reasons) - listening))
    return SshPorts({port: tuple(why) for port, why in reasons.items()}, configured)
