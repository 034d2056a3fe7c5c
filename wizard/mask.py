"""Secrets masked by value, and text from the machine made harmless: every sink passes through here."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

DOTS = "•••"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|BEARER", re.IGNORECASE)
# All up to the last @ before the path: a password may have one in it, and a token is a user without a password.
_URL_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,30}://)[^/\s?#\"'<>]+@", re.IGNORECASE)
# A variable's name is no secret. vLLM takes several keys; what comes next in a sentence has no digit, or is short.
_ON_COMMAND_LINE = re.compile(r"(?P<option>--api[-_]key[= ])(?![\"']?\$)\S+(?: (?!-)(?=\S*\d)[\w+/=.-]{12,})*")
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    # What turns the direction of writing, so that a line reads otherwise than it is (Unicode's UAX 9).
    "|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def strip_control(text: str) -> str:
    """Text without escape sequences and control characters (newline and tab stay): it cannot drive a terminal, nor
    turn the direction in which a line is read."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def without_control(value: Any) -> Any:
    """The same JSON value as a terminal may be given it: what quotes the machine cannot drive it."""
    match value:
        case str():
            return strip_control(value)
        case dict():
            return {without_control(key): without_control(item) for key, item in value.items()}
        case list():
            return [without_control(item) for item in value]
        case _:
            return value


def is_secret(name: str) -> bool:
    """True if a variable of this name holds a secret, whatever its value looks like."""
    return _SECRET_NAME.search(name) is not None


def _lines(value: str) -> list[str]:
    """The lines of a value of several, as a diff or a log has them: those that say something."""
    lines = [line.strip() for line in value.splitlines()]
    return [line for line in lines if len(line) >= 8 and not line.startswith("-----")] if len(lines) > 1 else []


class Mask:
    """The values that no sink may show. One a process: whoever reads a secret adds it here first."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._lines: set[str] = set()
        self._pattern: re.Pattern[str] | None = None  # made when it is needed: there may be thousands of values

    def add(self, value: str) -> None:
        """Masks the value, the forms that it takes in URLs, JSON and quoted text, and each of its lines."""
        self._lines |= {re.escape(line) for line in _lines(value)}
        for one in {value, strip_control(value)}:
            if len(one) >= 4:
                plain = one.encode("utf-8", "surrogateescape")
                self._values |= {one, quote(plain), quote(plain, safe=""), json.dumps(one)[1:-1]}
                self._values.add(json.dumps(one, ensure_ascii=False)[1:-1])
        self._pattern = None

    def add_environment(self, name: str, value: str) -> None:
        """A value of vLLM's env file: a path, a number or a short word that no name calls secret stays readable."""
        plain = value.startswith("/") or len(value) < 8 or value.replace(".", "").isdigit()
        if is_secret(name) or not plain:
            for part in {value, *value.split(",")}:
                self.add(part)

    def text(self, text: str) -> str:
        """The text without a secret, and without what drives a terminal: that goes first, for it may split a secret."""
        text = strip_control(text)
        if self._pattern is None and self._values:
            longest_first = sorted(self._values, key=len, reverse=True)
            # A line counts where it stands alone: a private key has its public one in it, and so has a certificate.
            # The sign of a diff before it is none of its own.
            lines = (rf"(?:(?<![\w+/])|(?<=^\+)){line}(?![\w+/])" for line in self._lines)
            words = [*(re.escape(value) for value in longest_first), *lines]
            self._pattern = re.compile("|".join(words), re.MULTILINE)
        if self._pattern is not None:
            text = self._pattern.sub(DOTS, text)
        text = _URL_CREDENTIALS.sub(rf"\g<scheme>{DOTS}@", text)
        return _ON_COMMAND_LINE.sub(rf"\g<option>{DOTS}", text)

    def value(self, value: Any) -> Any:
        """The same JSON value with every string in it masked; one without a secret is kept to its last sign."""
        match value:
            case str():
                return value if (masked := self.text(value)) == strip_control(value) else masked
            case dict():
                return {self.value(str(key)): self.value(item) for key, item in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
            case _:
                return value
