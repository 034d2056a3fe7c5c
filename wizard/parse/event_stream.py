"""A stream of `data:` lines, as it arrived piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

# What was collected first arrives in several TLS records all the same, a few microseconds apart.
AT_ONCE_MS = 1


def arrivals(pieces: Sequence[tuple[float, bytes]]) -> tuple[float, ...]:
    """When each event came, in milliseconds; the mark of the end is none."""
    return tuple(at for at, piece in pieces for line in piece.splitlines() if _is_event(line))


def came_at_once(arrived: Sequence[float]) -> bool:
    """True if several events came in the same moment."""
    return len(arrived) > 1 and arrived[-1] - arrived[0] < AT_ONCE_MS


def _is_event(line: bytes) -> bool:
    return line.startswith(b"data:") and b"[DONE]" not in line
