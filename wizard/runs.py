"""A run as a systemd unit of its own: started, followed, asked to stop; and the lock that makes it the only one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from . import files, paths
from .journal import Events, run_directory
from .model import Output, SetupError
from .system import RealMachine, own_command, program_of

LOOKING = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LOCK_INTERVAL_S = 0.02
# Between two looks for what a run has told: soon after it has told something, then ever later.
SOONEST_S, LATEST_S, LATER_BY = 0.002, 0.05, 1.2
ALIVE_INTERVAL_S = 1.0
PATIENCE_S = 3.0
LOOK_S = 1.0
GLANCE_S = 0.2


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as the lock file says; or the process of another user that holds it, and is no run."""

    run: str
    command: str
    pid: int
    since: str
    user: str = ""


UNKNOWN = Holder("?", "a run", 0, "just now")


class Busy(SetupError):
    """Another run is under way, or another user holds its lock: exit code 4."""

    def __init__(self, holder: Holder) -> None:
        named = f"{holder.command} {holder.run}, since {holder.since} (process {holder.pid})"
        message = f"another run is under way: {named if holder != UNKNOWN else 'it has only just begun'}"
        remedy = "attach to it: sudo vllm-https-setup; or watch it: sudo vllm-https-setup log --follow"
        if holder.user:
            named = f"{holder.command} of {holder.user} (process {holder.pid})"
            message = f"no run is under way, but {named} holds its lock, {paths.LOCK}"
            remedy = f"end that process, then type the same command again: sudo kill {holder.pid}"
        super().__init__(message, remedy)
        self.holder = holder


class Lock:
    """flock on /run/vllm-https-setup/lock, held by the process that applies. Raises Busy, or SetupError."""

    def __init__(self, run: str, command: str) -> None:
        files.make_directories(paths.RUNTIME, 0o755)
        try:
            self._descriptor = os.open(paths.LOCK, os.O_RDWR | os.O_CREAT | LOOKING, 0o644)
        except OSError as error:
            raise SetupError(f"{paths.LOCK} can't be locked: {error.strerror}", f"ls -l {paths.LOCK}") from error
        if not _take(self._descriptor, fcntl.LOCK_EX, LOOK_S):
            lock = os.fstat(self._descriptor)
            os.close(self._descriptor)
            raise Busy(_holder(lock))
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        said = {"run": run, "command": command, "pid": os.getpid(), "since": since}
        # Who holds it is said as well as the disk lets us.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, (json.dumps(said) + "\n").encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)


def read_holder() -> Holder:
    state = files.read(paths.LOCK)
    try:
        said = json.loads(state.text if state else "")
        return Holder(str(said["run"]), str(said["command"]), int(said["pid"]), str(said["since"]))
    except (ValueError, KeyError, TypeError):
        return UNKNOWN


def find_holder() -> Holder | None:
    """Who holds the lock now, without taking it for longer than a look."""
    try:
        descriptor = os.open(paths.LOCK, os.O_RDONLY | LOOKING)
    except OSError:
        return None
    try:
        if _take(descriptor, fcntl.LOCK_SH, GLANCE_S):
            # Whoever else has it so is looking, too; or holds up every run.
            alone = _take(descriptor, fcntl.LOCK_EX, GLANCE_S)
            return None if alone else find_stranger(os.fstat(descriptor))
        return _holder(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _take(descriptor: int, how: int, patience_s: float) -> bool:
    """Whoever looks for the holder takes it for a moment, too: that is waited for."""
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
        time.sleep(LOCK_INTERVAL_S)


def _holder(lock: os.stat_result) -> Holder:
    """The run that says that it holds the lock; where it does not, the other user who has the lock open."""
    said = read_holder()
    has_it = said.pid not in (0, os.getpid()) and _has_open(said.pid, lock)
    return said if has_it else find_stranger(lock) or said


def find_stranger(lock: os.stat_result) -> Holder | None:
    """A process that has the lock open, and is not root's or of whom we run as."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        user = _user_of(pid)
        if user not in (None, 0, os.geteuid()) and _has_open(pid, lock):
            return Holder("", program_of(pid) or "a program", pid, "", files.name_of_user(user or 0))
    return None


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for number in numbers:
        with contextlib.suppress(OSError):
            found = os.stat(f"/proc/{pid}/fd/{number}")
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def wait_for_holder(patience_s: float = PATIENCE_S) -> Holder:
    """Whose unit is there already: it takes its lock, and says so, in a moment."""
    until = time.monotonic() + patience_s
    while (found := find_holder()) is None and time.monotonic() < until:
        time.sleep(LOCK_INTERVAL_S)
    return found or UNKNOWN


def refuse_beside_another() -> None:
    """Raises Busy while another run is under way."""
    if (holder := find_holder()) is not None:
        raise Busy(holder)


def start(machine: RealMachine, run: str) -> None:
    """Starts the run as a unit of its own: it outlives this process, its terminal and its SSH connection."""
    argv = (
        *("systemd-run", "--quiet", "--collect", f"--unit={paths.RUN_UNIT}", "--service-type=exec"),
        *("--description=vllm-https-setup: a run", "--property=KillMode=mixed", "--property=UMask=0022"),
        # Asked to stop it ends after the action that it is at: a restart of vLLM, or dpkg.
        "--property=TimeoutStopSec=300",
        *("--property=WorkingDirectory=/", "--", *own_command("run", run)),
    )
    output: Output = machine.command(argv, timeout_s=30)
    if not output.ok:
        if (holder := find_holder()) is not None or "already" in output.err:
            raise Busy(holder or wait_for_holder())
        raise SetupError(
            f"the run could not be started as a unit: {output.last_words}. Nothing was changed.",
            f"systemctl status {paths.RUN_UNIT}",
        )


def is_alive(machine: RealMachine) -> bool:
    output = machine.command(("systemctl", "is-active", paths.RUN_UNIT), timeout_s=10)
    return output.out.strip() in ("active", "activating", "deactivating", "reloading")


def ask_to_stop(run: str) -> None:
    """The run stops after the action that it is at."""
    files.write(str(run_directory(run) / "stop"), b"", mode=0o600)


def follow(machine: RealMachine, run: str, stop_asked: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The run's events as they come, until it ends. Ends too where its process is gone without an end."""
    asked, looked, pause = False, time.monotonic(), SOONEST_S
    with contextlib.closing(Events(run)) as journal:
        while True:
            events = journal.new()
            yield from events
            if any(event.get("event") == "end" for event in events):
                return
            if stop_asked() and not asked:
                asked = True
                ask_to_stop(run)
            if not events and time.monotonic() - looked > ALIVE_INTERVAL_S:
                looked = time.monotonic()
                if not is_alive(machine):
                    yield from journal.new()
                    return
            pause = SOONEST_S if events else min(pause * LATER_BY, LATEST_S)
            time.sleep(pause)
