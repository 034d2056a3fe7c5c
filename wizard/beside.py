"""What is done beside all else: an answer from far away, a library that is needed later."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


def begin(ask: Callable[[], T]) -> Future[T]:
    """Begins with it. Who does not need what comes of it does not wait for that, not at the program's end either."""
    from concurrent.futures import Future

    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def load(library: str) -> None:
    """Loads it while commands are waited for. Where it can't be had, whoever needs it will tell."""
    begin(lambda: importlib.import_module(library))
