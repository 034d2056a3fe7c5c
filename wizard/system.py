"""The real machine. Nothing else in the program starts a process, opens a socket or resolves a name."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import files, shortage
from .mask import Mask, strip_control
from .model import Output, SetupError
from .parse.sockets import parse_listeners, parse_peers
from .parse.sshd import SshConnection, parse_ssh_connection
from .process import Process
from .queries import LISTENERS
from .server import Address, DnsAnswer, FileState, Listener, Operator, Reach, Request, Response, Target

if TYPE_CHECKING:
    import psutil

NOT_FOUND = 127
SS_REMEDY = "is its package there? sudo apt-get install iproute2; then run the same command again"


class Observer(Protocol):
    """Who is told of everything that the machine does: the journal, or nobody.

    A note is for the log; progress is for whoever watches, too.
    """

    def command(self, line: str) -> None: ...

    def output(self, text: str) -> None: ...

    def ended(self, code: int, seconds: float) -> None: ...

    def note(self, text: str) -> None: ...

    def progress(self, text: str) -> None: ...


class Nobody:
    def command(self, line: str) -> None: ...

    def output(self, text: str) -> None: ...

    def ended(self, code: int, seconds: float) -> None: ...

    def note(self, text: str) -> None: ...

    def progress(self, text: str) -> None: ...


def written_out(argv: Sequence[str], environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
    """The command as a person would type it, its standard input included."""
    settings = "".join(f"{name}={shlex.quote(value)} " for name, value in (environment or {}).items())
    here = f" <<'END'\n{stdin.decode('utf-8', 'replace').rstrip()}\nEND" if stdin else ""
    return settings + shlex.join(argv) + here


class RealMachine:
    """The three doors: run, ask the network, write (in files.py). The observer is told of each use."""

    def __init__(self, mask: Mask, observer: Observer | None = None) -> None:
        self.mask = mask
        self.observer: Observer = observer or Nobody()

    def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> Process:
        return Process(argv, environment, stdin)

    def command(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        begun: Process | None = None,
    ) -> Output:
        """Runs it to its end, in no shell, with nothing on its standard input. A missing program is exit code 127.

        `begun` is the same command, started before: its end is waited for, and told of now.
        """
        self.observer.command(written_out(argv, environment, stdin))
        began = time.monotonic()
        try:
            with begun or self.start(argv, environment, stdin) as process:
                output = process.wait(timeout_s, self.observer)
        except FileNotFoundError:
            output = Output(NOT_FOUND, "", f"{argv[0]}: command not found")
        except OSError as error:
            raise SetupError(f"{argv[0]} could not be started: {error.strerror}", shortage.SEE) from error
        self.observer.ended(output.code, time.monotonic() - began)
        # Whoever took it for an answer would find no package, no unit, no rule.
        if (short := shortage.of_output(argv[0], output)) is not None:
            raise short
        return output

    def read(self, path: str) -> FileState | None:
        return files.read(path)

    def names(self, directory: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(directory)))
        except OSError:
            return ()

    def listeners(self, begun: Process | None = None) -> tuple[Listener, ...]:
        """Every TCP socket in state LISTEN, with the program and the unit that hold it. Raises SetupError."""
        output = self._sockets(LISTENERS, begun)
        found = {Listener(at, port, program_of(pid), pid, unit_of(pid)) for at, port, pid in parse_listeners(output)}
        return tuple(sorted(found, key=lambda listener: (listener.port, listener.address, listener.pid)))

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]:
        """The far ends of the connections to these ports that are up, as address:port. Raises SetupError."""
        if not ports:
            return ()
        wanted = " or ".join(f"sport = :{port}" for port in ports)
        return parse_peers(self._sockets(("ss", "-Htn", "state", "established", f"( {wanted} )")))

    def _sockets(self, argv: Sequence[str], begun: Process | None = None) -> str:
        output = self.command(argv, timeout_s=30, begun=begun)
        if not output.ok:
            # No listeners would be taken for none.
            raise SetupError(f"which ports are open is not known: ss: {output.last_words}", SS_REMEDY)
        return output.out

    def addresses(self) -> tuple[Address, ...]:
        """The interfaces' addresses, without loopback and link-local ones."""
        import psutil

        primary = {primary_address(socket.AF_INET), primary_address(socket.AF_INET6)}
        found = []
        for interface, entries in sorted(psutil.net_if_addrs().items()):
            for entry in entries:
                if entry.family not in (socket.AF_INET, socket.AF_INET6) or interface == "lo":
                    continue
                address = entry.address.split("%")[0]
                if not address.lower().startswith(("fe80:", "127.", "169.254.")) and address != "::1":
                    found.append(Address(interface, address, address in primary))
        return tuple(found)

    def host_names(self) -> tuple[str, ...]:
        """The host's own name."""
        return (socket.gethostname(),)

    def exchange(self, request: Request) -> Response:
        from . import exchange

        response = exchange.exchange(request)
        self.observer.note(f"{request.key}: {response.status or response.error}, {response.ms:.0f} ms")
        return response

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        """Once more, twice, where DNS says that its failure passes (EAI_AGAIN, getaddrinfo(3))."""
        from . import exchange

        for tries_left in (2, 1, 0):
            response = exchange.fetch(url, timeout_s, ca_file)
            self.observer.note(f"GET {url}: {response.status or response.error}, {len(response.body)} bytes")
            if response.status or "temporary failure in name resolution" not in response.error or not tries_left:
                break
            self.sleep(1)
        return response

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        from . import resolve

        answer = resolve.resolve(name, kind, server)
        found = " ".join(answer.values) or strip_control(f"{answer.status} {answer.detail}").strip()
        self.observer.note(f"DNS {kind} {name} ({answer.asked}): {found}")
        return answer

    def reach(self, targets: Sequence[Target], begun: Process | None = None) -> tuple[Reach, ...]:
        from . import packets

        return packets.reach(self, targets, begun)

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def program_of(pid: int) -> str:
    try:
        # Any user may give a process any name.
        return strip_control(Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")).strip()
    except OSError:
        return ""


def unit_of(pid: int) -> str:
    """The unit of a process, from its control group, on hybrid hierarchies too (cgroups(7)); "" where it has none."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, controller, path = line.split(":", 2)
        if controller in ("", "name=systemd"):
            for part in reversed(path.split("/")):
                if part.endswith((".service", ".socket", ".scope")):
                    return part
    return ""


def primary_address(family: socket.AddressFamily) -> str | None:
    """The address that the default route leaves from. Connecting a UDP socket sends nothing: only routes are asked."""
    far = {socket.AF_INET: "192.0.2.255", socket.AF_INET6: "2001:db8::ffff"}[family]
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((far, 9))
            return str(asked.getsockname()[0])
        except OSError:
            return None


def find_operator() -> Operator | None:
    """Where this login comes from: the connection of the sshd that we run below.

    Where none is above us (a multiplexer such as tmux was started by an earlier login, and outlives it), it is what
    SSH_CONNECTION says, in the first of the ancestors that has it: sudo drops it.
    """
    import psutil

    said: SshConnection | None = None
    process: psutil.Process | None = psutil.Process()
    while process is not None:
        with contextlib.suppress(psutil.Error):
            said = said or parse_ssh_connection(process.environ().get("SSH_CONNECTION", ""))
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("sshd") and (found := _own_connection(process, said)):
                return Operator(found.client, found.server_port)
        try:
            process = process.parent()
        except psutil.Error:
            process = None
    return Operator(said.client, said.server_port) if said else None


def _own_connection(sshd: psutil.Process, said: SshConnection | None) -> SshConnection | None:
    """The connection that this sshd serves. It may have others: what is forwarded leaves by a port that nobody
    listens on, or comes by one that it listens on itself."""
    import psutil

    of_sshd = sshd.net_connections(kind="tcp")
    up = [
        found
        for one in of_sshd
        if one.status == psutil.CONN_ESTABLISHED and one.raddr and one.laddr
        if (found := parse_ssh_connection(f"{one.raddr.ip} {one.raddr.port} {one.laddr.ip} {one.laddr.port}"))
    ]
    if said in up or not up:
        return said if said in up else None

    def listening(connections: Sequence[Any]) -> set[int]:
        return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN and one.laddr}

    of_others = listening(psutil.net_connections(kind="tcp")) - listening(of_sshd)
    return next((one for one in up if one.server_port in of_others), None)


def own_command(*arguments: str) -> tuple[str, ...]:
    """This program as a command for systemd: the same interpreter, isolated from the caller's environment."""
    return (sys.executable, "-I", "-m", "wizard", *arguments)
