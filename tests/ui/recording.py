"""Writes screenshots/*.svg: each picture at 80×24 and 120×40, on a dark and on a light terminal."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from wizard.demo import DemoGateway
from wizard.gateway import Document

from .driving import driven
from .picture import DARK, LIGHT, draw
from .pictures import PICTURES, Picture

PLACE = Path(__file__).resolve().parents[2] / "screenshots"
SIZES = ((80, 24), (120, 40))
THEMES = {"dark": DARK, "light": LIGHT}


class Still(DemoGateway):
    """A server that is looked at for as long as it takes: nobody uses its endpoint meanwhile."""

    def __init__(self, scene: str) -> None:
        super().__init__(scene, pace=0)

    def arrived(self, since: float) -> str:
        return ""


class Held(DemoGateway):
    """A server whose firewall can't be proved, at the moment when the operator is asked: time stands still there."""

    def __init__(self, scene: str) -> None:
        super().__init__(scene, pace=0, proof=False)

    def follow(self, run: str) -> Iterator[Document]:
        for number, event in enumerate(super().follow(run)):
            yield {**event, "at": number / 100}
            if "second SSH session" in str(event.get("text")):
                threading.Event().wait()


async def drawn(picture: Picture) -> dict[str, str]:
    """The picture's files by name: reached at the first size, and resized to the others."""
    gateway = Held(picture.scene) if picture.is_held else Still(picture.scene)
    found = {}
    async with driven(size=SIZES[0], gateway=gateway) as driver:
        await picture.way(driver)
        for width, height in SIZES:
            await driver.resize(width, height)
            for shade, theme in THEMES.items():
                found[f"{picture.name}-{width}x{height}-{shade}.svg"] = draw(driver.app, theme)
    return found


def main(names: list[str]) -> int:
    PLACE.mkdir(exist_ok=True)
    for picture in PICTURES:
        if not names or picture.name in names:
            for name, text in asyncio.run(drawn(picture)).items():
                (PLACE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
