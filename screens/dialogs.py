"""What is laid over the wizard: a text to read, a question with yes and no, a path to type."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.reactive import Reactive
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from .block import Block
from .drawing import stacked, wrapped
from .fields import Line

Draw = Callable[[int, int], Content]


class Dialog(ModalScreen[None]):
    CSS_PATH = "dialogs.tcss"
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

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
            yield Block(lambda width, height: Content.styled(self._title, "bold"), classes="title")
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
            self.dismiss()


class Ask(Dialog):
    """Yes or no; Enter and Esc are no, for what is asked here can't be taken back."""

    def __init__(self, title: str, text: str, yes: Callable[[], object]) -> None:
        super().__init__()
        self._title, self._text, self._yes = title, text, yes

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet small"):
            yield Block(lambda width, height: Content.styled(self._title, "bold"), classes="title")
            yield Block(lambda width, height: stacked(wrapped(self._text, width)))
            yield self.keys_line(("y", "Yes"), ("Esc", "No"))

    def on_key(self, event: events.Key) -> None:
        if event.key in ("escape", "enter", "n", "y"):
            event.stop()
            self.dismiss()
            if event.key == "y":
                self._yes()


class AskPath(Dialog):
    """A path to write to."""

    def __init__(self, title: str, path: str, take: Callable[[str], object]) -> None:
        super().__init__()
        self._title, self._path, self._take = title, path, take

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet small"):
            yield Block(lambda width, height: Content.styled(self._title, "bold"), classes="title")
            yield Line(self._path, "")
            yield self.keys_line(("Enter", "Write"), ("Esc", "Cancel"))

    def on_mount(self) -> None:
        self.query_one(Line).focus()

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self.dismiss()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss()
        if event.value.strip():
            self._take(event.value.strip())
