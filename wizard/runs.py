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
from .server import FileState
from .system import RealMachine, own_command, program_of

LOOKING = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FOLLOW_INTERVAL_S = 0.02
ALIVE_INTERVAL_S = 1.0
PATIENCE_S = 3.0
LOOK_S = 1.0


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as the lock file says."""

    run: str
    command: str
    pid: int
    since: str


UNKNOWN = Holder("?", "a run", 0, "just now")


class Busy(SetupError):
    """Another run is under way: exit code 4."""

    def __init__(self, holder: Holder) -> None:
        named = f"{holder.command} {holder.run}, since {holder.since} (process {holder.pid})"
        super().__init__(
            f"another run is under way: {named if holder != UNKNOWN else 'it has only just begun'}",
            "attach to it: sudo vllm-https-setup; or watch it: sudo vllm-https-setup log --follow",
        )
        self.holder = holder


class Held(Busy):
    """A process that is none of root's holds the lock, which every user can read: exit code 4, too."""

    def __init__(self, pid: int, program: str, user: str) -> None:
        super().__init__(UNKNOWN)
        self.message = f"no run is under way, but {program} of {user} (process {pid}) holds its lock, {paths.LOCK}"
        self.remedy = f"end that process, then type the same command again: sudo kill {pid}"


class Lock:
    """flock on /run/vllm-https-setup/lock, held by the process that applies. Raises Busy, or SetupError."""

    def __init__(self, run: str, command: str) -> None:
        files.make_directories(paths.RUNTIME, 0o755)
        try:
            self._descriptor = os.open(paths.LOCK, os.O_RDWR | os.O_CREAT | LOOKING, 0o644)
        except OSError as error:
            raise SetupError(f"{paths.LOCK} can't be locked: {error.strerror}", f"ls -l {paths.LOCK}") from error
        if not self._take():
            stranger = find_stranger(os.fstat(self._descriptor))
            os.close(self._descriptor)
            raise stranger or Busy(read_holder())
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        said = {"run": run, "command": command, "pid": os.getpid(), "since": since}
        # Who holds it is said as well as the disk lets us.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, (json.dumps(said) + "\n").encode(), 0)

    def _take(self) -> bool:
        """Whoever looks for the holder takes it for a moment, too."""
        until = time.monotonic() + LOOK_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
            time.sleep(FOLLOW_INTERVAL_S)

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
    """Who holds the lock now, without taking it for longer than a look. Raises Held."""
    try:
        descriptor = os.open(paths.LOCK, os.O_RDONLY | LOOKING)
    except OSError:
        return None
    try:
        if (stranger := find_stranger(os.fstat(descriptor))) is not None:
            raise stranger
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_holder()
    finally:
        os.close(descriptor)
    return None


def find_stranger(lock: os.stat_result) -> Held | None:
    """The process that holds this lock (see /proc/locks), where it is not one of whom we run as."""
    place = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    for line in (files.read("/proc/locks") or FileState("file")).text.splitlines():
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == place:
            try:
                user = os.stat(f"/proc/{words[4]}").st_uid
            except OSError:
                continue
            if user not in (0, os.geteuid()):
                return Held(int(words[4]), program_of(int(words[4])) or "a program", files.name_of_user(user))
    return None


def wait_for_holder(patience_s: float = PATIENCE_S) -> Holder:
    """Whose unit is there already: it takes its lock, and says so, in a moment."""
    until = time.monotonic() + patience_s
    while (found := find_holder()) is None and time.monotonic() < until:
        time.sleep(FOLLOW_INTERVAL_S)
    return found or UNKNOWN


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
    asked, looked = False, time.monotonic()
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
            time.sleep(FOLLOW_INTERVAL_S)
