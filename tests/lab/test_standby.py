"""The unit of a run is started while its plan is still being made: told of a run it is that run; told of none it ends,
and has changed nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.operator import RUN_UNIT, Operator, Typed, troubles
from tests.lab.snapshot import Snapshot
from tests.lab.space import Deadline
from tests.lab.unchanged import left

pytestmark = pytest.mark.lab

STANDBY = b"-m\0wizard\0standby\0"


@contextmanager
def planning(operator: Operator) -> Iterator[tuple[Typed, int]]:
    """An apply whose plan takes long, for Caddy's key drips; and the process that waits for its run."""
    with operator.lab.gate.dripping("gpg.key", 700), operator.start() as typed:
        yield typed, standing_by(operator)


def standing_by(operator: Operator) -> int:
    until = Deadline("a process that waits to be told its run", 30)
    while STANDBY not in command_of(pid := operator.run_process()):
        until.tick(0.005)
    return pid


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() if pid else b""
    except OSError:
        return b""


def assert_ends_without_a_trace(operator: Operator, before: Snapshot) -> None:
    operator.wait_until_idle()
    assert operator.run_process() == 0
    assert operator.server.run(["systemctl", "list-units", "--all", "--no-legend", RUN_UNIT]).stdout.strip() == ""
    assert (operator.runs(), left(operator, before)) == ([], [])


def test_run_is_the_process_that_was_started_while_its_plan_was_made(operator: Operator) -> None:
    with planning(operator) as (typed, waiting):
        assert operator.runs() == [], "it is no run yet"
        began = operator.wait_for(lambda event: event["event"] == "run")
        assert operator.run_process() == waiting
        assert typed.end().code == 0
    assert operator.runs() == [began["run"]]
    operator.wait_until_idle()


@pytest.fixture
def before(operator: Operator) -> Snapshot:
    # Where systemd keeps the units that systemd-run makes; it is there once one was.
    operator.server.run(["mkdir", "-p", "/run/systemd/transient"])
    return operator.server.snapshot()


def test_process_that_waits_ends_with_the_one_that_plans(operator: Operator, before: Snapshot) -> None:
    with planning(operator) as (_, waiting):
        operator.server.run(["pkill", "-KILL", "-f", "bin/vllm-https-setup apply"])
        until = Deadline("the end of the process that waits", 10)
        while command_of(waiting):
            until.tick(0.01)
        assert_ends_without_a_trace(operator, before)
    document = operator.apply()
    assert (document["exit_code"], troubles(document), document["continued"]) == (0, [], None)


def test_where_a_later_check_blocks_it_is_told_of_no_run(operator: Operator, before: Snapshot) -> None:
    operator.answer(caddy={"key_fingerprint": "0" * 40})
    with planning(operator) as (typed, _):
        assert typed.end().code == 3
        assert_ends_without_a_trace(operator, before)


def test_where_it_was_killed_the_run_is_started_anew(operator: Operator) -> None:
    with planning(operator) as (typed, waiting):
        os.kill(waiting, signal.SIGKILL)
        operator.wait_for(lambda event: event["event"] == "run")
        assert operator.run_process() not in (0, waiting)
        ended = typed.end()
    assert ended.code == 0, ended
    assert len(operator.runs()) == 1


def test_second_apply_beside_a_plan_is_told_that_a_run_begins(operator: Operator) -> None:
    with planning(operator) as (typed, _):
        second = operator.say("apply --answers answers.yaml")
        assert typed.end().code == 0
    assert (second.code, "another run is under way" in second.stderr) == (4, True), second
