"""What the journal has of a unit: its own processes' words, and systemd's about it."""

from __future__ import annotations

# systemd tells of a unit's end before the journal has all that it said: this waits until it has (journalctl(1)).
SYNC = ("journalctl", "--sync")
LINES = ("journalctl", "--no-pager", "-q", "-o", "cat")


def said_by(unit: str, *which: str) -> tuple[str, ...]:
    """The command that prints its processes' lines, without what `-u` adds of systemd's. `which` of them is in
    journalctl's own options."""
    return (*LINES, *which, f"_SYSTEMD_UNIT={unit}")


def said_of(unit: str, since: int) -> tuple[str, ...]:
    """The command that prints what systemd itself has said of it since then, in seconds since 1970."""
    return (*LINES, f"--since=@{since}", "_PID=1", f"UNIT={unit}")
