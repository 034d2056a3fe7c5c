"""A question as lines: choices numbered, what is answered in brackets, its check in the words of the answers file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .answers import Answers
from .answers_words import field_at
from .draft import Draft
from .engine import Step
from .plain_lines import Teller
from .questions import Choice, Kind, Question

TAKE_BACK = "-"


class Asking:
    """One question of a step, asked until its answer is right."""

    def __init__(self, teller: Teller, step: Step, question: Question) -> None:
        self._teller = teller
        self._step = step
        self._question = question

    def ask(self, draft: Draft) -> Draft:
        """The draft with the answer. Raises Back and Quit."""
        way = {Kind.ONE: self._ask_one, Kind.ANY: self._ask_any}.get(self._question.kind, self._ask_text)
        return way(draft)

    def explain(self) -> None:
        """The step's help, then what the answers file says of this key."""
        explain_step(self._teller, self._step)
        question = self._question
        field = field_at(tuple(question.key.split(".")), Answers)
        if field is not None and field.description:
            self._teller.say()
            self._teller.say(f"{question.label} ({question.key}): {field.description}")
        for choice in question.choices:
            if choice.help:
                self._teller.say(f"{choice.label}: {choice.help}", "  ")
        self._teller.say()

    def _put(self, draft: Draft, value: Any) -> Draft | None:
        """The draft with this answer; None, and what is wrong is said, where it can't be."""
        given = draft.put(self._question.key, value)
        problem = given.problem(self._question.key)
        if problem is None:
            return given
        right = f" (right would be: {problem.expected})" if problem.expected else ""
        self._teller.say(f"{problem.key}: {problem.message}{right}")
        return None

    def _until(self, draft: Draft, prompt: str, read: Callable[[str], Any]) -> Draft:
        """Enter leaves what is answered. `read` returns the typed answer; raises NoSuchNumber."""
        while True:
            words = self._teller.ask(prompt, self.explain)
            try:
                value = read(words) if words else draft.given(self._question.key)
            except NoSuchNumber as wrong:
                self._teller.say(str(wrong))
                continue
            if (given := self._put(draft, value)) is not None:
                return given

    def _ask_text(self, draft: Draft) -> Draft:
        question = self._question
        given = draft.given(question.key)
        stands = question.write(draft.value(question.key))
        can_take_back = given is not None and not question.needed
        note = f" ({question.note})" if question.note else ""
        if can_take_back:
            note += f" ({TAKE_BACK} = {question.otherwise or 'as if never answered'})"
        stands = stands or question.otherwise
        prompt = f"{question.label}{note}" + (f" [{stands}]" if stands else "")
        return self._until(draft, prompt, lambda words: None if words == TAKE_BACK else question.read(words))

    def _ask_one(self, draft: Draft) -> Draft:
        question = self._question
        self._teller.say(f"{question.label}:")
        stands = draft.value(question.key)
        default = ""
        for number, choice in enumerate(question.choices, 1):
            self._teller.say(choice.label, f"  {number}  ", "     ")
            if choice.help:
                self._teller.say(choice.help, "     ")
            if choice.value == stands:
                default = f" [{number}]"
        return self._until(draft, f"A number{default}", lambda words: self._chosen(words, words))

    def _ask_any(self, draft: Draft) -> Draft:
        """Numbers switch; an empty line goes on."""
        question = self._question
        while True:
            self._teller.say(f"{question.label}:")
            among = draft.value(question.key) or ()
            for number, choice in enumerate(question.choices, 1):
                state = "yes" if choice.value in among else "no"
                self._teller.say(choice.label, f"  {number}  {state:<4} ", " " * 10)
            words = self._teller.ask("Numbers to switch, Enter = leave it so", self.explain)
            try:
                chosen = [self._chosen(word, None) for word in words.replace(",", " ").split()]
            except NoSuchNumber as wrong:
                self._teller.say(str(wrong))
                continue
            value = draft.given(question.key)
            for one in chosen:
                value = question.toggled(value, Choice(one, ""))
            given = self._put(draft, value)
            if given is not None and not chosen:
                return given
            draft = given or draft

    def _chosen(self, number: str, otherwise: Any) -> Any:
        """The value of the choice with this number; `otherwise` where something else than a number is typed."""
        choices = self._question.choices
        if number.isascii() and number.isdigit() and 0 < int(number[:9]) <= len(choices):
            return choices[int(number) - 1].value
        if otherwise is None or number.isdigit():
            raise NoSuchNumber(f"{number!r} is not in the list: a number from 1 to {len(choices)}")
        return otherwise


class NoSuchNumber(Exception):
    """What was typed is not the number of a choice."""


def explain_step(teller: Teller, step: Step) -> None:
    teller.say()
    teller.say(step.help)
    teller.say("Enter takes what stands in brackets. ? = this help, b = back, q = quit.")
