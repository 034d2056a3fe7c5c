"""The final test: its rows as they come, each failed one with what it means."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content

from .block import Block
from .drawing import row_lines, stacked
from .page import Key, Page


class TestPage(Page):
    __test__ = False  # not a test class of pytest

    at = "test"
    title = "Test"
    about = "The finished endpoint, tried as a client would."
    help = (
        "Each line is a request, or a packet, that was really sent. ✓ is as it should be. ✗ says below what it means "
        "and what to do. ! could not be tried, and says why.\n\n"
        "Packets come from a network namespace that lives for a moment: to this server's firewall they are those of "
        "another machine. A firewall of your provider is not seen from here: the last proof is a request from your "
        "own computer, on the next page."
    )

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Block(self._rows, id="rows")
        yield Block(self._verdict, classes="gap", id="verdict")

    def note(self) -> str:
        return "" if self.wizard.is_proved else "testing …"

    def _rows(self, width: int, height: int) -> Content:
        return stacked(row_lines(self.wizard.rows, width, 15))

    def _verdict(self, width: int, height: int) -> Content:
        wizard = self.wizard
        if not wizard.is_proved:
            return Content("")
        failed = [row for row in wizard.rows if row["ok"] is False]
        if failed:
            count = f"{len(failed)} row{'' if len(failed) == 1 else 's'} failed"
            return Content.assemble(("✗ ", "bold $error"), f"{count}: what it means is below it.")
        return Content.assemble(("✓ ", "$success"), "All is as it should be.")

    def seen(self) -> None:
        self.redraw(rows=self._rows, verdict=self._verdict)

    def keys(self) -> list[Key]:
        if not self.wizard.is_proved:
            return []
        return [
            Key(("enter",), "Enter", "Continue", self.forward, main=True),
            Key(("r", "f5"), "r", "Test again", self.test_again),
        ]

    def forward(self) -> None:
        from .summary import SummaryPage

        self.wizard.walk_to(SummaryPage())

    def test_again(self) -> None:
        wizard = self.wizard
        wizard.start_test()
        self.seen()
        wizard.frame.redraw()
