"""Why a program says that it failed: one line of all that it said."""

from __future__ import annotations

import json


def line_of_error(said: str) -> str:
    """The last line that tells of an error, else the last one, else ""; of a line in JSON, as Caddy writes them, its
    words alone."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return _words(next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else ""))


def _words(line: str) -> str:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return line
    words = [told[key] for key in ("msg", "error") if isinstance(told.get(key), str)] if isinstance(told, dict) else []
    return ": ".join(word for word in words if word) or line
