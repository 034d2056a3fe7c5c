"""Secrets masked by value, and text from the machine made harmless: every sink passes through here."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

DOTS = "•••"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|BEARER", re.IGNORECASE)
_URL_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
# A variable's name is no secret. vLLM takes several keys; what comes next in a sentence has no digit, or is short.
_ON_COMMAND_LINE = re.compile(r"(?P<option>--api[-_]key[= ])(?![\"']?\$)\S+(?: (?!-)(?=\S*\d)[\w+/=.-]{12,})*")
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def strip_control(text: str) -> str:
    """Text without escape sequences and control characters (newline and tab stay): it cannot drive a terminal."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def is_secret(name: str) -> bool:
    """True if a variable of this name holds a secret, whatever its value looks like."""
    return _SECRET_NAME.search(name) is not None


class Mask:
    """The values that no sink may show. One a process: whoever reads a secret adds it here first."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Masks the value and the forms that it takes in URLs, JSON and quoted text."""
        if len(value) < 4:
            return
        self._values |= {value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1]}
        longest_first = sorted(self._values, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(value) for value in longest_first))

    def add_environment(self, name: str, value: str) -> None:
        """A value of vLLM's env file: a path, a number or a short word that no name calls secret stays readable."""
        plain = value.startswith("/") or len(value) < 8 or value.replace(".", "").isdigit()
        if is_secret(name) or not plain:
            for part in {value, *value.split(",")}:
                self.add(part)

    def text(self, text: str) -> str:
        if self._pattern is not None:
            text = self._pattern.sub(DOTS, text)
        text = _URL_CREDENTIALS.sub(rf"\g<scheme>{DOTS}@", text)
        return _ON_COMMAND_LINE.sub(rf"\g<option>{DOTS}", text)

    def value(self, value: Any) -> Any:
        """The same JSON value with every string in it masked."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(key)): self.value(item) for key, item in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
            case _:
                return value
