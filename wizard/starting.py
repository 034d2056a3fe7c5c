"""Starts of services, and how systemd refuses one that comes too soon after others."""

from __future__ import annotations

from collections.abc import Sequence

# What of systemctl has a unit do something that can fail for the unit's own reasons.
STARTING = ("start", "restart", "reload", "reload-or-restart", "try-restart")
# Five in ten seconds, where nobody has said otherwise: StartLimitBurst=, systemd.unit(5).
LIMIT_S = 30
REFUSED = "Start request repeated too quickly"


def started_by(argv: Sequence[str]) -> str:
    """The service that this command of systemctl's starts, or tells to read its configuration; "" where it does not."""
    starts = argv[0] == "systemctl" and argv[1] in STARTING and argv[-1].endswith(".service")
    return argv[-1] if starts else ""
