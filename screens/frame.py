"""The one screen: header, rail, body, keys. Pages change in its body, so that a change of page repaints no more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.reactive import Reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from .block import Block
from .drawing import DEMO, fit, stacked
from .page import Key, Page
from .way import RAIL, is_before_work

if TYPE_CHECKING:
    from wizard.gateway import Seen

    from .app import WizardApp

NARROW, LEAST = 72, (40, 12)
SIGNS = {"done": ("✓", "$success"), "here": ("▸", "bold"), "wrong": ("✗", "bold $error"), "ahead": ("·", "dim")}


class Frame(Screen[None]):
    CSS_PATH = "frame.tcss"
    # Textual's own repaints the whole screen when the focus moves: 5 KiB over the line for each Tab.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (NARROW, "-wide")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._offered: tuple[Page | None, str, Seen | None] | None = None
        self._meant_from = 0.0
        self._waiting: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Block(self._header, id="header")
        yield Block(lambda width, height: Content.styled("─" * width, "dim"), classes="rule")
        with Horizontal(id="middle"):
            yield Block(self._rail, id="rail")
            yield Block(lambda width, height: stacked([Content.styled("│", "dim")] * height), id="edge")
            yield Vertical(id="body")
        yield Block(lambda width, height: Content.styled("─" * width, "dim"), classes="rule")
        yield Block(self._keys, id="keys")
        yield Block(self._too_small, id="too-small")

    @property
    def wizard(self) -> WizardApp:
        return cast("WizardApp", self.app)

    @property
    def page(self) -> Page | None:
        return next(iter(self.query(Page)), None)

    async def show(self, page: Page) -> None:
        """Puts the page in the place of the one before."""
        body = self.query_one("#body")
        with self.app.batch_update():
            await body.remove_children()
            await body.mount(page)
            self.set_focus(page.first_focus(), scroll_visible=False)
            self.redraw()

    def redraw(self) -> None:
        for name, draw in (("#header", self._header), ("#rail", self._rail), ("#keys", self._keys)):
            self.query_one(name, Block).draw_as(draw)

    def _header(self, width: int, height: int) -> Content:
        opening = self.wizard.opening
        where = " · ".join(one for one in (opening.host, opening.system) if one) if opening else ""
        left = [Content("vllm-https-setup")]
        if self.wizard.gateway.is_demo:
            left += [Content("  "), Content.styled(DEMO, "reverse")]
        start = Content.assemble(*left)
        place = self._place() if width < NARROW else where
        place = fit(place, max(width - len(start) - 2, 0))
        return Content.assemble(start, " " * max(width - len(start) - len(place), 1), (place, "dim"))

    def _place(self) -> str:
        names = [name for name, _ in RAIL]
        at = self.page.at if self.page else ""
        return f"{names.index(at) + 1}/{len(names)} {dict(RAIL)[at]}" if at in names else ""

    def _rail(self, width: int, height: int) -> Content:
        at = self.page.at if self.page else ""
        names = [name for name, _ in RAIL]
        place = names.index(at) if at in names else (len(names) if at == "done" else -1)
        lines = []
        for number, (name, label) in enumerate(RAIL):
            sign, style = SIGNS[self._standing(name, number, place)]
            weight = "bold" if number == place else ("" if number < place else "dim")
            lines.append(Content.assemble(" ", (sign, style), " ", (label, weight)))
        return stacked(lines)

    def _standing(self, name: str, number: int, place: int) -> str:
        seen = self.wizard.steps_seen.get(name)
        if seen is not None and seen.is_blocked and is_before_work(place):
            return "wrong"
        if number == place:
            return "here"
        return "done" if number < place else "ahead"

    def _can_be_meant(self, key: Key) -> bool:
        """Whether a key that starts a run has been there, and not been pressed, for as long as it takes to let go."""
        if not key.starts:
            return True
        offered = (self.page, key.label, self.wizard.seen)
        if self._offered is None or any(now is not then for now, then in zip(offered, self._offered, strict=True)):
            self._offered = offered
            self._wait_for_rest()
        return time.monotonic() >= self._meant_from

    def _wait_for_rest(self) -> None:
        pause = self.wizard.pause_before_start_s
        self._meant_from = time.monotonic() + pause
        if self._waiting is not None:
            self._waiting.stop()
        self._waiting = self.set_timer(pause, self._show_keys) if pause else None

    def _show_keys(self) -> None:
        self.query_one("#keys", Block).draw_as(self._keys)

    def active_keys(self) -> list[Key]:
        """The page's keys and those that are the same everywhere; no letters while a line is being typed."""
        keys = self.page.keys() if self.page else []
        keys = [*keys, Key(("question_mark", "f1"), "?", "Help", self.wizard.show_help)]
        if isinstance(self.focused, Input):
            keys = [key for key in keys if not key.is_letter]
        return keys

    def _keys(self, width: int, height: int) -> Content:
        """The keys with as many words as there is room for."""
        line, keys = Content(""), [key for key in self.active_keys() if self._can_be_meant(key)]
        for gap, short, leave in (
            ("  ", False, "ctrl+q Quit"),
            (" ", False, "^q Quit"),
            (" ", True, "^q Quit"),
            (" ", True, "^q"),
        ):
            name, _, label = leave.partition(" ")
            end = Content.assemble((name, "bold"), f" {label}" if label else "")
            line = Content(gap).join([*(self._key(key, short=short) for key in keys), end])
            if line.cell_length <= width:
                return line
        return stacked(packed([*(self._key(key, short=True) for key in keys), end], width))

    def _key(self, key: Key, *, short: bool) -> Content:
        typing = isinstance(self.focused, Input)
        shown = next((name.upper() for name in key.names if name in ("f1", "f5")), key.shown) if typing else key.shown
        label = (key.short or key.label) if short else key.label
        if key.main:
            return Content.styled(f" {shown} {label} ", "bold ansi_black on $accent")
        return Content.assemble((shown, "bold"), f" {label}")

    def _too_small(self, width: int, height: int) -> Content:
        return Content(f"This window is too small: {LEAST[0]}×{LEAST[1]} is the least. Make it larger, or use --plain.")

    def on_resize(self, event: events.Resize) -> None:
        small = event.size.width < LEAST[0] or event.size.height < LEAST[1]
        self.set_class(small, "-small")
        self.call_after_refresh(self.redraw)

    def on_descendant_focus(self) -> None:
        self._show_keys()

    def on_descendant_blur(self) -> None:
        self._show_keys()

    def on_key(self, event: events.Key) -> None:
        for key in self.active_keys():
            if event.key in key.names or (event.key == "f1" and "question_mark" in key.names):
                event.stop()
                key.act() if self._can_be_meant(key) else self._wait_for_rest()
                return
        if event.key in ("pageup", "pagedown") and self.page is not None:
            event.stop()
            self.page.turn(up=event.key == "pageup")
            return
        move = {"down": self.focus_next, "up": self.focus_previous}.get(event.key)
        if move is not None:
            event.stop()
            move()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        for key in self.active_keys():
            if "enter" in key.names:
                key.act()


def packed(parts: Iterable[Content], width: int) -> Iterator[Content]:
    """The parts on as few lines as they fit on."""
    line = Content("")
    for part in parts:
        if line and line.cell_length + part.cell_length + 1 > width:
            yield line
            line = part
        else:
            line = Content(" ").join([line, part]) if line else part
    yield line
