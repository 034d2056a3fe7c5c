"""The firewall that can't be proved is put back by the unit's own hand; one that was proved never is."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab import ServerSpec
from tests.lab.killing import STATE, assert_completed, assert_reachable, kill_at
from tests.lab.operator import Event, Operator, began, troubles
from tests.lab.space import Deadline

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
REVERT_SERVICE = "vllm-https-setup-revert.service"

# Somebody's own rule before ufw's: packets from the probe's network are lost, those of operators are not.
FOREIGN_RULE = ["iptables", "-I", "INPUT", "1", "-s", "192.0.2.0/30", "-j", "DROP"]
UNPROVED = {"firewall": {"safety_seconds": 10}}
UFW = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules", "/etc/ufw/ufw.conf", "/etc/default/ufw")


def unprovable(operator: Operator) -> None:
    operator.server.run(FOREIGN_RULE)
    operator.answer(**UNPROVED)


def firewall_state(operator: Operator) -> dict[str, object]:
    """The firewall as its files, its own word and the loaded rules have it. The empty chains that ufw leaves where it
    was switched off decide nothing."""
    server = operator.server
    rules = [server.run([f"{tool}-save"]).stdout.splitlines() for tool in ("iptables", "ip6tables")]
    return {
        "files": {path: server.get(path) for path in UFW},
        "modes": server.run(["stat", "-c", "%n %a %U:%G", *UFW]).stdout,
        "status": server.run(["ufw", "status", "verbose"]).stdout,
        "loaded": [
            line for lines in rules for line in lines if line.startswith("-A") and not is_empty_jump(line, lines)
        ],
        "policies": [line.split()[:2] for lines in rules for line in lines if " DROP [" in line or " REJECT [" in line],
        "units": server.run(["sh", "-c", "ls /etc/systemd/system | grep revert; true"]).stdout,
    }


def is_empty_jump(rule: str, rules: list[str]) -> bool:
    """Whether a rule only leads into a chain without a rule."""
    chain = rule.rpartition(" -j ")[2]
    return chain.startswith("ufw") and not any(other.startswith(f"-A {chain} ") for other in rules)


def is_unproved(event: Event) -> bool:
    return "Open a second SSH session now" in event.get("text", "")


STARTS = {
    "firewall off": ServerSpec(),
    "firewall on": ServerSpec(ufw_enabled=True, ufw_rules=("allow 22/tcp", "allow 9100/tcp")),
}


@pytest.mark.parametrize("start", STARTS)
def test_firewall_that_cannot_be_proved_is_put_back(attend: Attend, start: str) -> None:
    operator = attend(STARTS[start])
    unprovable(operator)
    before, vllm = firewall_state(operator), operator.server.run(["systemctl", "show", "-P", "MainPID", "vllm"]).stdout
    document = operator.apply()
    assert (document["exit_code"], document["failed"]) == (1, True)
    assert firewall_state(operator) == before
    statuses = {step["id"]: step["status"] for step in document["steps"]}
    assert statuses == {
        "preflight": "ok",
        "firewall": "failed",
        **dict.fromkeys(("bind", "caddy", "tls", "https_test"), "skipped"),
    }
    assert any("put back" in trouble for trouble in troubles(document))
    assert operator.server.run(["systemctl", "show", "-P", "MainPID", "vllm"]).stdout == vllm
    assert operator.file(f"{STATE}/firewall/unconfirmed") is None
    assert_reachable(operator)


def test_new_login_confirms_the_firewall(operator: Operator) -> None:
    unprovable(operator)
    with operator.start() as apply:
        operator.wait_for(is_unproved)
        operator.server.ssh("sleep 2.5")
        ended = apply.end()
    assert "a new SSH connection came in from 10.91.0.9" in str(operator.events())
    # The foreign rule is the operator's; net.open tells of it, as far as it goes.
    assert ended.code in (0, 5)
    assert operator.server.run(["ufw", "status"]).stdout.startswith("Status: active")
    assert operator.file(f"{STATE}/firewall/unconfirmed") is None


def wait_until_off(operator: Operator) -> float:
    """How long it took until the firewall was as it was."""
    start = time.monotonic()
    while time.monotonic() < start + 30:
        if operator.file(f"{STATE}/firewall/unconfirmed") is None:
            return time.monotonic() - start
        time.sleep(0.1)
    raise AssertionError("the firewall was not put back")


@contextmanager
def busy(operator: Operator, programs: int = 6) -> Iterator[None]:
    """A machine with more to do than it can, all of it before anybody else's turn."""
    server = operator.server
    loop = ["systemd-run", "-q", "--unit=busy", "-p", "Nice=-20", "sh", "-c"]
    server.run([*loop, f"for i in $(seq {programs}); do (while :; do :; done) & done; wait"])
    try:
        yield
    finally:
        server.run(["systemctl", "stop", "busy"])


