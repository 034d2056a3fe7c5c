"""The way in, watched from both sides: new connections from outside, and the rules that the host has loaded."""

import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.lab.lab import Lab
from tests.lab.outside import Sample, Sampler
from tests.lab.server import Server
from tests.lab.space import OUTSIDE, OUTSIDE6
from wizard.parse.netfilter import Packet, evaluate, parse_ruleset

# The host's rules again and again, by the kernel's own tool; each reading ends with a line of its own.
READ = "while %s-save -t filter; do echo =; sleep 0.03; done"
END = "=\n"
# ufw takes its chains down and up again one after the other; these are empty only in its midst, whatever its rules.
ALWAYS_FULL = ("before-input", "after-input", "user-limit-accept")
CHANGING = re.compile(r"^#.*\n|\[\d+:\d+\]", re.M)  # dates and counters


class Rules:
    """All states of the filter table, as fast as they can be read, and how often each was read.

    `settled` are those that were read twice in a row: ufw puts a new set of rules in the place of an old one by several
    commands, and what is between lasts for milliseconds.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.seen: dict[str, int] = {}
        self.settled: set[str] = set()
        family = "ip6tables" if server.spec.by_ipv6 else "iptables"
        enter = ["nsenter", "-t", str(server.leader), "-n", "-m", "-p", "--", "sh", "-c", READ % family]
        self._process = subprocess.Popen(enter, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        lines: list[str] = []
        before = ""
        for line in self._process.stdout:
            if line != END:
                lines.append(line)
                continue
            state = CHANGING.sub("", "".join(lines))
            self.seen[state] = self.seen.get(state, 0) + 1
            if state == before:
                self.settled.add(state)
            before, lines = state, []

    def stop(self) -> None:
        """End the reading."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _refuses(self, state: str, port: int) -> bool:
        version = 6 if self._server.spec.by_ipv6 else 4
        source = OUTSIDE6 if version == 6 else OUTSIDE
        packet = Packet("tcp", port, source, "host0", family=version, destination=self._server.reached_at)
        return evaluate(parse_ruleset(state), packet).result != "accept"

    def _is_down(self, state: str) -> bool:
        chains, prefix = parse_ruleset(state).chains, "ufw6" if self._server.spec.by_ipv6 else "ufw"
        return any(not chains.get(f"{prefix}-{name}") for name in ALWAYS_FULL)

    def refusals(self, port: int) -> list[str]:
        """Each settled state in which a SYN of the operator's would not get in; none is as it should be."""
        return [state for state in self.settled if self._refuses(state, port) and not self._is_down(state)]

    def instants(self, port: int) -> int:
        """How many readings would not have let a SYN in, in the midst of ufw: its sender repeats it a second later."""
        return sum(count for state, count in self.seen.items() if self._refuses(state, port))


class Logins:
    """Real logins from outside, one after the other: how each ended, and how long it took."""

    def __init__(self, server: Server, pause: float) -> None:
        self._server = server
        self._pause = pause
        self._ended = threading.Event()
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._log_in)
        self._thread.start()

    def _log_in(self) -> None:
        while not self._ended.is_set():
            start = time.monotonic()
            result = self._server.ssh("echo in", check=False)
            self.seconds.append(time.monotonic() - start)
            if result.stdout != "in\n":
                self.failed.append(f"exit {result.code}: {result.stderr}")
            self._ended.wait(self._pause)

    def stop(self) -> None:
        """No more of them."""
        self._ended.set()
        self._thread.join()


@dataclass
class Watch:
    """As long as the block takes: ten connections a second to each port, logins, and the loaded rules.

    Where ufw limits SSH to five connections in 30 s, `limited` tries one login in nine seconds, and nothing more.
    """

    lab: Lab
    server: Server
    ports: tuple[int, ...]
    limited: bool = False
    _samplers: list[Sampler] = field(default_factory=list)

    def __enter__(self) -> Self:
        if not self.limited:
            address = self.server.reached_at
            self._samplers = [self.lab.outside.ssh_sampler(address, port) for port in self.ports]
            for sampler in self._samplers:
                sampler.wait(2)
        self.rules = Rules(self.server)
        self.logins = Logins(self.server, 9 if self.limited else 0.5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                for sampler in self._samplers:
                    sampler.wait(len(sampler.samples) + 2)
        finally:
            self.logins.stop()
            self.rules.stop()
            for sampler in self._samplers:
                sampler.stop()

    @property
    def samples(self) -> list[Sample]:
        """All connections."""
        return [sample for sampler in self._samplers for sample in sampler.samples]

    @property
    def problems(self) -> list[str]:
        """Each moment at which the operator was, or would have been, kept out."""
        shut = [f"{sample}" for sample in self.samples if not sample.ok]
        return shut + self.logins.failed + [line for port in self.ports for line in self.rules.refusals(port)]

    def __str__(self) -> str:
        slowest = max((sample.seconds for sample in self.samples), default=0)
        readings = sum(self.rules.seen.values())
        instants = max(self.rules.instants(port) for port in self.ports)
        return (
            f"{len(self.samples)} connections, the slowest {slowest:.3f} s to the banner; {len(self.logins.seconds)} "
            f"logins, the slowest {max(self.logins.seconds):.2f} s; {readings} readings of the rules, "
            f"{len(self.rules.seen)} different; in {instants} of them ufw had its chains down"
        )
