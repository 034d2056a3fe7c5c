"""The wizard driven by keys on the simulated server, and read as text."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from textual import events
from textual.pilot import Pilot

from screens.app import WizardApp
from screens.review import ReviewPage
from screens.step import StepPage
from wizard.demo import DemoGateway
from wizard.gateway import Gateway

from .picture import words

PATIENCE_S = 20


class Timeless(WizardApp):
    """For whom it is always the moment of the last event: what a picture shows does not depend on when."""

    typing_pause_s = 0.01
    pause_before_start_s = 0.0

    def now(self) -> float:
        return self.run_state.latest


class Driver:
    """A person at the keyboard, who waits for what the screen is to say before the next key."""

    def __init__(self, app: WizardApp, pilot: Pilot[int]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        return "\n".join(words(self.app))

    @property
    def flat(self) -> str:
        """The page's text on one line, as if it had never been wrapped."""
        return " ".join(" ".join(line.partition("│")[2] if "│" in line else line for line in words(self.app)).split())

    def shows(self, *texts: str) -> bool:
        text, flat = self.text, self.flat
        return all(one in text or one in flat for one in texts)

    async def until(self, *wanted: str | Callable[[], bool]) -> None:
        """Waits for these words to be on the screen, or for these conditions."""
        end = time.monotonic() + PATIENCE_S
        while not all(one() if callable(one) else self.shows(one) for one in wanted):
            assert time.monotonic() < end, f"{wanted} did not come; the screen:\n{self.text}"
            await self.pilot.pause(0.005)

    async def settled(self) -> None:
        """Waits until the look with the answers of now is over."""
        await self.until(lambda: self.app.seen is not None and not self.app.is_looking)
        await self.pilot.pause()

    async def resize(self, width: int, height: int) -> None:
        """Another size of the terminal; waits for the layout that comes after."""
        await self.pilot.resize_terminal(width, height)
        await self.until(lambda: self.app.size == (width, height))
        await self.pilot.pause(0.02)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)

    async def write(self, text: str) -> None:
        """As it comes from a terminal's clipboard."""
        assert self.app.focused is not None
        self.app.focused.post_message(events.Paste(text))
        await self.pilot.pause()

    async def on(self, page: str, key: str = "enter") -> None:
        """Goes on by a key, until this is the page's title."""
        await self.settled()
        await self.press(key)
        await self.until(lambda: self.app.page is not None and self.app.page.title == page)
        await self.pilot.pause()

    async def jump(self, page: str) -> None:
        """To a step's page, or the review, without the way there."""
        await self.settled()
        await self.app.go(ReviewPage() if page == "Review" else StepPage(page.lower()))
        await self.until(lambda: self.app.page is not None and self.app.page.title == page)
        await self.pilot.pause()

    async def choose_acme(self) -> None:
        """On the TLS page, which has been come to: the second card, whose lines are there then."""
        await self.press("down")
        await self.until("Domain")

    async def choose_custom(self) -> None:
        """The third card, in the same way."""
        await self.choose_acme()
        await self.press("down")
        await self.until("Private key")

    async def walk(self, *pages: str) -> None:
        """Enter, page by page."""
        for page in pages:
            await self.on(page)


STEPS = ("Preflight", "Firewall", "Bind", "Caddy", "TLS", "Harden")


def played(
    scene: str = "fresh", *, size: tuple[int, int] = (80, 24), gateway: Callable[[], Gateway] | None = None
) -> Callable[[Callable[[Driver], Awaitable[None]]], Callable[[], None]]:
    """Makes a test of a coroutine that is given the driver of a wizard."""

    def decorate(play: Callable[[Driver], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            async with driven(scene, size=size, gateway=gateway() if gateway else None) as driver:
                await play(driver)

        def test() -> None:
            asyncio.run(run())

        test.__name__, test.__doc__, test.__module__ = play.__name__, play.__doc__, play.__module__
        return test

    return decorate


@contextlib.asynccontextmanager
async def driven(
    scene: str = "fresh", *, size: tuple[int, int] = (80, 24), gateway: Gateway | None = None
) -> AsyncIterator[Driver]:
    """The wizard on a simulated server whose time does not pass."""
    app = Timeless(gateway or DemoGateway(scene, pace=0))
    app.animation_level = "none"
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: app.opening is not None)
        yield driver
