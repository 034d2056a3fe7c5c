"""The wizard driven by keys on the simulated server, and read as text."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from textual.pilot import Pilot

from screens.app import WizardApp
from wizard.demo import DemoGateway
from wizard.gateway import Gateway

from .picture import words

PATIENCE_S = 20


class Driver:
    """A person at the keyboard, who waits for what the screen is to say before the next key."""

    def __init__(self, app: WizardApp, pilot: Pilot[int]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        return "\n".join(words(self.app))

    def shows(self, *texts: str) -> bool:
        return all(text in self.text for text in texts)

    async def until(self, *wanted: str | Callable[[], bool]) -> None:
        """Waits for these words to be on the screen, or for these conditions."""
        end = time.monotonic() + PATIENCE_S
        while not all(one() if callable(one) else one in self.text for one in wanted):
            assert time.monotonic() < end, f"{wanted} did not come; the screen:\n{self.text}"
            await self.pilot.pause(0.005)

    async def settled(self) -> None:
        """Waits until the look with the answers of now is over."""
        await self.until(lambda: self.app.seen is not None and not self.app.is_looking)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)

    async def write(self, text: str) -> None:
        await self.pilot.press(*(NAMES.get(letter, letter) for letter in text))

    async def on(self, page: str, key: str = "enter") -> None:
        """Goes on by a key, until this is the page's title."""
        await self.settled()
        await self.press(key)
        await self.until(lambda: self.app.page is not None and self.app.page.title == page)
        await self.pilot.pause()

    async def walk(self, *pages: str) -> None:
        """Enter, page by page."""
        for page in pages:
            await self.on(page)


NAMES = {".": "full_stop", "/": "slash", "@": "at", "-": "minus", " ": "space", ",": "comma", ":": "colon"}
STEPS = ("Preflight", "Firewall", "Bind", "Caddy", "TLS")


@contextlib.asynccontextmanager
async def driven(
    scene: str = "fresh", *, size: tuple[int, int] = (80, 24), gateway: Gateway | None = None
) -> AsyncIterator[Driver]:
    """The wizard on a simulated server whose time does not pass."""
    app = WizardApp(gateway or DemoGateway(scene, pace=0))
    app.animation_level = "none"
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: app.opening is not None)
        yield driver
