"""docs/recordings.md says how many recordings there are, and of what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(r"^\| [^|]+ \| `([^`]+)` \| (\d+) \|", (ROOT / "docs/recordings.md").read_text(), re.M)


def found(place: str) -> int:
    """The recordings of a row: files by their pattern; of a directory its entries, each pair of a case once."""
    if "*" in place:
        return len(list(ROOT.glob(place)))
    return len([one for one in (ROOT / place).iterdir() if not one.name.endswith(".expected.json")])


def test_page_names_every_kind_of_recording() -> None:
    kinds = {place.split("/")[2] for place, _ in ROWS if place.startswith("tests/recorded/")}
    assert kinds == {one.name for one in (ROOT / "tests/recorded").iterdir()}


@pytest.mark.parametrize(("place", "number"), ROWS)
def test_number_of_recordings_is_right(place: str, number: str) -> None:
    assert found(place) == int(number)
