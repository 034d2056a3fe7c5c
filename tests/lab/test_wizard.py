"""The wizard over real SSH: by Enter alone to a served endpoint, on a slow line; and all that ends it before that."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.operator import Operator, troubles
from tests.lab.terminal import MODERN, Terminal
from tests.lab.test_secrets import found_in
from tests.lab.walker import (
    AS_ON_UBUNTU,
    BEFORE,
    DRAFT,
    GIVEN,
    UBUNTU,
    WIZARD,
    assert_served,
    at_terminal,
    begin,
    go_on,
    is_at,
    is_at_prompt,
    program_of,
    wait_until_gone,
    walk_to,
    walk_to_the_end,
)

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
A_CHANGE, A_WALK = 16 * 1024, 200 * 1024  # bytes


# ── by Enter alone ──


@dataclass(frozen=True)
class Shown:
    """A page: the bytes that it took to get there, and those that came while nothing happened."""

    page: str
    cost: int
    answered: float
    still: float
    idle: bytes


class Walk:
    """Enter alone, from a shell's prompt to the prompt again: each page left alone for three seconds."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.shown: list[Shown] = []
        with Terminal(operator.server) as terminal:
            terminal.wait_for(is_at_prompt)
            begun = terminal.type_in(f"{GIVEN}\r")
            terminal.wait_for(lambda text: "Enter Begin" in text)
            self.first_frame = terminal.pieces[-1].at - begun.at
            begin(terminal)
            self._rest(terminal, "first", begun.bytes, 0.0, begun.at)
            for page in BEFORE:
                mark = go_on(terminal, page)
                self._rest(terminal, page, mark.bytes, terminal.seconds_to_answer(mark), mark.at)
            run = terminal.press("enter")
            terminal.wait_for("vLLM answers", 60).wait_for("loading", 60)
            self.waited = terminal.listen(2)
            terminal.wait_for("Enter Continue", 90)
            terminal.wait_still()
            self.run_bytes, self.run_seconds = terminal.bytes_since(run), terminal.pieces[-1].at - run.at
            self._rest(terminal, "Test", len(terminal.bytes), 0.0, time.monotonic())
            mark = terminal.press("enter")
            terminal.wait_for("Enter Finish")
            self._rest(terminal, "Summary", mark.bytes, terminal.seconds_to_answer(mark), mark.at)
            terminal.press("enter")
            terminal.wait_for(is_at_prompt)
            self.bytes = bytes(terminal.bytes[begun.bytes :])
            self.left_over = terminal.left_over()
            self.unknown = dict(terminal.emulator.unknown)
            terminal.type_in("echo ended with $?; exit\r")
            terminal.end()
            self.printed = terminal.printed

    def _rest(self, terminal: Terminal, page: str, before: int, answered: float, since: float) -> None:
        still = terminal.wait_still()
        took = terminal.pieces[-1].at - since
        self.shown.append(Shown(page, still.bytes - before, answered, took, terminal.listen(3)))

    def figures(self) -> str:
        lines = [f"first frame {self.first_frame:.2f} s after Enter at the prompt; in all {len(self.bytes)} bytes"]
        lines += [
            f"  {one.page:<10} {one.cost:>6} bytes, first after {one.answered * 1000:3.0f} ms, last {one.still:.2f} s"
            for one in self.shown
        ]
        lines += [f"  the run    {self.run_bytes:>6} bytes in {self.run_seconds:.1f} s"]
        return "\n".join([*lines, f"  2 s of the wait for the model: {len(self.waited)} bytes"])


@pytest.fixture(scope="module")
def walk(lab: Lab, program: Path) -> Iterator[Walk]:
    server = lab.boot(replace(UBUNTU, layers=(program,)))
    server.standin(load_seconds=3)
    made = Walk(Operator(lab, server))
    print(made.figures())
    yield made
    server.discard()


def test_enter_alone_leads_from_the_prompt_to_a_served_endpoint(walk: Walk) -> None:
    assert [one.page for one in walk.shown] == ["first", *BEFORE, "Test", "Summary"]
    assert "ended with 0\n" in walk.printed
    assert_served(walk.operator)
    document = walk.operator.ask("status")
    assert (troubles(document), document["exit_code"]) == ([], 0)


def test_what_is_worth_copying_is_printed_after_the_end(walk: Walk) -> None:
    base_url = f"https://{walk.operator.server.address}/v1"
    for words in (base_url, "phi-4-mini", f"curl {base_url}", "$VLLM_API_KEY", "rollback", "/etc/vllm/vllm.env"):
        assert words in walk.printed
    assert walk.operator.runs()[-1] in walk.printed


def test_terminal_is_left_as_it_was_found(walk: Walk) -> None:
    # The shell's own line editor switches bracketed paste on at each prompt.
    assert [one for one in walk.left_over if one != "bracketed paste on"] == []
    assert walk.unknown == {}


def test_each_change_and_the_whole_walk_fit_a_slow_line(walk: Walk) -> None:
    print(walk.figures())
    assert [one for one in walk.shown if one.cost > A_CHANGE] == []
    assert len(walk.bytes) <= A_WALK


def test_nothing_is_drawn_while_nothing_happens(walk: Walk) -> None:
    assert {one.page: one.idle for one in walk.shown if one.idle} == {}


def test_wait_for_the_model_costs_no_more_than_a_clock(walk: Walk) -> None:
    """It may take minutes, in which vLLM says something new now and then."""
    assert len(walk.waited) <= 4 * 1024


