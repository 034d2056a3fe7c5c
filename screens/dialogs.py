"""What is laid over the wizard: a text to read, a question with yes and no, a path to type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.reactive import Reactive
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from .block import Block
from .drawing import DEMO, fit, stacked, wrapped
from .fields import Line

if TYPE_CHECKING:
    from .app import WizardApp

Draw = Callable[[int, int], Content]


class Dialog(ModalScreen[None]):
    CSS_PATH = "dialogs.tcss"
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    is_closed = False

    def close(self) -> bool:
        """Takes the dialog away. False where it is on its way already: a key that is held down comes again."""
        if self.is_closed:
            return False
        self.is_closed = True
        self.dismiss()
        return True

    def head(self, title: str) -> Block:
        """The title; and the demo's mark, which is on every screen."""
        demo = cast("WizardApp", self.app).gateway.is_demo
        mark = Content.styled(DEMO, "reverse") if demo else Content("")

        def draw(width: int, height: int) -> Content:
            shown = fit(title, width - len(mark) - 1)
            return Content.assemble((shown, "bold"), " " * max(width - len(shown) - len(mark), 1), mark)

        return Block(draw, classes="title")

    def keys_line(self, *pairs: tuple[str, str]) -> Block:
        parts = [Content.assemble((key, "bold"), f" {label}") for key, label in pairs]
        return Block(lambda width, height: Content("  ").join(parts), classes="keys")

    async def action_quit(self) -> None:
        await self.app.action_quit()


class Show(Dialog):
    """A text to scroll through. `text` is shown as it is, wrapped; or drawn by a function of the width."""

    def __init__(self, title: str, text: str | Draw, *, end: bool = False) -> None:
        super().__init__()
        self._title = title
        self._draw: Draw = text if callable(text) else (lambda width, height: stacked(wrapped(text, width)))
        self._end = end

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield self.head(self._title)
            with VerticalScroll(can_focus=True):
                yield Block(self._draw)
            yield self.keys_line(("↑↓", "Scroll"), ("Esc", "Close"))

    def on_mount(self) -> None:
        scroll = self.query_one(VerticalScroll)
        scroll.focus()
        if self._end:
            self.call_after_refresh(scroll.scroll_end, animate=False)

    def on_key(self, event: events.Key) -> None:
        if event.key in ("escape", "enter", "q", "question_mark", "f1"):
            event.stop()
            self.close()


class Ask(Dialog):
    """Yes or no; Enter and Esc are no, for what is asked here can't be taken back."""

    def __init__(self, title: str, text: str, yes: Callable[[], object]) -> None:
        super().__init__()
        self._title, self._text, self._yes = title, text, yes

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet small"):
            yield self.head(self._title)
            yield Block(lambda width, height: stacked(wrapped(self._text, width)))
            yield self.keys_line(("y", "Yes"), ("Esc", "No"))

    def on_key(self, event: events.Key) -> None:
        if event.key in ("escape", "enter", "n", "y"):
            event.stop()
            if self.close() and event.key == "y":
                self._yes()


class AskPath(Dialog):
    """A path to write to."""

    def __init__(self, title: str, path: str, take: Callable[[str], object]) -> None:
        super().__init__()
        self._title, self._path, self._take = title, path, take

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet small"):
            yield self.head(self._title)
            yield Line(self._path, "")
            yield self.keys_line(("Enter", "Write"), ("Esc", "Cancel"))

    def on_mount(self) -> None:
        self.query_one(Line).focus()

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self.close()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.close() and event.value.strip():
            self._take(event.value.strip())
