"""What a unit's own processes have said, in the journal's words: `-u` would give systemd's words about it, too."""

from __future__ import annotations

# systemd tells of a unit's end before the journal has all that it said: this waits until it has (journalctl(1)).
SYNC = ("journalctl", "--sync")


def said_by(unit: str, *which: str) -> tuple[str, ...]:
    """The command that prints its lines; `which` of them is in journalctl's own options."""
    return ("journalctl", "--no-pager", "-q", "-o", "cat", *which, f"_SYSTEMD_UNIT={unit}")


def said_of(unit: str, since: int) -> tuple[str, ...]:
    """The command that prints what systemd itself has said of it since then, in seconds since 1970."""
    return ("journalctl", "--no-pager", "-q", "-o", "cat", f"--since=@{since}", "_PID=1", f"UNIT={unit}")
