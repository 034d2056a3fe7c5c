"""Where apt refuses the repository's index, its list file ends as it was before this program."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard.apt import CADDY, install
from wizard.caddy_source import LIST, list_of
from wizard.described import DescribedMachine
from wizard.engine import Look
from wizard.facts import Facts
from wizard.model import Action, Remove, Write
from wizard.owned import Owned
from wizard.server import FileState
from wizard.steps import caddy

OLD = FileState("file", b"deb [signed-by=/k.gpg] https://mirror.example/caddy any-version main\n", 0o640, "root", "adm")


def fallen_back(list_file: FileState | None, owned: Owned | None = None) -> tuple[Action, ...]:
    look = scenario.load("exposed").look()
    machine = look.server
    assert isinstance(machine, Facts)
    assert isinstance(machine.machine, DescribedMachine)
    described = machine.machine.description
    files = {**described.files, LIST: list_file}
    server = Facts(DescribedMachine(replace(described, files=files)))
    return caddy.refresh(replace(look, server=server, owned=owned or Owned())).otherwise


def ours(look: Look) -> FileState:
    return FileState("file", list_of(look).encode())


def test_list_that_was_not_there_goes() -> None:
    (action,) = fallen_back(None)
    assert isinstance(action, Remove) and action.path == LIST


def test_list_that_said_something_else_comes_back_as_it_was() -> None:
    (action,) = fallen_back(OLD)
    assert isinstance(action, Write)
    assert (action.content, action.mode, action.group) == (OLD.content, 0o640, "adm")


@pytest.mark.parametrize("written", [True, False])
def test_list_that_was_right_already_goes_where_it_is_ours_and_stays_where_it_is_not(written: bool) -> None:
    state = ours(scenario.load("exposed").look())
    owned = Owned().after_write(LIST, state.content) if written else Owned()
    assert [type(action) for action in fallen_back(state, owned)] == ([Remove] if written else [])


def test_list_whose_index_was_had_before_stays_for_the_network_may_be_back_tomorrow() -> None:
    state = ours(scenario.load("exposed").look())
    installed = install((CADDY,), "Caddy")
    owned = Owned().after_write(LIST, state.content).before_command(installed.argv, (installed.undo[0].argv,))
    assert fallen_back(state, owned) == ()