def without_units(state: dict[str, object]) -> dict[str, object]:
    """The undo's own unit files stay until the next run."""
    return {name: value for name, value in state.items() if name != "units"}


@pytest.mark.parametrize("start", STARTS)
def test_timer_puts_the_firewall_back_where_the_run_was_killed(attend: Attend, start: str) -> None:
    """Where it was off the machine is so busy besides that nothing else gets on."""
    operator = attend(STARTS[start])
    unprovable(operator)
    before = firewall_state(operator)
    killed = kill_at(operator, is_unproved)
    assert operator.server.run(["ufw", "status"]).stdout.startswith("Status: active")
    if start == "firewall off":
        with busy(operator):
            print(f"put back {wait_until_off(operator):.1f} s after the kill, on a busy machine")
    else:
        print(f"put back {wait_until_off(operator):.1f} s after the kill")
    assert without_units(firewall_state(operator)) == without_units(before)
    assert_reachable(operator)
    operator.server.run(["iptables", "-D", *FOREIGN_RULE[2:3], *FOREIGN_RULE[4:]])
    assert_completed(operator, operator.apply(), killed)


def lose_power(operator: Operator) -> None:
    operator.server.kill()


def reboot(operator: Operator) -> None:
    operator.server.reboot()


@pytest.mark.parametrize(
    ("start", "go_down"), [("firewall off", lose_power), ("firewall on", lose_power), ("firewall on", reboot)]
)
def test_unproved_firewall_is_put_back_by_a_boot(
    attend: Attend, start: str, go_down: Callable[[Operator], None]
) -> None:
    operator = attend(STARTS[start])
    before = firewall_state(operator)
    unprovable(operator)
    with operator.start() as apply:
        operator.wait_for(is_unproved)
        go_down(operator)
        apply.cut()
    assert_reachable(operator)
    wait_until_off(operator)
    assert without_units(firewall_state(operator)) == without_units(before)
    assert operator.lab.outside.tcp(operator.server.address, 8000) == (
        "open" if start == "firewall off" else "filtered"
    )
    operator.answer()
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])


def test_proof_that_comes_after_the_countdown_is_none(operator: Operator) -> None:
    """A run that gets no turn while the countdown ends would see the firewall of before, which lets everybody in."""
    before = firewall_state(operator)
    operator.answer(**UNPROVED)
    with operator.start() as apply:
        operator.wait_for(began("SSH proved"))
        pid = operator.run_process()
        os.kill(pid, signal.SIGSTOP)
        wait_until_off(operator)
        os.kill(pid, signal.SIGCONT)
        ended = apply.end()
    assert ended.code == 1
    assert "as it was before" in ended.stdout + ended.stderr
    assert firewall_state(operator) == before
    assert operator.lab.outside.tcp(operator.server.address, 8000) == "open", "later steps are not begun"


def test_confirmed_firewall_is_never_put_back(secured: Operator) -> None:
    """Not by the timer that a run which was killed had no time to stop, and not by a boot."""
    server = secured.server
    secured.answer(**UNPROVED)
    server.run(["ufw", "disable"])
    killed = kill_at(secured, began("systemctl stop vllm-https-setup-revert.timer"))
    # The run may have died when systemd had heard it, a few milliseconds too late.
    server.run(["systemctl", "start", "vllm-https-setup-revert.timer"])
    assert secured.file(f"{STATE}/firewall/unconfirmed") is None
    confirmed = firewall_state(secured)
    assert str(confirmed["status"]).startswith("Status: active")
    asked = ["systemctl", "show", "-P", "ConditionResult", "-P", "ConditionTimestampMonotonic", REVERT_SERVICE]
    until = Deadline("the countdown's end", 30)
    while server.run(asked).stdout.split()[-1] == "0":
        until.tick(0.2)
    assert server.run(asked).stdout.split()[0] == "no", "it came, and had nothing to do"
    assert firewall_state(secured) == confirmed
    secured.server.reboot()
    assert firewall_state(secured) == confirmed
    assert_completed(secured, secured.apply(), killed)
    secured.server.reboot()
    assert without_units(firewall_state(secured)) == without_units(confirmed)
