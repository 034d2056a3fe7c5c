"""What a process was started with, seen from outside of it: whether the drop-in that confines its service counts for
it, or only for its next start."""

from __future__ import annotations

import re
from dataclasses import replace

from ..engine import Look
from ..model import FileIs, QuerySays, Then
from ..paths import STATE
from ..server import Unit


def exposure_query(unit: str) -> tuple[str, ...]:
    return ("systemd-analyze", "security", "--no-pager", unit)


def _started_query(unit: str) -> tuple[str, ...]:
    return ("systemctl", "show", "-p", "ExecMainStartTimestamp", "--timestamp=unix", "--", unit)


def _namespace(unit: Unit) -> str:
    """The mounts that the service's process sees: a drop-in of ours hides our records from it."""
    pid = unit.properties.get("MainPID", "0")
    return f"/proc/{pid}/mountinfo" if unit.is_active and pid not in ("", "0") else ""


def is_outside(look: Look, unit: Unit) -> bool:
    """True if the process was started without the drop-in; False also where that can't be known."""
    path = _namespace(unit)
    state = look.server.read(path) if path else None
    return state is not None and f" {STATE} " not in state.text


def is_older(look: Look, unit: Unit, path: str) -> bool:
    """True if the process was started before the drop-in became what it is now, to the second; False also where that
    can't be known: a clock that was put back has files of the future."""
    if not unit.is_active:
        return False
    started = re.search(r"=@(\d+)", look.server.query(_started_query(unit.name)).out)
    if started is None:
        return False
    changed = look.server.query(("stat", "-c", "%Y", "--", path)).out.strip()
    return changed.isdigit() and int(started[1]) < int(changed) <= look.server.now()


def with_effect(restart: Then, unit: Unit, *, confined: bool = True) -> Then:
    """The restart, with what it makes true of the process: how much is left to it then is not known before."""
    makes = [*restart.makes, QuerySays(exposure_query(unit.name), ""), QuerySays(_started_query(unit.name), "")]
    if path := _namespace(unit):
        text = f"0 0 0:0 / {STATE} ro" if confined else "0 0 0:0 / / rw"
        makes.append(FileIs(path, text.encode(), 0o444))
    return replace(restart, makes=tuple(makes))
