"""How a command is run: to its end, in its own session, its words told as they come, and in many threads at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wizard.mask import Mask
from wizard.model import TIMED_OUT
from wizard.system import NOT_FOUND, Nobody, RealMachine

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
