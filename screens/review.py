"""The review: the whole plan by step, what it interrupts in all, and the key that starts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content

from wizard.gateway import Seen, SeenStep
from wizard.plain_words import times

from .block import Block
from .desk import Answered
from .dialogs import Ask, AskPath
from .drawing import IMPACTS, change_lines, counted, fit, stacked, worst_impact, wrapped
from .page import Key, Page

Document = dict[str, Any]
TOTALS = {
    "restart vllm": "vLLM restarts {times}: no API until the model is loaded again, often some minutes.",
    "restart caddy": "Caddy restarts: a second without HTTPS. vLLM goes on.",
    "reload caddy": "Nothing is interrupted.",
    "none": "Nothing is interrupted.",
}
OPEN = "Your SSH connection stays open. It can be undone: sudo vllm-https-setup rollback"


class Fold(Block, can_focus=True):
    """A step of the plan: one line, and unfolded all that it does."""

    def __init__(self, step: SeenStep) -> None:
        super().__init__(self._lines)
        self.step = step
        self.is_open = False

    def take(self, step: SeenStep) -> None:
        self.step = step
        self.draw_as(self._lines)

    @property
    def changes(self) -> Sequence[Document]:
        found: Sequence[Document] = self.step.report["changes"]
        return found

    def _lines(self, width: int, height: int) -> Content:
        return stacked(self._each(width))

    def _each(self, width: int) -> Iterator[Content]:
        count = len(self.changes)
        sign = " " if not count else ("▾" if self.is_open else "▸")
        impact = worst_impact(self.changes)
        words = counted(self.changes) if count else "in order already"
        head = f"{sign} {self.step.step.title:<10}{words:<17}"
        style = "reverse" if self.has_focus else ("" if count else "dim")
        tail = IMPACTS[impact] if count else ""
        tail_style = "" if impact == "restart vllm" else "dim"
        yield Content.assemble((head, style), (tail[: max(width - len(head), 0)], tail_style))
        if self.is_open:
            yield from (Content.assemble("    ", line) for line in change_lines(self.changes, width - 4))

    def on_focus(self) -> None:
        self.draw_as(self._lines)
        self.scroll_visible(animate=False)

    def on_blur(self) -> None:
        self.draw_as(self._lines)

    def on_key(self, event: events.Key) -> None:
        if event.key == "space" and self.changes:
            event.stop()
            self.is_open = not self.is_open
            self.refresh(layout=True)


class ReviewPage(Page):
    at = "review"
    title = "Review"
    about = "Nothing has been changed yet. This is all that will be:"
    help = (
        "Each line is a step; Space unfolds it: every command, and every line of every file that is changed. What is "
        "started is this plan and nothing else: where the server has changed meanwhile, the run stops and says so.\n\n"
        "s saves the answers for vllm-https-setup apply --answers, for the next server or for Ansible. x writes the "
        "plan as a shell script that can be read, kept, or run by hand."
    )

    def compose(self) -> ComposeResult:
        yield from self.head()
        with VerticalScroll(classes="fill", can_focus=False):
            yield Vertical(id="folds")
        yield Block(self._total, classes="gap", id="total")

    async def on_mount(self) -> None:
        await self._show_folds()

    def note(self) -> str:
        return "checking …" if self.wizard.is_looking else ("starting …" if self.wizard.is_starting else "")

    async def _show_folds(self) -> None:
        seen = self.wizard.seen
        steps = [one for one in seen.steps if one.report["status"] != "skipped"] if seen else []
        folds = list(self.query(Fold))
        if [one.step.step.id for one in folds] == [one.step.id for one in steps]:
            for fold, step in zip(folds, steps, strict=True):
                fold.take(step)
            return
        place = self.query_one("#folds")
        await place.remove_children()
        await place.mount(*(Fold(step) for step in steps))

    def _total(self, width: int, height: int) -> Content:
        seen = self.wizard.seen
        if seen is None:
            return Content("")
        if not seen.can_start:
            return stacked(self._in_the_way(seen, width))
        if not seen.changes:
            return Content.assemble(("✓ ", "$success"), "Nothing to do: this server is as it should be.")
        restarts = sum(change["impact"] == "restart vllm" for change in seen.changes)
        impact = TOTALS[str(seen.impact)].format(times=times(restarts))
        where = f"Clients will use {', '.join((seen.base_url, *(url for _, url in seen.more)))}"
        return stacked([*wrapped(impact, width, "bold"), *wrapped(where, width), *wrapped(OPEN, width, "dim")])

    def _in_the_way(self, seen: Seen, width: int) -> Iterator[Content]:
        """The step that is blocked; else the answers that are not right: those of an old draft are on no page."""
        sign = ("✗ ", "bold $error")
        if seen.blocked is not None or not self._is_stray(seen):
            yield Content.assemble(sign, "Something stands in the way: go back to the marked step.")
            return
        yield Content.assemble(sign, "Answers that no page asks for are wrong; t takes them out:")
        for problem in seen.problems[:3]:
            yield Content(f"  {fit(f'{problem.key}: {problem.message}', width - 2)}")

    @staticmethod
    def _is_stray(seen: Seen) -> bool:
        """Whether no page asks for any of what is wrong."""
        asked = [question for step in seen.steps for question in step.questions]
        return bool(seen.problems) and not any(
            one.concerns(question.key) for one in seen.problems for question in asked
        )

    def take_out(self) -> None:
        wizard = self.wizard
        wizard.draft, wizard.seen = wizard.draft.without_problems(), None
        wizard.desk.keep(wizard.draft)
        wizard.look()

    def seen(self) -> None:
        self.call_next(self._seen)

    async def _seen(self) -> None:
        if self.is_attached:
            await self._show_folds()
            self.redraw(total=self._total)

    def keys(self) -> list[Key]:
        seen = self.wizard.seen
        starts = seen is not None and bool(seen.changes)
        forward = Key(("enter",), "Enter", "Start" if starts else "Test", self.forward, main=True, starts=starts)
        return [
            *([forward] if seen is not None and seen.can_start else []),
            *([Key(("t",), "t", "Take out", self.take_out)] if seen is not None and self._is_stray(seen) else []),
            Key(("escape",), "Esc", "Back", self.back),
            Key((), "↑↓", "Move", lambda: None),
            Key((), "Space", "Unfold", lambda: None),
            Key(("s",), "s", "Save answers", self.save, short="Save"),
            Key(("x",), "x", "Export", self.export),
        ]

    def forward(self) -> None:
        wizard = self.wizard
        if wizard.is_looking or wizard.seen is None or not wizard.seen.can_start:
            return
        if wizard.seen.changes:
            wizard.start_run()
        else:
            from .test import TestPage

            wizard.settle()
            wizard.start_test()
            wizard.walk_to(TestPage())

    def back(self) -> None:
        from .step import StepPage
        from .way import STEPS

        seen = self.wizard.seen
        wrong = seen.blocked if seen else None
        self.wizard.walk_to(StepPage(wrong.step.id if wrong else STEPS[-1]))

    def save(self) -> None:
        draft = self.wizard.draft
        use = "sudo vllm-https-setup apply --answers"
        self._write("Save the answers to", "answers.yaml", lambda: draft.dump().decode(), use)

    def export(self) -> None:
        wizard, draft = self.wizard, self.wizard.draft
        title = "Write the plan as a shell script to"
        self._write(title, "vllm-https-setup.sh", lambda: wizard.gateway.export(draft), "read it, then: sudo bash")

    def _write(self, title: str, name: str, text: Callable[[], str], use: str) -> None:
        wizard, directory = self.wizard, working_directory()

        def take(path: str) -> None:
            where = os.path.normpath(os.path.join(directory, os.path.expanduser(path)))

            def work() -> Answered:
                wizard.gateway.write(where, text())
                return Answered("written", f"{where}\n\nTo use it: {use} {where}")

            def write() -> None:
                wizard.desk.order(work)

            if os.path.lexists(where):
                self.app.push_screen(Ask("Replace it?", f"{where} is there already.", write))
            else:
                write()

        self.app.push_screen(AskPath(title, os.path.join(directory, name), take))


def working_directory() -> str:
    """Where the wizard was started; the root where that directory is gone."""
    try:
        return os.getcwd()
    except OSError:
        return "/"
