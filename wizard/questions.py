"""What a step asks a person. Declared once, beside the step: the widget, the line of --plain and its check come of it.

The words that explain a key are those of the answers file, which `answers example` and the errors use too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """How a question is answered: a line of text, a path, a list on one line, one of some, any of some."""

    TEXT = "text"
    PATH = "path"
    LIST = "list"
    ONE = "one"
    ANY = "any"


@dataclass(frozen=True)
class Choice:
    """One of the answers to choose from. `value` is what the answers file gets; of an ANY, an item of its list."""

    value: Any
    label: str
    help: str = ""


@dataclass(frozen=True)
class Question:
    """`key` is the answers file's. A TEXT, PATH or LIST without an answer is `otherwise`, in words. `tells` is the key
    of findings that the question says as well."""

    key: str
    label: str
    kind: Kind
    choices: tuple[Choice, ...] = ()
    note: str = ""
    otherwise: str = ""
    needed: bool = False
    tells: str = ""

    def read(self, text: str) -> Any:
        """The answer that the typed text stands for; None where there is none. It is checked with all the others."""
        words = text.strip()
        if not words:
            return None
        if self.kind is not Kind.LIST:
            return words
        items = [one for one in re.split(r"[,\s]+", words) if one]
        return [int(one) if one.isascii() and one.isdigit() else one for one in items]

    def write(self, value: Any) -> str:
        """The answer as it is typed: "" for none, and for what the program finds out by itself."""
        if value is None or value == "auto":
            return ""
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    def toggled(self, value: Any, choice: Choice) -> list[Any]:
        """The list of an ANY with this choice in it, or without where it was in."""
        items = list(value or ())
        return [one for one in items if one != choice.value] if choice.value in items else [*items, choice.value]
