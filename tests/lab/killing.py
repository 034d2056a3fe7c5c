"""A run killed in the middle of an action, to the event; and what has to be so afterwards.

The process is stopped and let go on in slices of less than a millisecond: what its journal says while it stands still
is what it had done when it was killed. So also an action of a few milliseconds is hit.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cache import HERE
from tests.lab.operator import Document, Event, Operator, in_words, interrupted, troubles
from tests.lab.space import Deadline

CADDYFILE = "/etc/caddy/Caddyfile"
STATE = "/var/lib/vllm-https-setup"
REVERT = "/etc/systemd/system/vllm-https-setup-revert"
APPLY = "apply --answers answers.yaml"
SLICE_S, PAUSE_S = 0.0004, 0.002

Sign = Callable[[Event], bool]
# Ends a run whose process is this one; returns whether anybody is left to be told.
Kill = Callable[[Operator, int], bool]


class TooLate(AssertionError):
    """The action was over before the kill: it does not count."""


@dataclass(frozen=True)
class Instant:
    """So many seconds after the beginning of an action, which is the `number`-th of its run and has these words."""

    number: int
    words: str
    after: float = 0.0

    def __str__(self) -> str:
        return f"{self.number:2} {self.words[:72]}" + (f" +{self.after * 1000:.0f} ms" if self.after else "")


def kill_process(operator: Operator, pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


def lose_power(operator: Operator, pid: int) -> bool:
    """Everything on the server dies at once; it boots again."""
    operator.server.kill()
    return False


def spare(operator: Operator, pid: int) -> bool:
    """Instead of a kill, to see whether anybody notices that there was none."""
    os.kill(pid, signal.SIGCONT)
    return True


class Tail:
    """The journal of a run as it comes, read from outside of the host."""

    def __init__(self, operator: Operator, run: str) -> None:
        self._place = operator.server.root / f"{STATE.lstrip('/')}/runs/{run}/journal.jsonl"
        self._rest = b""
        self._read = 0
        self.actions = 0
        self.under_way = False
        self.ended = False

    def look(self, sign: Sign | None = None) -> bool:
        """Takes in what is new; whether the sign was among it."""
        seen = False
        for event in self._new():
            kind = event["event"]
            self.actions += kind == "action_began"
            self.under_way = kind == "action_began" or (self.under_way and kind != "action_ended")
            self.ended = self.ended or kind == "end"
            seen = seen or (sign is not None and sign(event))
        return seen

    def _new(self) -> list[Event]:
        with suppress(FileNotFoundError), self._place.open("rb") as opened:
            opened.seek(self._read)
            data = opened.read()
            self._read += len(data)
            whole, _, self._rest = (self._rest + data).rpartition(b"\n")
            return [json.loads(line) for line in whole.splitlines() if line]
        return []


def kill_at(
    operator: Operator,
    instant: Instant | Sign,
    then: float | bytes = 0,
    *,
    command: str = APPLY,
    kill: Kill = kill_process,
) -> str:
    """Starts a run and kills it there; returns its id. It counts only where its journal shows an action begun and not
    done: else TooLate is raised. Whoever started it is told, too."""
    known = set(operator.runs())
    with operator.start(command) as typed:
        run = _new_run(operator, known)
        tail = Tail(operator, run)
        _stand_still(operator, tail, instant)
        pid = operator.run_process()
        wait = instant.after if isinstance(instant, Instant) else then
        if wait:
            os.kill(pid, signal.SIGCONT)
            _wait_on(operator, wait)
            _stop(pid)
            tail.look()
        hit = tail.under_way
        ended = typed.end() if kill(operator, pid) else None
    operator.wait_until_idle()
    shown = interrupted(operator.events(run))
    if not hit and shown is None:
        raise TooLate("killed between two actions: this shows nothing")
    assert shown is not None, "nothing was killed: the run went on"
    if isinstance(instant, Instant):
        assert in_words([shown])[0] == instant.words, "another action than was meant"
    if ended is not None:
        assert ended.code == 1, ended
        said = ended.stdout + ended.stderr
        assert "was killed before its end" in said and "goes on from where it was" in said, ended
    return run


def _new_run(operator: Operator, known: set[str]) -> str:
    until = Deadline("a new run", 60)
    while not (new := [run for run in operator.runs() if run not in known]):
        until.tick(PAUSE_S)
    return new[-1]


def _stand_still(operator: Operator, tail: Tail, instant: Instant | Sign) -> None:
    """The run's process, stopped where this action has begun."""
    until = Deadline("the moment of the kill", 120)
    while not (pid := operator.run_process()):
        until.tick(PAUSE_S)
    while True:
        near = not isinstance(instant, Instant) or tail.actions >= instant.number - 1
        if near:
            _stop(pid)
        seen = tail.look(None if isinstance(instant, Instant) else instant)
        if seen or (isinstance(instant, Instant) and tail.actions >= instant.number):
            return
        assert not tail.ended, "the run ended before that"
        if near:
            os.kill(pid, signal.SIGCONT)
        until.tick(SLICE_S if near else PAUSE_S)


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until = Deadline("the process to stand still", 10)
    while _state(pid) not in "TZ":
        until.tick(0.0001)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def _wait_on(operator: Operator, then: float | bytes) -> None:
    """So many seconds, or until dpkg's log says this."""
    if not isinstance(then, bytes):
        time.sleep(then)
        return
    until = Deadline(f"dpkg's log to say {then!r}", 60)
    while then not in (operator.file("/var/log/dpkg.log") or b""):
        until.tick(PAUSE_S)


