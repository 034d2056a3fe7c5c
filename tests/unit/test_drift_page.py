"""docs/drift.md is made of the catalogue, which has each drift once."""

from __future__ import annotations

from tests.docs import drifts
from tests.lab.drifts import CUSTOM, INTERNAL


def test_page_is_current() -> None:
    assert drifts.PAGE.read_text() == drifts.page(), "run tests/docs/drifts, and look at what it changes"


def test_catalogue_has_each_drift_once_and_says_what_becomes_of_it() -> None:
    names = [one.name for one in (*INTERNAL, *CUSTOM)]
    assert len(names) == len(set(names)) > 60
    # What the firewall's undo does around a change is not counted: there, it is all that is done.
    silent = [one for one in (*INTERNAL, *CUSTOM) if not (one.repaired or one.stops)]
    assert {one.key for one in silent} == {"firewall.safety"}
