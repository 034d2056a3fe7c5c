"""What every look asks, begun while the program itself is still being loaded.

Loading takes longer than ten commands take to answer (0.1 s each on two cores): so they are started first. Whoever
looks then finds their answers, and asks the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .process import Process
from .queries import EVERY_LOOK

if TYPE_CHECKING:
    from .live import LiveServer

_begun: dict[Sequence[str], Process] = {}


def begin() -> None:
    """Begins to ask: questions only, of this server."""
    for argv in EVERY_LOOK:
        # What could not be asked now is asked again in its turn, and told there.
        with contextlib.suppress(OSError):
            _begun[argv] = Process(argv)


def take() -> LiveServer:
    """The server, with what has been asked of it; for the first look alone, which is the one of this moment."""
    from .live import LiveServer
    from .mask import Mask
    from .system import RealMachine

    server = LiveServer(RealMachine(Mask()), dict(_begun))
    _begun.clear()
    return server
