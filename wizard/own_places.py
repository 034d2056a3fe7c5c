"""The program's own directories: root's alone, or nothing is done. What is in them is done by root later."""

from __future__ import annotations

from collections.abc import Callable

from . import files, paths
from .model import SetupError


def refuse_foreign_places() -> None:
    """Raises SetupError where one of them is another's, or leads elsewhere."""
    for directory in (paths.ETC, paths.STATE, paths.RUNS, paths.LOG, paths.RUNTIME):
        files.refuse_foreign(directory)


def complain(say: Callable[[str], None]) -> int:
    """0 where they are root's; else says what is wrong, and returns the exit code."""
    try:
        refuse_foreign_places()
    except SetupError as error:
        say(error.message)
        say(f"  {error.remedy}")
        return 1
    return 0
