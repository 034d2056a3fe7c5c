"""Lines on a terminal that can do no more: read, typed meanwhile, written. Never an escape code, whoever is quoted."""

from __future__ import annotations

import contextlib
import os
import re
import select
import textwrap
from collections.abc import Callable
from typing import Protocol, TextIO

from .mask import strip_control

WIDTH = 79
PROMPT_WIDTH = 72
LET_GO_S = 0.5
TAB = "    "
# A screen reader says words, and may say nothing of a sign.
SIGNS = {"✓": "ok", "✗": "BLOCKED"}
ASCII = str.maketrans(
    {"…": "...", "→": "->", "•": "*", "·": "-", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"'}
)


class Back(Exception):
    """One question back, or one step."""


class Quit(Exception):
    """The person leaves, or the line is lost."""


class Lines(Protocol):
    """Where lines come from and go to."""

    encoding: str

    def write(self, text: str) -> None: ...

    def read(self) -> str:
        """The next line. Raises EOFError where there will be none."""

    def typed(self, wait_s: float) -> str | None:
        """A line, where one is typed within this time. Raises EOFError."""

    def forget(self) -> None:
        """Drops what was typed before now, and what a key that is held down goes on to type."""


class Console:
    """The terminal on standard input and output. Not `input`: readline writes escape codes."""

    def __init__(self, typed: TextIO, shown: TextIO) -> None:
        self.encoding = shown.encoding or "ascii"
        self._from = typed.fileno()
        self._to = shown
        self._half = b""

    def write(self, text: str) -> None:
        print(text, end="", file=self._to, flush=True)

    def read(self) -> str:
        while True:
            if (line := self.typed(None)) is not None:
                return line

    def typed(self, wait_s: float | None) -> str | None:
        while b"\n" not in self._half:
            if not select.select([self._from], [], [], wait_s)[0]:
                return None
            try:
                data = os.read(self._from, 4096)
            except OSError:
                data = b""
            if not data:
                raise EOFError
            self._half += data
        line, _, self._half = self._half.partition(b"\n")
        return line.decode("utf-8", "replace")

    def forget(self) -> None:
        self._half = b""
        with contextlib.suppress(OSError):
            while select.select([self._from], [], [], LET_GO_S)[0] and os.read(self._from, 4096):
                pass


class Teller:
    """Says things in lines of at most 79 columns, and asks for one."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def say(self, text: str = "", indent: str = "", under: str | None = None) -> None:
        """Each line of the text, with what does not fit on the next ones, indented as `under`."""
        for line in self._readable(text).split("\n"):
            for part in _wrap(line, WIDTH, indent, under):
                self._lines.write(f"{part}\n")

    def show(self, text: str) -> None:
        """The text line by line as it is, to be copied: nothing is wrapped."""
        for line in self._readable(text).splitlines():
            self._lines.write(f"{line}\n")

    def labelled(self, label: str, text: str, more: str | None = None) -> None:
        """The text with a word before it, and what there is more to say below."""
        self.say(text, f"  {label:<9} ", " " * 12)
        if more:
            self.say(more, " " * 12)

    def title(self, text: str) -> None:
        self.say()
        self.say(text)

    def ask(self, prompt: str, explain: Callable[[], None]) -> str:
        """The line that is typed. `?` explains and asks again; raises Back for `b`, Quit for `q` and the end."""
        *first, last = _wrap(f"{self._readable(prompt)}: ", PROMPT_WIDTH, "", None)
        while True:
            for line in first:
                self._lines.write(f"{line}\n")
            self._lines.write(f"{last.rstrip()} ")
            try:
                words = strip_control(self._lines.read()).strip()
            except EOFError:
                self._lines.write("\n")
                raise Quit from None
            match words:
                case "?":
                    explain()
                case "b":
                    raise Back
                case "q":
                    raise Quit
                case _:
                    return words

    def ask_anew(self, prompt: str, explain: Callable[[], None]) -> str:
        """The same where the line starts something: only one that is typed after the question is shown."""
        self._lines.forget()
        return self.ask(prompt, explain)

    def is_sure(self, question: str, explain: Callable[[], None]) -> bool:
        """True where the answer is yes; Enter is no."""
        return self.ask(f"{question} [y/N]", explain).lower() in ("y", "yes")

    def typed(self, wait_s: float) -> str | None:
        """What was typed within this time. Raises EOFError."""
        words = self._lines.typed(wait_s)
        return None if words is None else strip_control(words).strip()

    def _readable(self, text: str) -> str:
        """The text without what could drive a terminal, in words for signs, and in what its encoding can carry."""
        text = strip_control(text).replace("\t", TAB)
        for sign, word in SIGNS.items():
            text = text.replace(sign, word)
        encoding = self._lines.encoding
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(ASCII).encode(encoding, "backslashreplace").decode(encoding)
        return text


def _wrap(line: str, width: int, indent: str, under: str | None) -> list[str]:
    if under is None:
        spaces = re.match(r"[ ]*", line)
        under = indent + (f"{spaces[0]}  " if spaces and spaces[0] else "")
    # A column of blanks that leaves no room for words is cut.
    indent, under = indent[: width // 2], under[: width // 2]
    return textwrap.wrap(line, width, initial_indent=indent, subsequent_indent=under, break_on_hyphens=False) or [""]
