"""What has a unit come back after a reboot, and what is said where somebody has forbidden it to run."""

from __future__ import annotations

from .model import Run, UnitIs
from .server import Unit


def enable(name: str, why: str) -> Run:
    undo = Run(("systemctl", "disable", name), "", makes=(UnitIs(name, enabled=False),))
    return Run(("systemctl", "enable", name), why, makes=(UnitIs(name, enabled=True),), undo=(undo,))


def is_masked(unit: Unit) -> bool:
    return unit.load == "masked" or unit.enabled.startswith("masked")


def unmask(name: str) -> str:
    """The remedy: it is for whoever masked it to say that it is over."""
    return f"if that is over: sudo systemctl unmask {name}; then run this again"
