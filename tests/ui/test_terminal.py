"""What every screen owes the terminal: any size, any text from the machine, no secret, no byte for nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from screens import drawing
from screens.app import WizardApp
from screens.run_state import RunState
from tests.lab.spec import CANARY
from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from wizard.draft import Draft
from wizard.gateway import Document, Seen, SeenStep

from .driving import STEPS, Driver, played
from .picture import words
from .pictures import PICTURES

SCREENS = Path(drawing.__file__).parent
HOSTILE = "[/x] [bold]b[/] [/etc/caddy] \x1b]0;title\x07\x1b[31mred \x9b5m [link=x]"
SHOWN = "[/x] [bold]b[/] [/etc/caddy] red"


def hostile(value: Any) -> Any:
    """The same document with hostile text in every sentence of it."""
    match value:
        case dict():
            return {key: hostile(item) if key not in NAMES else item for key, item in value.items()}
        case list():
            return [hostile(item) for item in value]
        case str():
            return f"{HOSTILE} {value}"
        case _:
            return value


NAMES = ("id", "level", "kind", "impact", "status", "key", "event", "step", "base_url", "ca_file")


class Hostile(DescribedGateway):
    """Everything that comes from this server tries to drive the terminal."""

    def look(self, draft: Draft, tell: Callable[[SeenStep], None], *, again: bool = False) -> Seen:
        told: list[SeenStep] = []

        def twisted(seen: SeenStep) -> SeenStep:
            asked = tuple(
                replace(one, label=f"{HOSTILE} {one.label}", otherwise=HOSTILE, note=HOSTILE) for one in seen.questions
            )
            return replace(seen, report=hostile(seen.report), questions=asked)

        seen = super().look(draft, lambda one: told.append(twisted(one)), again=again)
        for one in told:
            tell(one)
        return replace(seen, steps=tuple(told))

    def follow(self, run: str) -> Iterator[Document]:
        return (hostile(event) for event in super().follow(run))

    def report(self, run: str) -> Document:
        return {**hostile(super().report(run)), "exit_code": 0}

    def log(self, run: str) -> str:
        return HOSTILE


@played(gateway=lambda: Hostile(scenario.load("exposed")))
async def test_text_of_the_machine_is_shown_as_text_in_every_widget(driver: Driver) -> None:
    for page in (*STEPS, "Review"):
        await driver.jump(page)
        assert driver.shows(SHOWN) or page == "Review", page
        for key in ("d", "w"):
            await driver.press(key)
            await driver.pilot.pause()
            await driver.press("escape") if len(driver.app.screen_stack) > 2 else None
    await driver.press("down", "space", "enter")
    await driver.until(lambda: driver.app.report is not None)
    await driver.pilot.pause()
    assert driver.shows("[/x] [bold]b[/]")
    await driver.press("enter", "a")
    await driver.pilot.pause()
    assert "\x1b" not in driver.text and "\x07" not in driver.text and "\x9b" not in driver.text


def test_no_screen_has_a_secret_in_it() -> None:
    for picture in (SCREENS.parent / "screenshots").glob("*.svg"):
        assert CANARY not in picture.read_text() and "sk-" not in picture.read_text(), picture.name


class Broken(DescribedGateway):
    def prove(self, draft: Draft, tell: Callable[[Document], None]) -> list[Document]:
        key = CANARY
        raise RuntimeError(f"not even this: {len(key)}")


def test_crash_leaves_a_sentence_and_keeps_its_traceback_without_locals() -> None:
    gateway = Broken(scenario.load("finished"))

    @played(gateway=lambda: gateway)
    async def play(driver: Driver) -> None:
        await driver.jump("Review")
        await driver.press("enter")
        await driver.until(lambda: bool(driver.app.last_words))
        said = driver.app.last_words
        assert said.startswith("This should not have happened: RuntimeError") and "Start again" in said

    with pytest.raises(RuntimeError):
        play()
    (kept,) = gateway.defects
    assert "RuntimeError" in kept and CANARY not in kept


SOON = ("tls-acme", "review-unfolded", "summary")


@pytest.mark.parametrize(
    "picture",
    [pytest.param(one, marks=() if one.name in SOON else pytest.mark.thorough, id=one.name) for one in PICTURES],
)
def test_nothing_that_matters_is_lost_at_60_by_18(picture: Any) -> None:
    from wizard.demo import DemoGateway

    from .recording import Held

    @played(size=(60, 18), gateway=lambda: Held(picture.scene) if picture.is_held else DemoGateway(picture.scene, 0))
    async def play(driver: Driver) -> None:
        await picture.way(driver)
        await driver.pilot.pause()
        lines = words(driver.app)
        assert len(lines) == 18 and max(map(len, lines)) <= 60
        assert any(one in driver.text for one in ("ctrl+q", "^q", "Esc"))

    play()


@played()
async def test_terminal_may_change_its_size_at_any_time(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.resize(30, 10)
    assert driver.shows("This window is too small")
    await driver.resize(60, 18)
    assert driver.shows("5/9 TLS", "(•) Internal")
    await driver.resize(120, 40)
    assert driver.shows("▸ TLS", "(•) Internal", "Will do")


@played()
async def test_still_screen_repaints_nothing(driver: Driver) -> None:
    await driver.jump("Firewall")
    painted: list[object] = []
    compositor = driver.app.screen._compositor
    before = compositor.render_update
    compositor.render_update = lambda *a, **k: painted.append(a) or before(*a, **k)  # type: ignore[func-returns-value, method-assign]
    await driver.pilot.pause(2.2)
    assert painted == []


@played()
async def test_move_of_the_focus_repaints_what_it_moves_between(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.pilot.pause(0.1)
    dirty: list[int] = []
    compositor = driver.app.screen._compositor
    before = compositor.render_update

    def counting(*args: Any, **more: Any) -> Any:
        dirty.append(sum(region.area for region in compositor._dirty_regions))
        return before(*args, **more)

    compositor.render_update = counting  # type: ignore[method-assign]
    await driver.press("tab")
    await driver.pilot.pause(0.1)
    assert 0 < sum(dirty) < 80 * 24 / 2, dirty


def test_rules_of_a_screen_are_nested_in_its_own_name() -> None:
    for path in SCREENS.glob("*.tcss"):
        outside = re.sub(r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}", "", path.read_text())
        assert len(outside.split()) == 1, path.name


def test_no_widget_reads_text_as_markup() -> None:
    """Static and Label would; notify and OptionList are told not to."""
    for path in SCREENS.glob("*.py"):
        text = path.read_text()
        assert not re.search(r"\bLabel\(|from_markup|border_title", text), path.name
        for call in re.findall(r"(?:Static|notify|OptionList)\((?:[^()]|\([^()]*\))*\)", text):
            assert "markup=False" in call or call.endswith("()"), f"{path.name}: {call}"
    assert not WizardApp.ENABLE_COMMAND_PALETTE


def test_file_of_the_screens_fits_a_reader() -> None:
    assert [path.name for path in SCREENS.glob("*.py") if len(path.read_text().splitlines()) > 400] == []


def test_state_is_never_told_by_colour_alone() -> None:
    levels = ("ok", "info", "warn", "drift", "blocked")
    findings = [{"level": one, "summary": "s", "remedy": "r", "key": "k", "evidence": {}} for one in levels]
    signs = [line.plain[0] for line in drawing.finding_lines(findings, 60) if not line.plain.startswith(" ")]
    assert len(set(signs)) == len(levels)


def test_run_state_takes_any_event() -> None:
    state = RunState()
    for event in (
        {},
        {"event": "new"},
        {"event": "end", "exit_code": 0},
        {"event": "step_ended", "step": "x", "status": "ok", "seconds": 1},
    ):
        state.take(dict(event))
    assert state.exit_code == 0
