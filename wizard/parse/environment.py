"""An EnvironmentFile as systemd reads it (src/basic/env-file.c of systemd 255).

Written out here because every other dialect, python-dotenv's or the shell's, differs where it matters: an API
key may hold quotes, `$`, `#` or a backslash. No value ever appears in a repr or in the text of a flaw.
"""

import re
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANK = " \t"
_NEWLINE = "\n\r"
_ESCAPED_IN_DOUBLE_QUOTES = '"\\`$'


@dataclass(frozen=True)
class Entry:
    """A variable that systemd would set; `line` is where it begins, from 1, and `span` its signs, from 0."""

    name: str
    value: str = field(repr=False)
    line: int
    span: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True)
class Flaw:
    """Something that systemd ignores or reads otherwise than its writer probably meant."""

    line: int
    text: str
    name: str | None = None


@dataclass(frozen=True)
class Environment:
    """The file's variables in its order, and its flaws."""

    entries: tuple[Entry, ...]
    flaws: tuple[Flaw, ...]

    def value(self, name: str) -> str | None:
        """The value that the service gets (the last one counts), or None."""
        return next((entry.value for entry in reversed(self.entries) if entry.name == name), None)


def parse_environment(text: str) -> Environment:
    """The variables that systemd would set from this text."""
    reader = _Reader()
    for character in text:
        reader.read(character)
    reader.end()
    return Environment(tuple(reader.entries), tuple(reader.flaws))


def with_value(content: bytes, name: str, value: str) -> bytes | None:
    """The file with this value for the variable, and every other byte as it is; None where systemd would then read
    another variable otherwise, or the old value goes over several lines: a quote that is never closed takes all of them
    along. The new value has no sign that needs quoting."""
    # A byte a sign: what is no UTF-8 stays what it is.
    text = content.decode("latin-1")
    before = parse_environment(text)
    known = next((entry for entry in reversed(before.entries) if entry.name == name), None)
    line = f"{name}={value}"
    if known is not None:
        start, end = known.span
        if "\n" in text[start:end]:
            return None
        changed = text[:start] + line + text[end:]
    else:
        changed = f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"
    after = parse_environment(changed)
    others = [[(one.name, one.value) for one in seen.entries if one.name != name] for seen in (before, after)]
    same = others[0] == others[1] and len(after.entries) == len(before.entries) + (known is None)
    return changed.encode("latin-1") if same and after.value(name) == value else None


class _Reader:
    """systemd's state machine; the states carry its names in lower case."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.flaws: list[Flaw] = []
        self._state = self._pre_key
        self._line = 1
        self._begun = 1
        self._at = 0
        self._start = 0
        self._key = ""
        self._value = ""
        self._kept = 0  # the value up to here is not trailing blank
        self._quoted = False

    def read(self, character: str) -> None:
        self._state(character)
        self._at += 1
        if character == "\n":
            self._line += 1

    def end(self) -> None:
        if self._state == self._key_:
            self._flaw_no_equals()
        elif self._state in (self._single_quote, self._double_quote, self._double_quote_escape):
            words = "a quote is opened and never closed: the rest of the file is taken as its value"
            self._flaw(words, self._name())
            self._push()
        elif self._state in (self._pre_value, self._plain, self._escape):
            if self._state == self._plain:
                self._value = self._value[: self._kept]
            self._push()

    def _pre_key(self, character: str) -> None:
        if character in "#;":
            self._state = self._comment
        elif character not in _BLANK + _NEWLINE:
            self._begun, self._key, self._value, self._kept, self._quoted = (
                self._line,
                character,
                "",
                0,
                False,
            )
            self._start = self._at
            self._state = self._pre_value if character == "=" else self._key_
            self._key = "" if character == "=" else character

    def _key_(self, character: str) -> None:
        if character in _NEWLINE:
            self._flaw_no_equals()
            self._state = self._pre_key
        elif character == "=":
            self._state = self._pre_value
        else:
            self._key += character

    def _pre_value(self, character: str) -> None:
        if character in _NEWLINE:
            self._push()
        elif character in "'\"":
            self._quoted = True
            self._state = self._single_quote if character == "'" else self._double_quote
        elif character == "\\":
            self._state = self._escape
        elif character not in _BLANK:
            if self._quoted:
                self._flaw("there is text after the closing quote; systemd makes it part of the value", self._name())
            self._append(character)
            self._state = self._plain

    def _plain(self, character: str) -> None:
        if character in _NEWLINE:
            self._value = self._value[: self._kept]
            self._push()
        elif character == "\\":
            self._state = self._escape
        elif character in _BLANK:
            self._value += character
        else:
            if character == "#" and self._value[-1:] in (" ", "\t"):
                words = "systemd makes a # after the value part of it; put the comment on its own line"
                self._flaw(words, self._name())
            self._append(character)

    def _escape(self, character: str) -> None:
        self._state = self._plain
        if character not in _NEWLINE:
            self._append(character)

    def _single_quote(self, character: str) -> None:
        if character == "'":
            self._state = self._pre_value
        else:
            self._append(character)

    def _double_quote(self, character: str) -> None:
        if character == '"':
            self._state = self._pre_value
        elif character == "\\":
            self._state = self._double_quote_escape
        else:
            self._append(character)

    def _double_quote_escape(self, character: str) -> None:
        self._state = self._double_quote
        if character in _ESCAPED_IN_DOUBLE_QUOTES:
            self._append(character)
        elif character != "\n":
            self._append("\\" + character)

    def _comment(self, character: str) -> None:
        # Since systemd 254 a backslash no longer carries a comment on to the next line.
        if character in _NEWLINE:
            self._state = self._pre_key

    def _append(self, text: str) -> None:
        self._value += text
        self._kept = len(self._value)

    def _name(self) -> str:
        return self._key.rstrip(_BLANK)

    def _push(self) -> None:
        self._state = self._pre_key
        name = self._name()
        if _NAME.fullmatch(name):
            if _CONTROL.search(self._value):
                self._flaw("the value holds a control character; systemd ignores the line", name)
                return
            if any(entry.name == name for entry in self.entries):
                self._flaw(f"{name} is set more than once; the last one counts", name)
            self.entries.append(Entry(name, self._value, self._begun, (self._start, self._at)))
        elif exported := re.fullmatch(rf"export[ \t]+({_NAME.pattern})", name):
            self._flaw(f"systemd ignores a line that begins with export; write {exported[1]}=…", exported[1])
        elif name.startswith("\ufeff"):
            self._flaw("the file begins with a byte order mark, so systemd ignores its first line")
        else:
            self._flaw("what stands before the = is not the name of a variable; systemd ignores the line")

    def _flaw_no_equals(self) -> None:
        self._flaw("there is no = in this line; systemd ignores it")

    def _flaw(self, text: str, name: str | None = None) -> None:
        self.flaws.append(Flaw(self._begun, text, name))
