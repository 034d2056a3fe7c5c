"""A run outlives who started it, however that is lost; and it stops, at the end of an action, where it is asked to."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab.operator import Operator, Typed, began, done, in_words, interrupted, troubles
from tests.lab.space import Deadline
from tests.lab.terminal import Terminal

pytestmark = pytest.mark.lab

# The limit of starts is forgotten: systemd starts a unit five times in ten seconds, and no more.
EXPOSED = (
    "sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' /opt/vllm/start-vllm.sh; "
    "systemctl reset-failed vllm; systemctl restart vllm; "
    "until ss -Hltn | grep -q 0.0.0.0:8000; do sleep 0.05; done"
)
# Every command that starts a run, as it is typed.
COMMANDS = {
    "apply": "apply --answers answers.yaml",
    "repair": "repair",
    "rollback": "rollback --yes --expose",
}
RESTART = began("systemctl restart vllm")


@pytest.fixture
def exposed(secured: Operator) -> Operator:
    """A server that a run has something to do on, which takes as long as vLLM loads: its script exposes it again."""
    secured.server.standin(load_seconds=0.2)
    secured.server.run(["sh", "-c", EXPOSED])
    return secured


def made_ready(operator: Operator, command: str) -> Operator:
    """A rollback has a run to take back."""
    if command == "rollback":
        assert operator.apply()["exit_code"] == 0
    operator.server.standin(load_seconds=1.5)
    return operator


def kill_client(typed: Typed, operator: Operator, command: str) -> None:
    """The connection is closed; where there is a terminal it is gone, and its programs get SIGHUP."""
    typed.cut()


@contextmanager
def packets_dropped(operator: Operator) -> Iterator[None]:
    """Nothing comes through to the server's SSH any more, and neither side is told."""
    operator.lab.gate.way.block(operator.server, 22)
    try:
        yield
    finally:
        operator.lab.gate.way.unblock(operator.server, 22)


def kill_sudo(typed: Typed, operator: Operator, command: str) -> None:
    # Of its two processes the one may be gone with the other.
    operator.server.run(["pkill", "-KILL", "-x", "sudo"])


def hang_up(typed: Typed, operator: Operator, command: str) -> None:
    operator.server.run(["kill", "-HUP", starter_of(operator, command)])
    assert typed.end(20).code != 0


def starter_of(operator: Operator, command: str) -> str:
    """The process that follows the run for who typed the command."""
    argv = ["pgrep", "-f", f"^/opt/vllm-https-setup/bin/python.* {command}( |$)"]
    return operator.server.run(argv).stdout.split()[-1]


def wait_for_the_end(operator: Operator, run: str) -> int:
    """The run's exit code."""
    until = Deadline("the end of the run", 60)
    while (events := operator.events(run))[-1]["event"] != "end":
        until.tick(0.05)
    return int(events[-1]["exit_code"])


def assert_went_to_its_end(operator: Operator, run: str) -> None:
    """All of it was done, and all of it can be read afterwards."""
    assert wait_for_the_end(operator, run) == 0, operator.events(run)[-4:]
    assert interrupted(operator.events(run)) is None
    log = operator.say("log --follow")
    kept = operator.file(f"/var/log/vllm-https-setup/{run}.log")
    assert kept is not None
    assert log.stdout == kept.decode()
    assert "ended with exit code 0" in log.stdout.splitlines()[-1]
    assert operator.file(f"/var/lib/vllm-https-setup/runs/{run}/report.json")
    assert re.search(rf"^{run} .* exit code 0, changed this server$", operator.say("runs").stdout, re.M)


LINES: dict[str, tuple[bool, Callable[[Typed, Operator, str], None]]] = {
    "client killed": (False, kill_client),
    "terminal closed": (True, kill_client),
    "sudo killed": (False, kill_sudo),
    "sudo at a terminal killed": (True, kill_sudo),
    "hung up on": (False, hang_up),
}
# What is lost with a terminal is more, and is tried with every command.
LOST = [(line, command) for line in LINES for command in COMMANDS if command == "apply" or LINES[line][0]]


@pytest.mark.parametrize(("line", "command"), LOST)
def test_run_goes_on_when_its_line_is_lost(exposed: Operator, line: str, command: str) -> None:
    tty, lose = LINES[line]
    operator = made_ready(exposed, command)
    with operator.start(COMMANDS[command], tty=tty) as typed:
        operator.wait_for(RESTART)
        run = operator.runs()[-1]
        lose(typed, operator, command)
    assert_went_to_its_end(operator, run)


