"""The standard streams, as they are needed: there, and never ended by a sign that their encoding does not have."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def prepare() -> None:
    """A closed stream leads nowhere from now on: its number must not be that of the next file that is opened."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """On standard error, without a secret and without what could drive a terminal: it may quote the server."""
    from .mask import Mask

    print(Mask().text(text), file=sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    from .report import as_json

    print(as_json(document))
