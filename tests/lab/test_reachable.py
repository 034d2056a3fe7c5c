"""Nobody is locked out: SSH answers at every moment of a run."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Sample, Server, ServerSpec
from tests.lab.operator import Operator

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]


class Logins:
    """Real logins from outside, two at a time, one after the other: how each ended, and how long it took."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._log_in) for _ in range(2)]

    def _log_in(self) -> None:
        while not self._ended.is_set():
            start = time.monotonic()
            result = self._server.ssh("echo in", check=False)
            self.seconds.append(time.monotonic() - start)
            if result.stdout != "in\n":
                self.failed.append(f"exit {result.code}: {result.stderr}")

    def __enter__(self) -> "Logins":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def sampled(operator: Operator) -> Iterator[list[Sample]]:
    """A try at a new connection in every tenth of a second, as long as the block takes."""
    samples: list[Sample] = []
    sampler = operator.lab.outside.ssh_sampler(operator.server.address, operator.server.spec.ssh_port)
    try:
        sampler.wait(2)
        yield samples
        sampler.wait(len(sampler.samples) + 2)
    finally:
        samples += sampler.stop()


STARTS = {
    "firewall off": ServerSpec(),
    "firewall on, SSH allowed": ServerSpec(ufw_enabled=True, ufw_rules=("allow 22/tcp",)),
    "another port": ServerSpec(ssh_port=2222),
}


@pytest.mark.parametrize("start", STARTS)
def test_ssh_answers_at_every_moment_of_a_run(attend: Attend, start: str) -> None:
    operator = attend(STARTS[start])
    with sampled(operator) as samples, Logins(operator.server) as logins:
        assert operator.apply()["exit_code"] == 0
    assert [sample for sample in samples if not sample.ok] == []
    assert logins.failed == []
    assert len(logins.seconds) > 2
    slowest = max(sample.seconds for sample in samples)
    print(f"{len(samples)} connections, the slowest {slowest:.3f} s to the banner")
    print(f"{len(logins.seconds)} logins, the slowest {max(logins.seconds):.2f} s")
