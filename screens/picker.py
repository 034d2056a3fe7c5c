"""A file of the server, picked from its directories."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from .block import Block
from .dialogs import Dialog
from .drawing import clean, fit

if TYPE_CHECKING:
    from .app import WizardApp

UP = ".."


class Picker(Dialog):
    """Enter opens a directory, or takes a file."""

    def __init__(self, title: str, path: str, take: Callable[[str], object]) -> None:
        super().__init__()
        self._title, self._take = title, take
        self._directory = posixpath.dirname(path) if path.startswith("/") else "/etc/ssl"
        self._entries: tuple[tuple[str, bool], ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield self.head(self._title)
            yield Block(self._place, id="place")
            yield OptionList(markup=False, compact=True)
            yield self.keys_line(("Enter", "Open or take"), ("Backspace", "Up"), ("Esc", "Cancel"))

    def _place(self, width: int, height: int) -> Content:
        return Content.styled(fit(self._directory, width), "dim")

    def on_mount(self) -> None:
        self._open(self._directory)
        self.query_one(OptionList).focus()

    def _open(self, directory: str) -> None:
        cast("WizardApp", self.app).desk.browse(directory)

    def show(self, directory: str, found: tuple[tuple[str, bool], ...]) -> None:
        came_from = posixpath.basename(self._directory)
        self._directory, self._entries = directory, ((UP, True), *found)
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(Content(clean(f"{name}/" if inner else name))) for name, inner in self._entries])
        names = [name for name, _ in self._entries]
        options.highlighted = names.index(came_from) if came_from in names else min(1, len(names) - 1)
        self.query_one("#place", Block).draw_as(self._place)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        name, is_directory = self._entries[event.option_index]
        if name == UP:
            self._open(posixpath.dirname(self._directory))
        elif is_directory:
            self._open(posixpath.join(self._directory, name))
        elif self.close():
            self._take(posixpath.join(self._directory, name))

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self.close()
        elif event.key == "backspace":
            event.stop()
            self._open(posixpath.dirname(self._directory))
