"""The machine outside: another one than the hosts, so that their firewalls see its packets as foreign."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.machine import Result, run
from tests.lab.space import Space

# Runs in the outside namespaces: one connection, judged.
TCP = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
    print("open")
except ConnectionRefusedError:
    print("refused")
except (TimeoutError, OSError) as error:
    print("filtered")
"""
# Runs in the outside namespaces: tries a new connection again and again, one line for each.
SAMPLER = """\
import socket, sys, time
address, port, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
begun = time.time()
while True:
    start = time.time()
    try:
        with socket.create_connection((address, port), 5) as connection:
            connection.settimeout(5)
            said = connection.recv(64).split(b"\\r")[0].decode(errors="replace")
            ok, detail = said.startswith("SSH-2.0-"), said
    except OSError as error:
        ok, detail = False, f"{type(error).__name__}: {error}"
    print(start, time.time() - start, int(ok), detail.strip() or "closed without a banner", flush=True)
    time.sleep(max(0, pause - (time.time() - start)))
"""


@dataclass(frozen=True)
class Sample:
    """One try to reach SSH: when it began (Unix time), how long it took, whether a server answered, and what."""

    at: float
    seconds: float
    ok: bool
    detail: str


class Sampler:
    """Tries SSH again and again until stopped."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.samples: list[Sample] = []
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at, seconds, ok, detail = line.rstrip("\n").split(" ", 3)
            self.samples.append(Sample(float(at), float(seconds), ok == "1", detail))

    def wait(self, count: int = 1, timeout: float = 10) -> None:
        """Wait until there are so many samples."""
        end = time.monotonic() + timeout
        while len(self.samples) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(self.samples)} of {count} samples of SSH")
            time.sleep(0.02)

    def stop(self) -> list[Sample]:
        """End it; returns all samples."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return self.samples


class Outside:
    """A client on the bridge with an address of its own."""

    def __init__(self, space: Space, internet: Path) -> None:
        self._space = space
        self.key = space.files / "ssh_key"
        self._ca = internet / "ca.pem"

    def open(self) -> None:
        """Make the key that logs in everywhere."""
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator@lab", "-f", self.key])

    @property
    def public_key(self) -> str:
        """The line for authorized_keys."""
        return self.key.with_suffix(".pub").read_text()

    @property
    def ssh_words(self) -> list[str]:
        """The client's words before port, user and host."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        options += ["ConnectTimeout=10", "IdentitiesOnly=yes", "ControlPath=none"]
        return ["ssh", "-F", "none", "-i", str(self.key), *(word for one in options for word in ("-o", one))]

    def run(self, argv: Sequence[str], *, check: bool = True, timeout: float = 60, stdin: bytes = b"") -> Result:
        """Run a command of this machine there: curl, ssh, …"""
        return self._space.run(argv, outside=True, check=check, timeout=timeout, stdin=stdin)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` there, from the machine."""
        return self._space.enter(argv, outside=True)

    def tcp(self, address: str, port: int, timeout: float = 1.0) -> str:
        """How a port looks from outside: "open", "refused" (a reset came) or "filtered" (nothing came)."""
        argv = [sys.executable, "-I", "-S", "-c", TCP, address, str(port), str(timeout)]
        return self.run(argv, timeout=timeout + 10).stdout.strip()

    def ssh_sampler(self, address: str, port: int = 22, pause: float = 0.1) -> Sampler:
        """Start trying a new SSH connection (to the server's banner) every `pause` seconds."""
        argv = [sys.executable, "-I", "-S", "-c", SAMPLER, address, str(port), str(pause)]
        return Sampler(self._space.enter(argv, outside=True))
