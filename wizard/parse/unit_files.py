"""Unit files as systemd reads them (systemd.syntax(7)), as far as `systemctl show` should not be asked.

It would print a key in `Environment=` into the log of commands; a file is read without a word.
"""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

_SECTION = re.compile(r"^\[(.+)\]$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True)
class Assigned:
    """A variable that a unit's `Environment=` sets, and the file that says so."""

    name: str
    value: str = field(repr=False)
    path: str


def parse_unit_file(text: str) -> tuple[tuple[str, str, str], ...]:
    """(section, key, value) of each setting, in order; continued lines are joined by a space."""
    settings, section, pending = [], "", ""
    for raw in text.replace("\r\n", "\n").split("\n"):
        line = raw.strip()
        # A comment in the middle of a continued line is left out, and the line goes on.
        if line.startswith(("#", ";")) or (not line and not pending):
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).strip(), ""
        if found := _SECTION.match(line):
            section = found[1]
        elif "=" in line:
            key, _, value = line.partition("=")
            settings.append((section, key.strip(), value.strip()))
    return tuple(settings)


def parse_assigned(files: Iterable[tuple[str, str]]) -> tuple[Assigned, ...]:
    """What `Environment=` sets in (path, text) of the unit and its drop-ins in their order: an empty one clears."""
    found: dict[str, Assigned] = {}
    for path, text in files:
        for section, key, value in parse_unit_file(text):
            if (section, key) != ("Service", "Environment"):
                continue
            if not value:
                found.clear()
            for word in _words(value):
                name, equals, rest = word.partition("=")
                if equals and _NAME.fullmatch(name):
                    found[name] = Assigned(name, rest.replace("%%", "%"), path)
    return tuple(found.values())


def exec_starts(text: str) -> tuple[str, ...]:
    """The commands of `ExecStart=` in a unit file, without the signs before them (`-`, `@`, `+`, `!`, `:`)."""
    return tuple(
        value.lstrip("-@+!:")
        for section, key, value in parse_unit_file(text)
        if (section, key) == ("Service", "ExecStart") and value
    )


def _words(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()
