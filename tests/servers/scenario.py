"""A described server as the tests use it: what is asked of it, and what is expected."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from wizard import answers, paths
from wizard.described import DescribedMachine, Description, read_description
from wizard.engine import Look, StepResult, prove, walk
from wizard.facts import Facts
from wizard.mask import Mask
from wizard.model import Level, TestRow
from wizard.overlay import Overlay
from wizard.owned import load_owned
from wizard.steps import STEPS

HERE = Path(__file__).parent
# As the recording has it, wherever a test puts the program's own files.
OWNED = paths.OWNED
LEVELS = {"blocked": Level.BLOCKED, "drift": Level.DRIFT, "warn": Level.WARN}


@dataclass(frozen=True)
class Scenario:
    """`expected` is the file's table of that name."""

    name: str
    description: Description
    expected: dict[str, Any]

    def without(self, *paths: str, directories: Sequence[str] = ()) -> Scenario:
        """The same server, known not to have these files, and nothing in these directories."""
        files = {**self.description.files, **dict.fromkeys(paths)}
        names = {**self.description.directories, **dict.fromkeys(directories, ())}
        return replace(self, description=replace(self.description, files=files, directories=names))

    def look(self) -> Look:
        """A fresh look at the server itself."""
        machine = DescribedMachine(self.description)
        loaded = answers.load(self.description.answers)
        return Look(Facts(machine), loaded, self.description.operator, load_owned(machine.read(OWNED)), Mask())

    def look_within(self) -> Look:
        """A look as a later step has it, when the units were asked for at once by an earlier one."""
        look = self.look()
        look.server.units(*self.units)
        return look

    @property
    def units(self) -> tuple[str, ...]:
        """The units that were asked for at once: a step that is looked at alone finds its answer among theirs."""
        asked = (
            argv[argv.index("--") + 1 :] for argv, _ in self.description.commands if "--" in argv and argv[1] == "show"
        )
        return max(asked, key=len)

    def overlaid(self) -> tuple[Look, Overlay]:
        """A look at an overlay of it: what is performed there is seen from then on."""
        look = self.look()
        overlay = Overlay(look.server)
        return replace(look, server=overlay), overlay

    def planned(self) -> tuple[StepResult, ...]:
        look, _ = self.overlaid()
        return walk(STEPS, look)

    def tested(self) -> tuple[TestRow, ...]:
        return tuple(prove(STEPS, self.look()))


def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in HERE.glob("*.toml")))


@cache
def load(name: str) -> Scenario:
    text = (HERE / f"{name}.toml").read_text()
    return Scenario(name, read_description(text), tomllib.loads(text)["expected"])


def expectation(results: Sequence[StepResult], rows: Sequence[TestRow]) -> dict[str, Any]:
    """What was found, in the form of a file's table of what is expected."""
    seen = [finding for result in results for finding in result.seen]
    return {
        "steps": {result.step.id: str(result.status) for result in results if result.concerned},
        **{name: sorted({one.key for one in seen if one.level is level}) for name, level in LEVELS.items()},
        "failing": sorted(row.id for row in rows if row.ok is False),
        "untried": sorted(row.id for row in rows if row.ok is None),
    }
