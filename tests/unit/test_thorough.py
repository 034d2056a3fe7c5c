"""What the fast part leaves out is there, and is run by the whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import thorough
from tests.servers import scenario
from tests.ui.pictures import PICTURES

TESTS = Path(thorough.__file__).parent


@pytest.mark.parametrize("module", thorough.LATER)
def test_each_name_of_the_table_is_a_test_that_there_is(module: str) -> None:
    (place,) = [*(TESTS / "unit").glob(f"{module}.py"), *(TESTS / "ui").glob(f"{module}.py")]
    known = re.findall(r"^(?:async )?def (test_\w+)", place.read_text(), re.M)
    assert [begin for begin in thorough.LATER[module] if not any(name.startswith(begin) for name in known)] == []


def test_what_is_looked_at_soon_is_there() -> None:
    assert set(thorough.SOON) - set(scenario.names()) == set()
    assert set(thorough.PICTURES_SOON) - {picture.name for picture in PICTURES} == set()