def test_key_is_in_no_byte_of_the_whole_walk(walk: Walk) -> None:
    events = json.dumps(walk.operator.events(), ensure_ascii=False)
    assert "starting with --api-key •••" in events, "what vLLM told of its key was read, and masked"
    assert not found_in(walk.bytes)


# ── a server that is set up ──


def test_server_that_is_set_up_is_said_to_be_healthy(walk: Walk) -> None:
    runs = walk.operator.runs()
    with at_terminal(walk.operator, WIZARD) as terminal:
        terminal.wait_for("Healthy: all is as it should be", 30)
        assert f"https://{walk.operator.server.address}/v1" in terminal.text
        terminal.press("ctrl+q")
        assert terminal.end() == 0
        assert terminal.left_over() == []
    assert walk.operator.runs() == runs


def test_what_drifted_is_said_and_one_key_repairs_it(walk: Walk) -> None:
    walk.operator.server.run(["ufw", "disable"])
    with at_terminal(walk.operator, WIZARD) as terminal:
        terminal.wait_for("ufw is off", 30).wait_for("Enter Repair")
        terminal.press("enter")
        walk_to_the_end(terminal)
        assert terminal.end() == 0
    document = walk.operator.ask("status")
    assert (troubles(document), document["exit_code"]) == ([], 0)


# ── before the start: nothing is changed, and nothing is lost ──


@pytest.fixture(scope="module")
def untouched(lab: Lab, program: Path) -> Iterator[Operator]:
    """A host on which the wizard is begun again and again, and never started."""
    server = lab.boot(ServerSpec(files=AS_ON_UBUNTU, layers=(program,)))
    operator = Operator(lab, server)
    yield operator
    assert operator.runs() == []
    server.discard()


def test_answers_are_there_again_on_whatever_page_the_connection_was_cut(untouched: Operator) -> None:
    with at_terminal(untouched) as terminal:
        walk_to(terminal, "TLS")
        terminal.press("down", "down")
        terminal.wait_for("(•) Your own files").wait_for("Private key")
        terminal.press("tab")
        terminal.wait_still()
        terminal.type_in("llm.example.test")
        terminal.wait_for(is_at("TLS"))
        terminal.wait_until(lambda: b"llm.example.test" in (untouched.file(DRAFT) or b""), "the draft on disk")
        terminal.cut()
        wait_until_gone(terminal)
    for page in ("", *BEFORE[: BEFORE.index("TLS") + 1]):
        with at_terminal(untouched, WIZARD) as terminal:
            terminal.wait_for("Enter Begin").wait_for(lambda text: "being looked at" not in text)
            for name in BEFORE[: BEFORE.index(page) + 1] if page else ():
                go_on(terminal, name)
            if page == "TLS":
                assert "(•) Your own files" in terminal.text
                assert "llm.example.test" in terminal.text
            terminal.cut()
            wait_until_gone(terminal)
    kept = untouched.file(DRAFT) or b""
    assert b"llm.example.test" in kept and untouched.lab.key_fingerprint.encode() in kept
    assert untouched.server.run(["stat", "-c", "%a %U", DRAFT]).stdout == "600 root\n"


@pytest.mark.parametrize("sent", [signal.SIGHUP, signal.SIGTERM])
def test_signal_ends_the_wizard_and_leaves_the_terminal_as_found(untouched: Operator, sent: signal.Signals) -> None:
    with at_terminal(untouched) as terminal:
        walk_to(terminal, "Firewall")
        assert "alternate screen on" in terminal.left_over()
        pid = program_of(terminal)
        os.kill(pid, sent)
        assert terminal.end(10) == 128 + sent
        assert terminal.left_over() == []
        wait_until_gone(terminal)
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("how", ["cut", "hang_up"])
def test_nothing_is_left_running_of_a_wizard_whose_connection_is_lost(untouched: Operator, how: str) -> None:
    with at_terminal(untouched) as terminal:
        walk_to(terminal, "Bind")
        getattr(terminal, how)()
        wait_until_gone(terminal)


def test_ctrl_z_stops_nothing_and_ctrl_q_and_ctrl_c_leave_the_terminal_as_found(untouched: Operator) -> None:
    for last in ("ctrl+q", "ctrl+c"):
        with at_terminal(
            untouched, "stty -g >before; " + GIVEN + "; echo ended with $?; stty -g | diff - before"
        ) as at:
            walk_to(at, "Preflight")
            at.press("ctrl+z")
            go_on(at, "Firewall")
            at.press(last)
            assert at.end(10) == 0
            assert "Nothing was changed." in at.printed
            assert at.printed.endswith("ended with 0\n")
            assert at.left_over() == []


def test_window_may_change_its_size_at_any_time(untouched: Operator) -> None:
    with at_terminal(untouched) as terminal:
        walk_to(terminal, "Firewall")
        terminal.resize(18, 60)
        terminal.wait_for("2/9 Firewall").wait_for("Enter Continue")
        terminal.resize(8, 30)
        terminal.wait_for("too small")
        terminal.resize(40, 120)
        terminal.wait_for(is_at("Firewall")).wait_for("443/tcp (HTTPS) is not allowed yet")
        terminal.press("ctrl+q")
        assert terminal.end(10) == 0


def test_terminal_that_can_is_given_each_change_at_once(untouched: Operator) -> None:
    with at_terminal(untouched, answers=MODERN) as terminal:
        walk_to(terminal, "Firewall")
        assert terminal.emulator.frames > 2
        terminal.press("ctrl+q")
        assert terminal.end(10) == 0
        assert terminal.left_over() == []
