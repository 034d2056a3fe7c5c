"""Every screen is as its picture in screenshots/ shows it; tests/ui/record draws them anew."""

import asyncio

import pytest

from .pictures import PICTURES, Picture
from .recording import PLACE, drawn


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_screen_is_as_its_picture_shows(picture: Picture) -> None:
    differing = []
    for name, text in asyncio.run(drawn(picture)).items():
        path = PLACE / name
        if not path.exists() or path.read_text() != text:
            differing.append(name)
    assert differing == [], "to see it drawn anew: tests/ui/record, then git diff screenshots"


def test_no_picture_is_left_of_a_screen_that_is_gone() -> None:
    names = {path.name.rsplit("-", 2)[0] for path in PLACE.glob("*.svg")}
    assert names == {picture.name for picture in PICTURES}
