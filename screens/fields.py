"""The widgets of questions: each shows its answer, and posts a new one. What an answer means is the question's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from wizard.draft import Draft
from wizard.questions import Kind, Question

from .block import Block
from .drawing import clean, fit, stacked, wrapped

LABEL = 13


class Answer(Message):
    """The question has another answer now; `typed` where a person may still be typing."""

    def __init__(self, question: Question, value: Any, *, typed: bool = False) -> None:
        super().__init__()
        self.question = question
        self.value = value
        self.typed = typed


class Choices(Block, can_focus=True):
    """One of some, chosen by the arrows; or any of some: the arrows move, Space chooses."""

    def __init__(self, question: Question, draft: Draft) -> None:
        super().__init__(self._lines)
        self.question = question
        self.value = draft.value(question.key)
        self.at = self._chosen() if question.kind is Kind.ONE else 0

    def _chosen(self) -> int:
        values = [choice.value for choice in self.question.choices]
        return values.index(self.value) if self.value in values else 0

    def take(self, question: Question, draft: Draft) -> None:
        self.question, self.value = question, draft.value(question.key)
        self.at = min(self.at, len(question.choices) - 1)
        self.draw_as(self._lines)

    def _is_on(self, number: int) -> bool:
        value = self.question.choices[number].value
        return value == self.value if self.question.kind is Kind.ONE else value in (self.value or ())

    def _lines(self, width: int, height: int) -> Content:
        return stacked(self._each(width))

    def _each(self, width: int) -> Iterator[Content]:
        one = self.question.kind is Kind.ONE
        if not one or not self.question.key.endswith(".mode"):
            yield Content(f"{clean(self.question.label)}:")
        for number, choice in enumerate(self.question.choices):
            on, here = self._is_on(number), self.has_focus and number == self.at
            mark = ("(•)" if on else "( )") if one else ("[x]" if on else "[ ]")
            label = f"{mark} {fit(choice.label, width - 6)}"
            style = "reverse" if here else ("bold" if on and one else "")
            if not (one and choice.help):
                yield Content.assemble("  ", (label, style))
                continue
            indent = 20
            first, *rest = list(wrapped(choice.help, width - indent, "" if on else "dim"))
            yield Content.assemble((label, style), " " * max(indent - len(label), 1), first)
            yield from (Content.assemble(" " * indent, line) for line in rest)

    def on_focus(self) -> None:
        self.draw_as(self._lines)

    def on_blur(self) -> None:
        self.draw_as(self._lines)

    def on_key(self, event: events.Key) -> None:
        one = self.question.kind is Kind.ONE
        if event.key in ("up", "down") and 0 <= (at := self.at + {"up": -1, "down": 1}[event.key]) < self._count:
            event.stop()
            self.at = at
            self._choose() if one else self.draw_as(self._lines)
        elif event.key == "space":
            event.stop()
            self._choose()

    def _choose(self) -> None:
        choice = self.question.choices[self.at]
        one = self.question.kind is Kind.ONE
        self.value = choice.value if one else self.question.toggled(self.value, choice)
        self.draw_as(self._lines)
        self.post_message(Answer(self.question, self.value))

    @property
    def _count(self) -> int:
        return len(self.question.choices)


class Line(Input):
    """An input of one row whose cursor stands still: a blinking one costs bytes all the time."""

    def __init__(self, value: str, otherwise: str) -> None:
        super().__init__(value, placeholder=otherwise, compact=True, select_on_focus=False)
        self.cursor_blink = False

    def validate_value(self, value: str) -> str:
        """An answers file, a clipboard and a file's name can have control characters: they would drive the terminal."""
        return " ".join(clean(value).split("\n"))


class Typed(Vertical):
    """A line of text with its label, and below it what is wrong with it."""

    DEFAULT_CSS = """
    Typed { height: auto; }
    Typed Horizontal { height: 1; }
    Typed .label { width: 13; }
    Typed Line { width: 1fr; }
    Typed .note { width: auto; max-width: 50%; text-style: dim; padding-left: 1; }
    Typed .browse { width: auto; }
    Typed Block { margin-left: 13; }
    """

    def __init__(self, question: Question, draft: Draft) -> None:
        super().__init__()
        self.question = question
        self.line = Line(question.write(draft.given(question.key)), clean(question.otherwise))
        self._said = ""

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(clean(self.question.label), classes="label", markup=False)
            yield self.line
            if self.question.note:
                yield Static(clean(self.question.note), classes="note", markup=False)
        yield Block(lambda width, height: stacked(wrapped(self._said, width, "$error") if self._said else ()))

    def take(self, question: Question, draft: Draft) -> None:
        """Another draft; what is being typed stays as it is."""
        self.question = question
        if not self.line.has_focus:
            text = question.write(draft.given(question.key))
            if text != self.line.value:
                with self.prevent(Input.Changed):
                    self.line.value = text

    def put(self, text: str) -> None:
        """The text as if it had been typed."""
        self.line.value = text
        self.line.cursor_position = len(text)

    def say(self, problem: str) -> None:
        """What is wrong with the answer; "" where nothing is."""
        if problem != self._said:
            self._said = problem
            for block in self.query(Block):
                block.refresh(layout=True)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(Answer(self.question, self.question.read(event.value), typed=True))


Field = Choices | Typed


def field_for(question: Question, draft: Draft) -> Field:
    return Choices(question, draft) if question.kind in (Kind.ONE, Kind.ANY) else Typed(question, draft)