@pytest.mark.parametrize("command", COMMANDS)
def test_run_goes_on_when_nobody_reads_its_output(exposed: Operator, command: str) -> None:
    operator = made_ready(exposed, command)
    with operator.start(f"{COMMANDS[command]} | head -1") as typed:
        operator.wait_for(RESTART)
        ended = typed.end()
    assert ended.stdout.startswith("Run ") and ended.stdout.count("\n") == 1
    assert ended.stderr == ""
    assert_went_to_its_end(operator, operator.runs()[-1])


@pytest.mark.parametrize("command", COMMANDS)
def test_run_goes_on_when_the_network_is_gone_and_a_new_login_sees_it(exposed: Operator, command: str) -> None:
    operator = made_ready(exposed, command)
    operator.server.standin(load_seconds=4)
    with operator.start(COMMANDS[command]) as typed:
        operator.wait_for(RESTART)
        run = operator.runs()[-1]
        with packets_dropped(operator):
            typed.cut()
        second = operator.say(COMMANDS["apply"])
        assert second.code == 4
        assert f"another run is under way: {command} {run}, since" in second.stderr
        with Terminal(operator.server, "sudo vllm-https-setup --plain") as attached:
            attached.wait_until(lambda: f"Run {run} is under way" in attached.printed, "the run", 20)
            attached.wait_until(lambda: "systemctl restart vllm" in attached.printed, "what was done before", 20)
            attached.wait_until(lambda: "Result" in attached.printed, "the run's end", 60)
    assert_went_to_its_end(operator, run)


# ── asked to stop ──


@contextmanager
def held(operator: Operator) -> Iterator[str]:
    """The run, at the restart of vLLM, which goes no further until this ends."""
    operator.wait_for(RESTART)
    pid = operator.run_process()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield operator.runs()[-1]
    finally:
        os.kill(pid, signal.SIGCONT)


STOPS = {
    "apply, Ctrl-C": ("apply", "INT"),
    "repair, SIGTERM": ("repair", "TERM"),
    "rollback, SIGTERM": ("rollback", "TERM"),
}


@pytest.mark.parametrize("stop", STOPS)
def test_run_that_is_asked_to_stop_ends_after_its_action_and_says_what_is_left(exposed: Operator, stop: str) -> None:
    command, name = STOPS[stop]
    operator = made_ready(exposed, command)
    with operator.start(COMMANDS[command], tty=name == "INT") as typed:
        with held(operator) as run:
            operator.server.run(["kill", f"-{name}", starter_of(operator, command)])
            until = Deadline("the run to be asked", 20)
            while operator.file(f"/var/lib/vllm-https-setup/runs/{run}/stop") is None:
                until.tick(0.05)
        ended = typed.end()
    assert ended.code == 1
    assert re.search(r"stopped as asked; \d+ of this step's actions were done, \d+ were not", ended.stdout), ended
    events = operator.events()
    assert interrupted(events) is None and events[-1]["event"] == "end"
    assert in_words(done(events))[-1] == "run systemctl restart vllm.service"
    after = operator.ask(f"{COMMANDS[command]}")
    assert (after["exit_code"], after["continued"]) == (0, None)
    if command != "rollback":
        assert troubles(after) == []


def test_run_whose_unit_is_stopped_ends_after_its_action(exposed: Operator) -> None:
    """As a shutdown does it."""
    operator = made_ready(exposed, "apply")
    with operator.start() as typed:
        with held(operator):
            operator.server.run(["systemctl", "stop", "--no-block", "vllm-https-setup-run.service"])
        ended = typed.end()
    assert (ended.code, "stopped as asked" in ended.stdout) == (1, True)
    assert interrupted(operator.events()) is None
    assert operator.apply()["exit_code"] == 0


# ── on a server that is not set up yet ──


@pytest.mark.parametrize("moment", ["ufw --force enable", "apt-get install"])
def test_first_run_survives_the_death_of_its_terminal(operator: Operator, moment: str) -> None:
    with operator.start(tty=True) as apply:
        operator.wait_for(began(moment))
        run = operator.runs()[-1]
        apply.cut()
    assert_went_to_its_end(operator, run)
    assert [event for event in operator.events(run) if event["event"] == "test" and event["ok"] is not True] == []
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)


def test_second_apply_meanwhile_is_told_who_is_at_work(operator: Operator) -> None:
    with operator.start() as first:
        operator.wait_for(began("systemctl restart vllm"))
        second = operator.say("apply --answers answers.yaml")
        document = operator.ask("repair")
        listed = operator.say("runs").stdout
        assert first.end().code == 0
    run = operator.runs()[-1]
    assert second.code == 4
    assert f"another run is under way: apply {run}, since" in second.stderr
    assert "log --follow" in second.stderr
    assert document["exit_code"] == 4
    assert run in document["errors"][0]["message"]
    assert "under way" in listed
    assert len(operator.runs()) == 1
