"""The unit of a run, started as soon as the plan has something to do, while the rest of it is still being made.

The program loads in it, and waits to be told its run, by a pipe that only the process which makes the plan can write
to. Where that closes without a word (a check blocks, that process was killed) it ends, and has asked and changed
nothing; the lock is taken when it is told.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from io import FileIO
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import paths
from .engine import NoWatcher, Step
from .model import Status
from .process import Process

if TYPE_CHECKING:
    from .system import RealMachine


def own_command(*words: str) -> tuple[str, ...]:
    """This program as a command for systemd: the same interpreter, isolated from the caller's environment."""
    return (sys.executable, "-I", "-m", "wizard", *words)


def unit_command(*words: str, properties: Sequence[str] = ()) -> tuple[str, ...]:
    """What starts this program with these words as the unit of a run."""
    return (
        *("systemd-run", "--quiet", "--collect", f"--unit={paths.RUN_UNIT}", "--service-type=exec"),
        *("--description=vllm-https-setup: a run", "--property=KillMode=mixed", "--property=UMask=0022"),
        # Asked to stop it ends after the action that it is at: a restart of vLLM, or dpkg.
        "--property=TimeoutStopSec=300",
        *("--property=WorkingDirectory=/", *(f"--property={one}" for one in properties)),
        *("--", *own_command(*words)),
    )


class Standby(NoWatcher):
    """Watches how the plan is made. A context manager: on leaving it, a unit that was not told of a run ends."""

    def __init__(self) -> None:
        self._argv: tuple[str, ...] = ()
        self._starting: Process | None = None
        self._ends: tuple[FileIO, ...] = ()

    def step_ended(self, step: Step, status: Status, seconds: float) -> None:
        if status is Status.CHANGED and not self._argv:
            self._begin()

    def _begin(self) -> None:
        reads, writes = os.pipe()
        self._ends = FileIO(reads, "r"), FileIO(writes, "w")
        self._argv = unit_command("standby", properties=(f"StandardInput=file:/proc/{os.getpid()}/fd/{reads}",))
        # Where it can't be started now, the run is started when it is its turn, and what is wrong is told there.
        with contextlib.suppress(OSError):
            self._starting = Process(self._argv)

    def tell(self, machine: RealMachine, run: str) -> bool:
        """True where it takes this run up."""
        starting, self._starting = self._starting, None
        if starting is None or not machine.command(self._argv, timeout_s=30, begun=starting).ok:
            return False
        reads, writes = self._ends
        # It has opened the pipe itself: where it was killed since, there is nobody else left to read.
        reads.close()
        try:
            with writes:
                writes.write(f"{run}\n".encode())
        except BrokenPipeError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._starting is not None:
            # systemd may be about to open the pipe.
            self._starting.outlast(30)
        for end in self._ends:
            end.close()