# ── after it ──


def hashed(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Before:
    """What the files that a run writes were before it; and whether vLLM could be reached from other machines."""

    files: dict[str, str | None]
    exposed: bool

    @classmethod
    def of(cls, operator: Operator, paths: Sequence[str]) -> "Before":
        files = {path: hashed(operator.file(path)) for path in paths}
        return cls(files, is_exposed(operator))


def is_exposed(operator: Operator) -> bool:
    return operator.lab.outside.tcp(operator.server.address, operator.server.spec.vllm_port, 0.4) == "open"


def assert_whole(operator: Operator, before: Before) -> None:
    """Each file that a run has begun to write is what it was, what its package brings, or what was to be written."""
    packaged = hashed((HERE / "files/caddy/Caddyfile").read_bytes())
    wanted: dict[str, set[str | None]] = {path: {known} for path, known in before.files.items()}
    for run in operator.runs():
        for event in operator.events(run):
            if event["event"] == "action_began" and event["change"]["kind"] in ("write", "remove"):
                known = wanted.setdefault(event["change"]["path"], {None})
                known.add(event["sha256"])
                if event["backup"] is not None:
                    known.add(hashed(operator.file(event["backup"])))
    wanted.setdefault(CADDYFILE, set()).update({packaged, None})
    for path, known in wanted.items():
        assert hashed(operator.file(path)) in known, f"{path} is neither the old file nor the new"
    kept = [f"{STATE}/owned.json", *(f"{STATE}/runs/{run}/request.json" for run in operator.runs())]
    for path in kept:
        found = operator.file(path)
        assert found is None or json.loads(found)
    certificate = operator.file("/etc/vllm-https-setup/root.crt")
    assert certificate is None or certificate.rstrip().endswith(b"-----END CERTIFICATE-----")


def assert_reachable(operator: Operator) -> None:
    """A new login from another machine."""
    assert operator.server.ssh("echo in").stdout == "in\n"
    seen = operator.lab.outside.tcp(operator.server.address, operator.server.spec.ssh_port)
    assert seen == "open", f"SSH is {seen}"


def assert_not_exposed(operator: Operator, before: Before) -> None:
    """vLLM is not reachable where it was not before, and never again once the firewall's step is done."""
    closed = not before.exposed or any(
        event["event"] == "step_ended" and event["step"] == "firewall" and event["status"] in ("ok", "changed")
        for run in operator.runs()
        for event in operator.events(run)
    )
    assert not (closed and is_exposed(operator)), "vLLM can be reached from other machines"


def litter(operator: Operator) -> list[str]:
    """Files that were written beside another, to take its place, and never did."""
    return [str(path.relative_to(operator.server.upper)) for path in operator.server.upper.rglob(".*.new")]


def assert_completed(operator: Operator, document: Document, killed: str) -> None:
    """What the next apply has to come to, and to say."""
    untried = {"tls.trusted"}  # the root of a private ACME authority can't be known
    wrong = [line for line in troubles(document) if line.partition(":")[0] not in untried]
    assert (wrong, document["exit_code"]) == ([], 0), f"{document['exit_code']}: {wrong}"
    assert document["continued"] == killed, f"continued: {document['continued']}"
    assert f"cut off; completed by {document['run']}" in operator.say("runs").stdout, "`runs` does not tell of it"
    assert litter(operator) == [], f"left behind: {litter(operator)}"
    for path in (f"{REVERT}.service", f"{REVERT}.timer", f"{STATE}/firewall/unconfirmed"):
        assert operator.file(path) is None
    tcp, address = operator.lab.outside.tcp, operator.server.address
    seen = [tcp(address, 443), tcp(address, 8000, 0.4)]
    assert seen == ["open", "filtered"], f"443 and 8000 are {seen}"
