"""A step's page: what was found, what it asks, what it will do. The same for every step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget

from wizard.answers_file import AnswerProblem
from wizard.gateway import SeenStep
from wizard.questions import Kind, Question

from .block import Block
from .dialogs import Show
from .drawing import ROOM, change_lines, detail_lines, finding_lines, plan_lines, stacked
from .fields import Answer, Choices, Field, Typed, field_for
from .page import Key, Page
from .picker import Picker
from .way import RAIL, STEPS

Document = dict[str, Any]
# Where what is found comes of the answers: DNS, the certificate; what is asked to be hardened.
ASKING_FIRST = ("tls", "harden")


class StepPage(Page):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.at = name
        self.title = dict(RAIL)[name]
        self._asked: tuple[Question, ...] = ()
        self._going_on = False
        self._warned = ""
        self._showing = asyncio.Lock()

    @property
    def step_seen(self) -> SeenStep | None:
        return self.wizard.steps_seen.get(self.at)

    def _take_words(self) -> None:
        """The step's own words, once it has been seen."""
        if self.step_seen is not None:
            step = self.step_seen.step
            self.title, self.about, self.help = step.title, step.about, step.help

    @property
    def findings(self) -> Sequence[Document]:
        """What was found, but for what a question says as well."""
        if self.step_seen is None:
            return ()
        told = {question.tells for question in self.step_seen.questions}
        return [one for one in self.step_seen.report["findings"] if one["key"] not in told]

    @property
    def changes(self) -> Sequence[Document]:
        found: Sequence[Document] = self.step_seen.report["changes"] if self.step_seen else ()
        return found

    def compose(self) -> ComposeResult:
        self._take_words()
        yield from self.head()
        self._asked = self.step_seen.questions if self.step_seen else ()
        fields = [field_for(question, self.wizard.draft) for question in self._asked]
        found, asked = Block(self._findings, id="findings"), Vertical(*fields, id="questions")
        self._part(found, asked)
        yield from (asked, found) if self.at in ASKING_FIRST else (found, asked)
        yield Block(self._warning, id="warning")
        plan = Block(self._plan, id="plan", classes="fill")
        plan.display = self._has_plan
        yield plan

    def on_mount(self) -> None:
        self._show_problems()

    def note(self) -> str:
        return "checking …" if self.wizard.is_looking else ""

    def _findings(self, width: int, height: int) -> Content:
        if self.step_seen is None:
            return Content.styled("This is being looked at …", "dim")
        return stacked(finding_lines(self.findings, width, 8 if self.at in ASKING_FIRST else ROOM))

    @property
    def _has_plan(self) -> bool:
        return self.step_seen is not None and self.step_seen.report["status"] not in ("blocked", "skipped")

    def _plan(self, width: int, height: int) -> Content:
        return stacked([Content(""), *plan_lines(self.changes, width, height - 1)], height, ": w shows all")

    def _warning(self, width: int, height: int) -> Content:
        if not self._warned:
            return Content("")
        return Content.assemble(("! ", "bold $warning"), (self._warned[: width - 2], "bold"))

    def warn(self, text: str) -> None:
        if text != self._warned:
            self._warned = text
            for block in self.query("#warning").results(Block):
                block.refresh(layout=True)

    # ── questions ──

    async def _show_questions(self) -> None:
        """The step's questions, each in its field; a field whose question is still there stays, and so does focus."""
        seen = self.step_seen
        asked = seen.questions if seen is not None else ()
        place = self.query_one("#questions")
        known = {field.question.key: field for field in self.fields}
        if [(one.key, one.kind) for one in asked] != [(one.key, one.kind) for one in self._asked]:
            had_focus = self.screen.focused is None
            self._asked = asked
            kept = {one.key: known[one.key] for one in asked if one.key in known}
            for key, field in known.items():
                if key not in kept:
                    await field.remove()
            for number, question in enumerate(asked):
                if question.key not in kept:
                    before = number if number < len(place.children) else None
                    await place.mount(field_for(question, self.wizard.draft), before=before)
            self._part(self.query_one("#findings"), place)
            if had_focus:
                self.screen.set_focus(self.first_focus())
        for field, question in zip(self.fields, asked, strict=True):
            field.display = True
            field.take(question, self.wizard.draft)

    def _part(self, found: Widget, asked: Widget) -> None:
        """A line between what was found and what is asked, where something is."""
        (found if self.at in ASKING_FIRST else asked).set_class(bool(asked.children or self._asked), "gap")

    @property
    def fields(self) -> list[Field]:
        # A key may come before the page is whole, and after it has begun to go.
        return [one for place in self.query("#questions") for one in place.children if isinstance(one, Field)]

    def first_focus(self) -> Widget | None:
        """What must or can be chosen here; a line that may stay empty waits for Tab."""
        for field in self.fields:
            if isinstance(field, Choices) or field.question.needed:
                return field if isinstance(field, Choices) else field.line
        return None

    def on_answer(self, message: Answer) -> None:
        message.stop()
        self.warn("")
        self._going_on = False
        if message.question.kind is Kind.ONE:
            # Which lines are asked for now is not known until the look: none is typed into that will go.
            for field in self.fields:
                field.display = not isinstance(field, Typed)
        self.wizard.answer(message.question, message.value, typed=message.typed)

    def _show_problems(self) -> None:
        """Below each field what is wrong with its answer; what is not answered yet is not wrong yet."""
        wizard = self.wizard
        if wizard.seen is None or wizard.is_looking:
            return
        for field in self.fields:
            if isinstance(field, Typed):
                problem = self._problem_of(field)
                given = wizard.draft.given(field.question.key) is not None
                field.say(in_short(problem) if problem and given else "")

    def _problem_of(self, field: Typed) -> AnswerProblem | None:
        problems = self.wizard.seen.problems if self.wizard.seen else ()
        return next((one for one in problems if one.concerns(field.question.key)), None)

    # ── what is new ──

    def seen(self) -> None:
        self.call_next(self._seen)

    async def _seen(self) -> None:
        if not self.is_attached or not self.query("#questions"):
            return
        self._take_words()
        # Each waits until the fields of the one before are there.
        async with self._showing:
            await self._show_questions()
        self._show_problems()
        for plan in self.query("#plan"):
            plan.display = self._has_plan
        self.redraw(findings=self._findings, plan=self._plan)
        if self._going_on and not self.wizard.is_looking:
            self.forward()

    # ── keys ──

    def keys(self) -> list[Key]:
        keys = [
            Key(("enter",), "Enter", "Continue", self.forward, main=True),
            Key(("escape",), "Esc", "Back", self.back),
        ]
        focused = self.screen.focused
        if isinstance(focused, Choices):
            one = focused.question.kind is Kind.ONE
            keys.append(Key((), "↑↓", "Choose", lambda: None) if one else Key((), "Space", "Choose", lambda: None))
        if len(self.fields) > 1 or (self.fields and focused is None):
            keys.append(Key((), "Tab", "Next", self.screen.focus_next))
        if self._path_field is not None:
            keys.append(Key(("f2",), "F2", "Browse", self.browse))
        keys.append(Key(("d",), "d", "Details", self.show_details, short="More"))
        if self.changes:
            keys.append(Key(("w",), "w", "Plan", self.show_plan))
        keys.append(Key(("r", "f5"), "r", "Check again", self.look_again, short="Again"))
        return keys

    def forward(self) -> None:
        """On to the next page; first what is still being looked at, or still missing here."""
        wizard = self.wizard
        wizard.settle_typing()
        if wizard.is_looking or (wizard.seen is None and self.step_seen is None):
            self._going_on = True
            return
        self._going_on = False
        if self._ask_for_missing():
            return
        if self.step_seen is None or self.step_seen.is_blocked:
            self.warn("This stands in the way. Put it right, then check again: r")
            return
        from .review import ReviewPage

        place = STEPS.index(self.at)
        self.wizard.walk_to(StepPage(STEPS[place + 1]) if place + 1 < len(STEPS) else ReviewPage())

    def _ask_for_missing(self) -> bool:
        """Leads to the first field whose answer is missing or wrong."""
        for field in self.fields:
            if isinstance(field, Typed) and (problem := self._problem_of(field)) is not None:
                field.say(in_short(problem))
                self.screen.set_focus(field.line)
                return True
        return False

    def back(self) -> None:
        from .welcome import WelcomePage

        place = STEPS.index(self.at)
        self.wizard.walk_to(StepPage(STEPS[place - 1]) if place else WelcomePage())

    @property
    def _path_field(self) -> Typed | None:
        """The field of a path that is being typed."""
        for field in self.fields:
            if isinstance(field, Typed) and field.question.kind is Kind.PATH and field.line.has_focus:
                return field
        return None

    def browse(self) -> None:
        field = self._path_field
        if field is not None:
            self.app.push_screen(Picker(field.question.label, field.line.value, field.put))

    def look_again(self) -> None:
        self.warn("")
        self.wizard.look(again=True)

    def show_details(self) -> None:
        self.app.push_screen(Show(f"{self.title}: details", lambda w, h: stacked(detail_lines(self.findings, w))))

    def show_plan(self) -> None:
        self.app.push_screen(
            Show(f"{self.title}: what it will do", lambda w, h: stacked(change_lines(self.changes, w)))
        )


def in_short(problem: AnswerProblem) -> str:
    """What is wrong with an answer, below its field."""
    return f"{problem.message}: {problem.expected}" if problem.expected else problem.message
