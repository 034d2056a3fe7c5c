"""The last page: the endpoint, what was proved, and all that is worth copying. It is printed after the end, too."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content

from wizard import clients

from .block import Block
from .desk import Answered
from .dialogs import Show
from .drawing import ROW_STYLES, clean, fit, stacked
from .page import Key, Page

LOOK_FOR_REQUESTS_S = 2


class SummaryPage(Page):
    at = "done"
    title = "Your API is at"
    help = (
        "c copies the curl command, p the Python program, by your terminal's clipboard (OSC 52); where the terminal "
        "does not do that, select them with the mouse: this program does not take the mouse. All of it is printed "
        "after the end, too.\n\n"
        "The last proof is a request from your own computer: it passes your provider's firewall and your network, "
        "which can't be seen from this server. When it arrives, this page says so."
    )

    def __init__(self) -> None:
        super().__init__()
        self._since = time.time()
        self._asked = False
        self._ticks = 0
        self.arrived = ""

    @property
    def summary(self) -> clients.Summary:
        return self.wizard.summary

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Block(self._endpoint)
        yield Block(self._checks, classes="gap")
        yield Block(self._try, classes="gap", id="try")

    def on_mount(self) -> None:
        """What is printed after the end is kept in a file as well: the terminal may be gone by then."""
        wizard, text = self.wizard, clients.text(self.summary)

        def keep() -> None:
            wizard.kept_at = wizard.gateway.keep_summary(text)

        wizard.desk.order(keep, alone=False)

    def _endpoint(self, width: int, height: int) -> Content:
        model = f"    model  {self.summary.model}"
        first = Content.assemble("  ", (clean(self.summary.base_url), "bold $accent"), fit(model, width))
        more = [
            Content.assemble("  ", (clean(url), "bold $accent"), fit(f"    model  {model}", width))
            for url, model, _ in self.summary.more
        ]
        return stacked([first, *more]) if more else first

    def _checks(self, width: int, height: int) -> Content:
        lines = []
        for ok, words in self.wizard.checks:
            sign, style = ROW_STYLES[ok]
            lines.append(Content.assemble((f"{sign} ", style), fit(words, width - 2)))
        return stacked(lines)

    def _try(self, width: int, height: int) -> Content:
        return stacked(self._each(width))

    def _each(self, width: int) -> Iterator[Content]:
        summary = self.summary
        yield Content.styled("Try it from your own computer", "bold")
        if summary.fetch_root:
            yield Content(f"  {clean(summary.fetch_root)}")
        yield from (Content(f"  {line}") for line in fold_command(clean(summary.laptop), width - 2))
        yield Content.assemble(("  the key:  ", "dim"), clean(summary.key_command))
        yield Content.assemble(("  undo:     ", "dim"), clean(summary.undo))
        if self.arrived:
            yield Content.assemble(("✓ ", "$success"), fit(self.arrived, width - 2))
        else:
            yield Content.styled("… this page says so when that request arrives", "dim")

    def ticked(self) -> None:
        self._ticks += 1
        if self.arrived or self._asked or self._ticks % LOOK_FOR_REQUESTS_S:
            return
        self._asked = True
        wizard, since = self.wizard, self._since
        wizard.desk.order(lambda: Answered("arrived", wizard.gateway.arrived(since)))

    def take_arrival(self, words: str) -> None:
        self._asked = False
        self.arrived = words
        self.redraw(**{"try": self._try})

    def keys(self) -> list[Key]:
        keys = [
            Key(("enter", "q"), "Enter", "Finish", self.wizard.leave, main=True),
            Key(("c",), "c", "Copy curl", lambda: self.copy("The curl command", self.summary.curl)),
            Key(("p",), "p", "Copy Python", lambda: self.copy("The Python program", self.summary.python)),
            Key(("a",), "a", "Show all", self.show_all),
        ]
        if self.summary.trust:
            keys.insert(3, Key(("t",), "t", "Trust", self.show_trust))
        return keys

    def copy(self, what: str, text: str) -> None:
        self.app.copy_to_clipboard(text)
        self.app.notify(f"{what} is in the clipboard, where your terminal allows it (OSC 52).", markup=False)

    def show_all(self) -> None:
        text = clients.text(self.summary)
        self.app.push_screen(Show("All of it", lambda w, h: stacked(map(Content, clean(text).splitlines()))))

    def show_trust(self) -> None:
        lines = []
        for system, command in self.summary.trust:
            lines += [Content.styled(system, "bold"), Content(f"  {command}"), Content("")]
        self.app.push_screen(Show("How clients trust the root certificate", lambda w, h: stacked(lines)))


def fold_command(command: str, width: int) -> list[str]:
    """The command on lines that a shell joins again: broken between words, with a backslash."""
    lines, line = [], ""
    for word in re.split(r" (?=-H |--cacert )", command):
        if line and len(line) + len(word) + 3 > width:
            lines.append(f"{line} \\")
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]
