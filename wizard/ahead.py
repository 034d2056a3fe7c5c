"""What every look asks, asked while the program itself is still being loaded.

The answers' checks take longer to import than ten commands take to answer (0.1 s each on two cores): so they are asked
first, in a thread of their own. Whoever looks then finds what is known already, and asks the rest.
"""

from __future__ import annotations

import contextlib
import threading

from .live import LiveServer
from .mask import Mask
from .model import SetupError
from .steps.preflight import QUERIES
from .system import RealMachine

_begun: list[tuple[LiveServer, threading.Thread]] = []


def begin() -> None:
    """Begins to ask: questions only, of this server."""
    server = LiveServer(RealMachine(Mask()))

    def ask() -> None:
        # What could not be asked now is asked again in its turn, and told there.
        with contextlib.suppress(SetupError, RuntimeError):
            server.expect(QUERIES)

    thread = threading.Thread(target=ask, daemon=True)
    with contextlib.suppress(RuntimeError):
        thread.start()
        _begun.append((server, thread))


def take() -> LiveServer | None:
    """The server with what is known of it; for the first look alone, which is the one of this moment."""
    if not _begun:
        return None
    server, thread = _begun.pop()
    thread.join()
    return server
