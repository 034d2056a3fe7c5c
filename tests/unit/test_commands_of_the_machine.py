"""How a command is run: to its end, in its own session, its words told as they come, and in many threads at once."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wizard import probe
from wizard.mask import Mask
from wizard.model import TIMED_OUT
from wizard.process import Process
from wizard.system import NOT_FOUND, Nobody, RealMachine

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.allow_commands("sh", "cat", "true", "sleep", "head", "setsid")


class Told(Nobody):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.at: list[float] = []

    def output(self, text: str) -> None:
        self.lines.append(text)
        self.at.append(time.monotonic())


def machine() -> tuple[RealMachine, Told]:
    told = Told()
    return RealMachine(Mask(), told), told


def test_both_streams_and_the_exit_code_are_kept_apart() -> None:
    output = machine()[0].command(("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert (output.code, output.out, output.err) == (3, "out\n", "err\n")


def test_lines_are_told_whole_and_as_they_come() -> None:
    one, told = machine()
    one.command(("sh", "-c", "printf 'a'; sleep 0.1; echo b; sleep 0.3; printf last"))
    assert told.lines == ["ab\n", "last"]
    assert told.at[1] - told.at[0] > 0.2


def test_who_collects_lines_that_come_close_together_is_called_in_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """apt names a long download, and is silent until it has come: that is in the log meanwhile."""
    monkeypatch.setattr("wizard.process.GRACE_S", 0.05)
    one, told = machine()
    output = one.command(("sh", "-c", "echo Get:1; sleep 0.3; echo done"))
    assert told.lines[0] == "Get:1\n" and "" in told.lines[1:-1] and told.lines[-1] == "done\n"
    assert output.out == "Get:1\ndone\n"


def test_what_is_no_text_and_what_drives_a_terminal_is_not_passed_on() -> None:
    output = machine()[0].command(("sh", "-c", r"printf '\377\303\244\033[31mred'"))
    assert "\x1b" not in output.out and "ä" in output.out and "red" in output.out


def test_standard_input_of_any_length_is_given_and_is_empty_else() -> None:
    one, _ = machine()
    text = "line\n" * 200_000
    assert one.command(("cat",), stdin=text.encode()).out == text
    assert one.command(("cat",)).out == ""
    assert one.command(("true",), stdin=text.encode()).ok, "who does not read it ends as it likes"
    assert one.command(("head", "-1"), stdin=text.encode()).out == "line\n"


def test_nothing_of_the_callers_environment_comes_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/none.so")
    monkeypatch.chdir(tmp_path)
    out = machine()[0].command(("sh", "-c", "echo ${LD_PRELOAD-unset} $LC_ALL $MORE; pwd"), environment={"MORE": "x"})
    assert out.out == "unset C.UTF-8 x\n/\n"


def test_program_that_there_is_not_is_told_by_its_code() -> None:
    output = machine()[0].command(("no-such-program-anywhere",))
    assert (output.code, output.err) == (NOT_FOUND, "no-such-program-anywhere: command not found")


@pytest.mark.parametrize("command", ["sleep 20", "trap '' TERM; sleep 20 & wait; sleep 20", "sleep 20 &"])
def test_time_that_ran_out_ends_the_whole_group(command: str) -> None:
    began = time.monotonic()
    output = machine()[0].command(("sh", "-c", f"echo begun; {command}"), timeout_s=0.3)
    assert (output.code, output.out) == (TIMED_OUT, "begun\n")
    assert time.monotonic() - began < 10


def test_grandchild_in_a_session_of_its_own_does_not_hold_the_run() -> None:
    began = time.monotonic()
    output = machine()[0].command(("sh", "-c", "setsid sleep 6 & echo begun"), timeout_s=0.3)
    assert (output.code, output.out) == (TIMED_OUT, "begun\n")
    assert time.monotonic() - began < 5


def test_daemon_that_a_command_has_started_does_not_hold_it() -> None:
    began = time.monotonic()
    output = machine()[0].command(("sh", "-c", "setsid sleep 8 & echo begun"), timeout_s=60)
    assert (output.code, output.out) == (0, "begun\n")
    assert time.monotonic() - began < 6


def test_commands_of_many_threads_hang_nowhere() -> None:
    """A fork that runs Python in its copy hung here in one run of some sixty, with ten questions at once."""
    one, _ = machine()
    with ThreadPoolExecutor(12) as asked:
        codes = list(asked.map(lambda number: one.command(("sh", "-c", f"exit {number % 7}")).code, range(600)))
    assert codes == [number % 7 for number in range(600)]


def test_what_waits_for_its_input_gets_it_when_it_is_known() -> None:
    with Process(("cat",), reads_later=True) as process:
        process.give(b"10.0.0.5,22\n")
        output = process.wait(5, Nobody())
    assert (output.code, output.out) == (0, "10.0.0.5,22\n")


def test_what_is_given_to_who_has_ended_is_lost_and_why_is_told() -> None:
    with Process(("sh", "-c", "exec <&-; echo refused >&2; exit 3"), reads_later=True) as process:
        time.sleep(0.2)
        process.give(b"10.0.0.5,22\n" * 3000)
        output = process.wait(5, Nobody())
    assert (output.code, output.err) == (3, "refused\n")


@pytest.mark.allow_commands("python")
def test_what_waits_for_its_input_ends_with_whoever_has_started_it(tmp_path: Path) -> None:
    end = tmp_path / "end"
    words = ("sh", "-c", f"cat; echo over >{end}")
    starter = f"import os, wizard.process; wizard.process.Process({words!r}, reads_later=True); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", starter], cwd=ROOT, check=False).returncode == 9
    until = time.monotonic() + 10
    while not (end.exists() and end.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.allow_commands("python")
def test_probe_that_is_told_of_no_target_sends_nothing_and_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "wizard/probe.py", "0.3"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=4,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


class OneAtATime(selectors.DefaultSelector):
    """As a program sees its answers that gets no processor in between."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)[:1]


@pytest.mark.allow_network("127.0.0.1")
def test_answer_that_is_there_counts_however_late_the_probe_gets_to_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "GRACE_S", -1)
    monkeypatch.setattr("wizard.probe.selectors.DefaultSelector", OneAtATime)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        found = probe.try_once([("127.0.0.1", listener.getsockname()[1], False) for listener in (one, other)], 0.3)
    assert [state for state, *_ in found] == ["open", "open"]


class OneLate(OneAtATime):
    """The second answer comes when nobody would wait for it any more that does not expect it."""

    calls = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.calls += 1
        return [] if self.calls == 2 else super().select(timeout)


@pytest.mark.allow_network("127.0.0.1")
@pytest.mark.parametrize(("line", "state"), [("127.0.0.1,{},expected", "open"), ("127.0.0.1,{}", "filtered")])
def test_answer_that_is_expected_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch, line: str, state: str) -> None:
    """A port that should be open, on a server with more to do than it can."""
    monkeypatch.setattr(probe, "GRACE_S", -1)
    monkeypatch.setattr("wizard.probe.selectors.DefaultSelector", OneLate)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        targets = [probe.read(line.format(listener.getsockname()[1])) for listener in (one, other)]
        found = probe.try_once(targets, 2)
    assert sorted(how for how, *_ in found) == sorted(["open", state])
