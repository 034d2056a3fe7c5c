"""The wizard and a run under way: logins that are lost and come back, tmux, a firewall that can't be proved."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.operator import Operator, changes_of, comparable, done
from tests.lab.space import Deadline
from tests.lab.terminal import Terminal, processor_seconds
from tests.lab.test_safety import FOREIGN_RULE, UNPROVED, firewall_state
from tests.lab.walker import (
    AS_ON_UBUNTU,
    BEFORE,
    GIVEN,
    UBUNTU,
    WIZARD,
    assert_served,
    at_terminal,
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


def test_new_login_shows_all_that_happened_and_goes_on_to_the_end(attend: Attend) -> None:
    operator = attend(UBUNTU)
    operator.server.standin(load_seconds=5)
    with at_terminal(operator) as first:
        walk_to(first, "Review")
        first.press("s")
        first.wait_for("Save the answers to").wait_still()
        first.press("ctrl+u")
        first.wait_still()
        first.type_in("/root/kept.yaml\r")
        first.wait_for("Written")
        first.press("escape")
        plan = operator.ask("plan --answers /root/kept.yaml")
        go_on(first, "Set up")
        first.wait_for(is_firewall_done).wait_for("vLLM answers")
        first.cut()
        wait_until_gone(first)
    with at_terminal(operator, WIZARD) as second:
        second.wait_for(is_firewall_done).wait_for("vLLM answers")
        os.kill(program_of(second), signal.SIGTERM)
        assert second.end(10) == 143
        assert second.left_over() == []
    with at_terminal(operator, WIZARD) as third:
        third.wait_for(is_at("Set up"))
        third.press("ctrl+c")
        third.wait_for("Stop after this command?")
        third.press("escape")
        third.wait_for(is_at("Set up"))
        stall_until_the_end(operator, third)
        walk_to_the_end(third)
        assert third.end() == 0
        assert third.left_over() == []
        assert operator.runs()[-1] in third.printed
    assert_served(operator)
    assert comparable(done(operator.events())) == comparable(changes_of(plan)), "what was reviewed was done"
    assert operator.file("/etc/vllm-https-setup/answers.yaml") == operator.file("/root/kept.yaml")


def is_firewall_done(text: str) -> bool:
    return re.search(r"│ +✓ Firewall +\S", text) is not None


def stall_until_the_end(operator: Operator, terminal: Terminal) -> None:
    """The line carries nothing while the run comes to its end: the wizard waits, and does not spin."""
    pid = program_of(terminal)
    with terminal.stalled():
        mark, before = terminal.mark(), processor_seconds(pid)
        until = Deadline("the end of the run", 90)
        while operator.events()[-1]["event"] != "end":
            until.tick(0.1)
        until = Deadline("a second of the wizard without work", 20)
        while (busy := processor_seconds(pid)) > before + 0.1:
            before = busy
            until.tick(1)
        assert terminal.bytes_since(mark) == 0
    terminal.wait_for("Enter Continue")
    print(f"{terminal.bytes_since(mark)} bytes came after the stall")


def test_tmux_keeps_the_wizard_through_a_lost_connection(attend: Attend) -> None:
    operator = attend(replace(UBUNTU, packages=("tmux",)))
    operator.server.standin(load_seconds=3)
    with at_terminal(operator, "tmux new-session -s kept") as first:
        first.wait_for(is_at_prompt)
        first.type_in(f"{GIVEN}\r")
        walk_to(first, "Review")
        go_on(first, "Set up")
        first.wait_for("vLLM answers")
        first.cut()
    with at_terminal(operator, "tmux attach -t kept") as second:
        second.wait_for(is_at("Set up"))
        walk_to_the_end(second)
        second.wait_for(is_at_prompt)
        second.type_in("clear; echo ended with $?; exit\r")
        assert second.end() == 0
        assert second.left_over() == []
    assert_served(operator)


def words_of(terminal: Terminal) -> str:
    """The page's text as one line, whatever its line breaks."""
    rows = [line.partition("│")[2] for line in terminal.screen]
    return " ".join(" ".join(rows).split())


# ── the firewall that can't be proved ──


@pytest.fixture(scope="module")
def unprovable(lab: Lab, program: Path) -> Iterator[Operator]:
    """Somebody's own rule keeps the probe's packets out, and not the operator's."""
    server = lab.boot(ServerSpec(files=AS_ON_UBUNTU, layers=(program,)))
    operator = Operator(lab, server)
    server.run(FOREIGN_RULE)
    operator.answer(**UNPROVED)
    yield operator
    server.discard()


def start_unproved(terminal: Terminal) -> None:
    """Enter until the work is begun and waits for its proof."""
    terminal.wait_for(lambda text: "This server can be secured" in text or "Enter Repair" in text, 30)
    if "Enter Repair" not in terminal.text:
        for page in BEFORE:
            go_on(terminal, page)
    go_on(terminal, "Set up")
    terminal.wait_for("Open a second SSH session now")


def test_firewall_without_a_proof_is_put_back_as_it_was_and_said_so(unprovable: Operator) -> None:
    before = firewall_state(unprovable)
    with at_terminal(unprovable) as terminal:
        start_unproved(terminal)
        waiting = words_of(terminal)
        terminal.wait_for("This did not succeed", 30)
        assert "The firewall was put back as it was before" in words_of(terminal)
        terminal.press("ctrl+q")
        assert terminal.end(10) == 1
        assert terminal.left_over() == []
    assert firewall_state(unprovable) == before
    assert unprovable.server.ssh("echo in").stdout == "in\n"
    assert b"--host 0.0.0.0" in unprovable.server.get("/opt/vllm/start-vllm.sh"), "later steps are not begun"
    assert re.search(r"noticed by itself\. \d+ s", waiting), "how long is left is seen"


def test_second_login_proves_the_firewall_and_the_work_goes_on(unprovable: Operator) -> None:
    with at_terminal(unprovable) as terminal:
        start_unproved(terminal)
        with at_terminal(unprovable, "sleep 3"):
            terminal.wait_for(is_firewall_done)
        terminal.wait_for("Enter Continue", 60)
        terminal.press("ctrl+q")
        # The foreign rule is the operator's; net.open tells of it, as far as it goes.
        assert terminal.end(10) in (0, 5)
    assert "a new SSH connection came in from 10.91.0.9" in str(unprovable.events())
    assert unprovable.server.run(["ufw", "status"]).stdout.startswith("Status: active")
