"""The first page of a rerun: how this server stands, and the one key that puts right what is not."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content

from .block import Block
from .drawing import MECHANICS, finding_lines, plan_lines, row_lines, stacked, wrapped
from .page import Key, Page


class StatePage(Page):
    at = "welcome"
    title = "This server"
    about = "Its answers are saved. This is how it stands by them."
    help = (
        "+ is put right by the repair, which is the plan that is shown here: nothing else is changed. c goes through "
        "the steps again, to change an answer: another certificate, another port that stays open."
    )

    def __init__(self) -> None:
        super().__init__()
        self._proving = False

    def compose(self) -> ComposeResult:
        opening = self.wizard.opening
        if opening is not None and opening.cut_off:
            self.title = "A run was cut off"
            self.about = f"Run {opening.cut_off} never came to its end. What is left of it can be completed now."
        yield from self.head()
        yield Block(self._standing, id="standing")
        yield Block(self._plan, classes="fill", id="plan")

    def on_mount(self) -> None:
        self.seen()

    def note(self) -> str:
        return "checking …" if self.wizard.is_looking or self._is_testing else ""

    @property
    def _is_testing(self) -> bool:
        return self._proving and not self.wizard.is_proved

    def _standing(self, width: int, height: int) -> Content:
        return stacked(self._each(width))

    def _each(self, width: int) -> Iterator[Content]:
        wizard = self.wizard
        seen = wizard.seen
        if seen is None:
            yield Content.styled("This server is being looked at …", "dim")
            return
        wrong = [
            finding
            for step in seen.steps
            for finding in step.report["findings"]
            if finding["level"] in ("drift", "blocked") and finding["key"] not in MECHANICS
        ]
        if wrong:
            count = f"{len(wrong)} thing{'' if len(wrong) == 1 else 's'} not as it should be:"
            yield Content.styled(count, "bold")
            yield from list(finding_lines(wrong, width))[:9]
        elif seen.problems:
            yield from wrapped("The answers are not complete: c goes through the steps.", width, "bold")
        elif wizard.is_proved:
            failed = [row for row in wizard.rows if row["ok"] is False]
            good = "✓ Healthy: all is as it should be." if not failed else "✗ The final test fails:"
            yield Content.styled(good, "bold $success" if not failed else "bold $error")
            yield from (Content(f"  {url}") for url in (seen.base_url, *(url for _, url in seen.more)))
            yield Content("")
            yield from row_lines(wizard.rows, width)
        else:
            yield Content.styled("Nothing has drifted. The endpoint is being tested …", "dim")

    def _plan(self, width: int, height: int) -> Content:
        seen = self.wizard.seen
        if seen is None or not seen.changes or not seen.can_start:
            return Content("")
        return stacked([Content(""), *plan_lines(seen.changes, width, height - 1)], height)

    def seen(self) -> None:
        wizard = self.wizard
        if wizard.seen is not None and wizard.seen.can_start and not wizard.seen.changes and not self._proving:
            self._proving = True
            if wizard.opening is not None and wizard.opening.cut_off:
                # Nothing of it is left to be done: the next start need not speak of it.
                wizard.settle()
            wizard.start_test()
        self.redraw(standing=self._standing, plan=self._plan)

    def keys(self) -> list[Key]:
        seen, wizard = self.wizard.seen, self.wizard
        change = Key(("c",), "c", "Change answers", self.change)
        again = Key(("r", "f5"), "r", "Check again", self.look_again, short="Again")
        if seen is None:
            return [change]
        if seen.can_start and seen.changes:
            completes = wizard.opening is not None and wizard.opening.cut_off
            label = "Complete it" if completes else "Repair"
            return [Key(("enter",), "Enter", label, wizard.start_run, main=True, starts=True), change, again]
        if not seen.can_start:
            return [Key(("enter",), "Enter", "Go through", self.change, main=True), again]
        return [Key(("enter",), "Enter", "Finish", self.finish, main=True), change, again]

    def change(self) -> None:
        from .step import StepPage

        self.wizard.walk_to(StepPage("preflight"))

    def look_again(self) -> None:
        self._proving = False
        self.wizard.look(again=True)

    def finish(self) -> None:
        from .summary import SummaryPage

        if self.wizard.is_proved:
            self.wizard.walk_to(SummaryPage())
