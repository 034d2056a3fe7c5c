"""What goes wrong around the wizard line by line."""

from __future__ import annotations

import os
import threading

import pytest

from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from tests.unit.test_plain import ENTER, Script, line, run, to_step, walk
from wizard.draft import Draft
from wizard.model import SetupError
from wizard.plain_lines import Console

__all__ = ["line"]


class Full(DescribedGateway):
    """A server whose disk takes no draft."""

    def keep(self, draft: Draft) -> None:
        raise SetupError("draft.yaml could not be written: No space left on device.", "df -h /var")


def test_answers_that_can_not_be_kept_are_no_obstacle_and_said_so_at_the_end() -> None:
    lines = [*to_step("tls"), "1", "10.0.0.9", "b", "10.0.0.8", "q"]
    code, shown = walk(Full(scenario.load("exposed")), *lines)
    flat = " ".join(shown.split())
    assert flat.count("Your answers are not kept for a next start: draft.yaml could not be written") == 1
    assert "Nothing was changed. Your answers could not be kept: draft.yaml" in flat
    assert code != 1


class Held(Script):
    """Enter, held down since the first question: let go when all that was typed is dropped."""

    dropped = 0

    def forget(self) -> None:
        self.dropped += len(self.left)
        self.left = []


def test_enter_held_down_comes_to_the_review_and_starts_nothing() -> None:
    gateway, held = DescribedGateway(scenario.load("exposed")), Held(*[ENTER] * 100)
    run(gateway, held)
    assert "Nothing has been changed yet. This is all that will be:" in held.shown
    assert held.dropped > 0 and gateway.started == []


@pytest.mark.allow_writes("/dev/pts")
def test_lines_typed_ahead_are_dropped_for_as_long_as_they_come(line: tuple[int, Console]) -> None:
    ours, console = line
    os.write(ours, b"one\ntwo\nhal")
    assert console.read() == "one"
    held = threading.Timer(0.1, os.write, (ours, b"f\n\n\n"))
    held.start()
    console.forget()
    held.join()
    os.write(ours, b"meant\n")
    assert console.read() == "meant"
