"""A rollback that is killed anywhere is completed by the next one, and ends as one that nobody killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.servers import scenario
from tests.unit.test_laws import Killed
from tests.unit.test_uninstall import Described
from wizard import journal
from wizard.engine import Look, NoWatcher, Step, walk
from wizard.model import Action, Change, Output, Remove, Status, Write
from wizard.reversal import Wish, carry_out
from wizard.rollback import plan_rollback
from wizard.server import FileState
from wizard.steps import STEPS

RUN = "20261124T101500Z-1f3a"
SERVERS = ("exposed", "ufw-active-with-rules", "ufw-incoming-allow", "vllm-hardened")


@dataclass
class Dying(NoWatcher):
    """Dies before action number `dies_at`, or when it is just done."""

    dies_at: int = -1
    when_done: bool = False
    count: int = 0

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None:
        if self.count == self.dies_at and not self.when_done:
            raise Killed
        self.count += 1

    def action_ended(self, step: Step, action: Action, output: Output) -> None:
        if self.count - 1 == self.dies_at:
            raise Killed


def applied(name: str) -> Look:
    """A described server on which a run was carried out, whose journal is on disk."""
    look = scenario.load(name).look()
    server = Described(look.server)
    journal.prepare(RUN, {"command": "apply", "began": 0.0}, b"", {"steps": []})
    book = journal.Journal(RUN, look.mask)
    results = walk(STEPS, replace(look, server=server), book)
    book.event("end", exit_code=0)
    book.close()
    assert {result.status for result in results} <= {Status.OK, Status.CHANGED, Status.SKIPPED}
    return replace(look, server=server, owned=book.owned)


def roll_back(look: Look, watcher: NoWatcher) -> tuple[str, ...]:
    planned = plan_rollback(RUN, look, Wish())
    results = carry_out(planned, look, watcher)
    assert [result.problem for result in results if result.status is Status.FAILED] == []
    return planned.left


def actions_of(look: Look) -> Sequence[Action]:
    return [action for _, actions in plan_rollback(RUN, look, Wish()).steps for action in actions]


@pytest.mark.parametrize("name", SERVERS)
def test_rollback_again_after_a_kill_anywhere_ends_in_the_same_state(name: str, own_paths: Path) -> None:
    look = applied(name)
    whole = Described(look.server)
    left = roll_back(replace(look, server=whole), NoWatcher())
    wanted, performed = whole.differences(), whole.performed
    assert len(performed) > 3
    cuts = [(number, when_done) for number in range(len(performed)) for when_done in (False, True)]
    for number, when_done in cuts:
        server = Described(look.server)
        here = replace(look, server=server)
        with pytest.raises(Killed):
            roll_back(here, Dying(number, when_done))
        where = f"killed {'after' if when_done else 'before'} {performed[number]}"
        assert roll_back(here, NoWatcher()) == left, where
        assert server.differences() == wanted, where
        told = {one.argv for one in performed if not isinstance(one, Write | Remove) and hasattr(one, "argv")}
        assert told <= {one.argv for one in server.performed if hasattr(one, "argv")}, where
