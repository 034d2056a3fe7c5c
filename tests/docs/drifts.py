"""docs/drift.md: every drift of the catalogue (tests/lab/drifts), as `tests/docs/drifts` writes it; a test compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab.drifts import CUSTOM, INTERNAL, Drift

PAGE = Path(__file__).resolve().parents[2] / "docs/drift.md"
ABOUT = """\
# Repair from drift

{count} ways in which a set-up server can drift or break, each made on a booted server (tests/lab/test_repair.py, in
`./test`, a third of them in `./test long`). For each: `status` names the finding, ends with exit code 1 and changes
nothing; `repair` does what `status` has shown and no more, restarts nothing that it did not announce, and ends with a
final test that passes; or it stops, changes nothing, and says what a person has to do. An edit by hand is shown as a
diff, and is kept in the run's backup.

This page is made from the catalogue by `tests/docs/drifts`, and a test keeps it current.
"""


def page() -> str:
    return "\n".join([ABOUT.format(count=len(INTERNAL) + len(CUSTOM)), *_sections()])


def _sections() -> Iterator[str]:
    yield from _table("Mode internal", INTERNAL)
    yield from _table("Mode custom, imported by a Caddyfile of others", CUSTOM)


def _table(title: str, drifts: Sequence[Drift]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| drift | named by | changes of the repair |"
    yield "|---|---|---|"
    for drift in drifts:
        done = f"{len(drift.repaired)}" if not drift.stops else "stops, and says what to do"
        yield f"| {drift.name} | `{drift.key}` ({drift.level}) | {done} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
