"""Packages that an earlier run installed, taken away again: those that nobody has come to need since, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .apt import CADDY, installed_by, purge, remove
from .model import Run
from .owned import Owned
from .parse.apt import parse_simulation
from .server import Server


@dataclass(frozen=True)
class Departure:
    """What can go; `brought` came with it and is needed by nothing else; of `needed` each is needed by another."""

    going: tuple[str, ...]
    brought: tuple[str, ...] = ()
    needed: tuple[tuple[str, str], ...] = ()


def is_brought(owned: Owned, name: str) -> bool:
    """Whether an earlier run has installed it."""
    return any(name in installed_by(known.argv) and not known.taken_back for known in owned.commands)


def goes(server: Server, owned: Owned, name: str) -> bool:
    """Whether an earlier run has installed it, and nobody has come to need it since."""
    return is_brought(owned, name) and name in find_departure(server, (name,)).going


def find_departure(server: Server, names: Sequence[str]) -> Departure:
    """Which of these packages can go. apt is asked, in simulations: what it would take along decides."""
    known = server.packages(*names)
    going = [name for name in names if known[name].installed or known[name].half_configured]
    needed: list[tuple[str, str]] = []
    while going and (along := _removed_by(server, going) - set(going)):
        staying = next((name for name in going if _removed_by(server, [name]) - set(going)), going[0])
        going.remove(staying)
        needed.append((staying, sorted(along)[0]))
    if not going:
        return Departure((), needed=tuple(needed))
    unneeded_before = _simulated(server, ("autoremove",))
    unneeded_after = _simulated(server, ("purge", "--auto-remove", "--", *going))
    brought = unneeded_after - unneeded_before - set(going)
    return Departure(tuple(going), tuple(sorted(brought)), tuple(needed))


def _removed_by(server: Server, names: Sequence[str]) -> set[str]:
    return _simulated(server, ("purge", "--", *names))


def _simulated(server: Server, words: Sequence[str]) -> set[str]:
    """The packages that apt would remove; none where it can't say."""
    output = server.query(("apt-get", "-s", "-q", *words), timeout_s=60)
    return set(parse_simulation(output.out)) if output.ok else set()


def take_away(departure: Departure, why: str, *, keep_data: bool) -> tuple[Run, ...]:
    """The commands. `keep_data`: Caddy's own certificates and its CA stay, which a purge of it would delete."""
    kept = tuple(name for name in departure.going if keep_data and name == CADDY)
    purged = tuple(name for name in (*departure.going, *departure.brought) if name not in kept)
    runs = (remove(kept, why) if kept else None, purge(purged, why) if purged else None)
    return tuple(run for run in runs if run is not None)
