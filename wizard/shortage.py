"""A server with no memory, process or room left: Python and the dynamic loader say it in many ways, people get one."""

from __future__ import annotations

import errno
import signal

from .model import Output, SetupError
from .paths import RUN_UNIT

SEE = (
    "see how much memory is free, and how many processes there may be: "
    f"free -m; systemctl show -p TasksMax -p MemoryMax {RUN_UNIT}"
)
GOES_ON = f"{SEE}; then the same command goes on from where it was"
# What ld.so(8) says, and importlib after it.
LOADER = ("cannot allocate memory", "failed to map segment", "cannot create shared object descriptor")


def of_error(error: BaseException) -> SetupError | None:
    """What to say where this is how Python tells of it; None for any other error."""
    words = str(error).lower()
    of_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if of_memory or (isinstance(error, ImportError) and any(one in words for one in LOADER)):
        return SetupError("this server has no memory left, and what was under way stopped where it was", GOES_ON)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return SetupError("a disk is full, and not all of it could be written", "see which one: df -h")
    if isinstance(error, RuntimeError) and "can't start new thread" in words:
        return SetupError("no process or thread can be started, and what was under way stopped where it was", GOES_ON)
    return None


def of_output(program: str, output: Output) -> SetupError | None:
    """What to say where a command says nothing of this server, for it was not let run; None for any other."""
    if output.code == -signal.SIGKILL:
        return SetupError(f"{program} was killed (SIGKILL), as by a kernel whose memory is used up", GOES_ON)
    said = output.err.lower()
    if output.code == 127 and "error while loading shared libraries" in said and any(one in said for one in LOADER):
        return SetupError(f"{program} could not be started: no memory is left", GOES_ON)
    return None
