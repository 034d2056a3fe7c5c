"""What every page of the wizard is: a title, a body, the keys that do something here, and the help about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget

from .block import Block, Draw
from .drawing import stacked, wrapped

if TYPE_CHECKING:
    from .app import WizardApp


@dataclass(frozen=True)
class Key:
    """A key, how it is written on the line of keys, and what it does. One that `starts` a run is there as soon as it
    can be meant: not while it is still held down, or pressed again in impatience, for the page before."""

    names: tuple[str, ...]
    shown: str
    label: str
    act: Callable[[], object]
    main: bool = False
    short: str = ""
    starts: bool = False

    @property
    def is_letter(self) -> bool:
        return bool(self.names) and all(len(name) == 1 or name in ("space", "question_mark") for name in self.names)


class Page(Vertical):
    """One room of the way. `at` is its place in the rail."""

    at = ""
    title = ""
    about = ""
    help = ""

    @property
    def wizard(self) -> WizardApp:
        return cast("WizardApp", self.app)

    def head(self) -> Iterator[Block]:
        """The title and the sentence below it: the same place on every page."""
        yield Block(self._head, classes="head")

    def _head(self, width: int, height: int) -> Content:
        note = self.note()
        space = max(width - len(self.title) - len(note), 1)
        title = Content.assemble((self.title, "bold"), " " * space, (note, "dim"))
        return stacked([title, *(wrapped(self.about, width) if self.about else ()), Content("")])

    def note(self) -> str:
        """What stands at the right of the title."""
        return ""

    def keys(self) -> list[Key]:
        """The keys that do something here, the most likely first."""
        return []

    def redraw(self, **draws: Draw) -> None:
        """Draws these blocks anew, by their ids, and the head; a page that is not whole yet is drawn when it is."""
        for block in self.query(".head").results(Block):
            block.draw_as(self._head)
        for name, draw in draws.items():
            for block in self.query(f"#{name}").results(Block):
                block.draw_as(draw)

    def turn(self, *, up: bool) -> None:
        """Scrolls what there is to scroll here by a page."""
        scroll = next(iter(self.query(VerticalScroll)), None) or self
        scroll.scroll_page_up(animate=False) if up else scroll.scroll_page_down(animate=False)

    def first_focus(self) -> Widget | None:
        """What has the focus when the page comes."""
        return next((one for one in self.query("*") if one.can_focus and one.display), None)

    def seen(self) -> None:
        """Something was seen, answered or told: show it."""

    def ticked(self) -> None:
        """A second has passed."""
