"""A figure beside another, measured turn by turn in one run: what every benchmark of commands ends with."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """What was measured beside what: medians in `unit`, their ratio or difference, and what is wanted of it."""

    work: str
    ours: float
    beside: str
    theirs: float
    wanted: float
    unit: str = "s"
    difference: bool = False

    @property
    def value(self) -> float:
        return self.ours - self.theirs if self.difference else self.ours / self.theirs

    @property
    def met(self) -> bool:
        return self.value <= self.wanted

    @property
    def shown(self) -> str:
        value = f"+{self.value:.3f} {self.unit}" if self.difference else f"{self.value:.2f} ×"
        wanted = f"+{self.wanted} {self.unit}" if self.difference else f"{self.wanted} ×"
        figures = f"{self.work:<30} {self.ours:7.3f} {self.unit}   {self.beside:<32} {self.theirs:7.3f} {self.unit}"
        return f"{'✓' if self.met else '✗'} {figures}   {value:<9} (wanted {wanted})"

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "value": self.value, "met": self.met}


@dataclass(frozen=True)
class Limit:
    """A figure that has a limit of its own: memory."""

    work: str
    ours: float
    wanted: float
    unit: str = "MiB"

    @property
    def met(self) -> bool:
        return self.ours <= self.wanted

    @property
    def shown(self) -> str:
        sign = "✓" if self.met else "✗"
        return f"{sign} {self.work:<30} {self.ours:7.1f} {self.unit}   (wanted: at most {self.wanted} {self.unit})"

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


Rows = list[Row | Limit]


def medians(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Each of these once a round, in turn."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return {name: statistics.median(times) for name, times in found.items()}


def table(rows: Sequence[Row | Limit]) -> Iterator[str]:
    for row in rows:
        yield row.shown
