"""Keys that come faster than anything is drawn: held down, in a burst, at random."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events

from screens.dialogs import Ask, AskPath, Dialog, Show
from screens.frame import Frame
from screens.picker import Picker
from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from wizard import files
from wizard.demo import DemoGateway
from wizard.gateway import RealGateway
from wizard.model import SetupError

from .driving import STEPS, Driver, played

KEYS = (
    *("enter", "escape", "tab", "shift+tab", "space", "up", "down", "left", "right", "pageup", "pagedown", "home"),
    *("end", "backspace", "delete", "ctrl+a", "ctrl+z", "ctrl+s", "ctrl+backslash", "ctrl+u", "ctrl+p", "ctrl+o"),
    *("f1", "f2", "f5", "question_mark", "d", "w", "r", "s", "x", "c", "n", "l", "a", "p", "t", "b", "1", "é", "漢"),
)


def burst(driver: Driver, *keys: str) -> None:
    """As they come from the terminal at once: none waits for what the one before has done."""
    for key in keys:
        driver.app.post_message(events.Key(key, key if len(key) == 1 else None))


@pytest.mark.parametrize("kind", ["show", "ask", "path", "picker"])
@pytest.mark.parametrize("key", ["escape", "enter"])
def test_key_that_closes_a_dialog_may_come_again(kind: str, key: str) -> None:
    @played()
    async def play(driver: Driver) -> None:
        taken: list[str] = []
        dialogs: dict[str, Callable[[], Dialog]] = {
            "show": lambda: Show("Title", "text"),
            "ask": lambda: Ask("Title", "text", lambda: taken.append("yes")),
            "path": lambda: AskPath("Title", "/path", taken.append),
            "picker": lambda: Picker("Title", "/etc/ssl/x", taken.append),
        }
        dialog = dialogs[kind]()
        await driver.jump("Preflight")
        await driver.app.push_screen(dialog)
        await driver.pilot.pause()
        burst(driver, *[key] * 5)
        await driver.pilot.pause()
        await driver.pilot.pause(0.05)
        assert isinstance(driver.app.screen_stack[1], Frame)
        assert len(taken) == (kind == "path" and key == "enter")

    play()


@played()
async def test_yes_counts_once(driver: Driver) -> None:
    sure: list[str] = []
    await driver.jump("Preflight")
    await driver.app.push_screen(Ask("Title", "text", lambda: sure.append("yes")))
    await driver.pilot.pause()
    burst(driver, "y", "y", "y")
    await driver.until(lambda: bool(sure))
    await driver.pilot.pause(0.05)
    assert sure == ["yes"] and len(driver.app.screen_stack) == 2


@pytest.mark.parametrize("page", [*STEPS, "Review"])
def test_keys_at_random_end_nothing_and_start_nothing(page: str) -> None:
    started: list[object] = []

    class Watched(DemoGateway):
        def start(self, *words: object) -> str:
            started.append(words)
            raise SetupError("nothing is started here", "")

    @played(gateway=lambda: Watched("fresh", pace=0))
    async def play(driver: Driver) -> None:
        chance = random.Random(page)
        driver.app.pause_before_start_s = 60
        await driver.jump(page)
        for _ in range(25):
            burst(driver, *chance.choices(KEYS, k=20))
            await driver.pilot.pause()
            assert driver.app._exception is None
        while len(driver.app.screen_stack) > 2:
            await driver.press("escape")
        await driver.settled()
        await driver.press("ctrl+q")
        assert driver.app.last_words.startswith("That was the demo")

    play()
    assert started == []


@played(gateway=lambda: DescribedGateway(scenario.load("exposed")))
async def test_file_that_is_there_is_replaced_only_where_that_is_meant(driver: Driver) -> None:
    gateway = driver.app.gateway
    assert isinstance(gateway, DescribedGateway)
    await driver.jump("Review")
    await driver.press("s")
    await driver.until("Save the answers to")
    await driver.press("ctrl+a", "ctrl+k")
    await driver.write(__file__)
    await driver.press("enter")
    await driver.until("Replace it?", "is there already")
    await driver.press("enter")
    await driver.until(lambda: len(driver.app.screen_stack) == 2)
    assert gateway.saved == []


@pytest.mark.parametrize("kind", ["link", "directory", "other"])
def test_answers_never_take_the_place_of_a_link_or_a_device(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    if kind == "link":
        target.symlink_to("/dev/null")
    elif kind == "directory":
        target.mkdir()
    else:
        os.mkfifo(target)
    with pytest.raises(SetupError, match="is no file"):
        RealGateway().write(str(target), "text")
    state = files.read(str(target))
    assert state is not None and state.kind == kind
