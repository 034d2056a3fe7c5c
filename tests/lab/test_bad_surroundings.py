"""Somebody else is at work, the repository drips, memory is used up in the middle of a run: it waits and completes, or
ends with a sentence, and the next apply completes."""

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.machine import Result, run
from tests.lab.operator import Event, Operator, began, troubles
from tests.lab.test_lines import EXPOSED, held
from tests.lab.unattended import boot_into_an_upgrade, ensure_unattended_upgrades, let_go
from tests.lab.unchanged import left

pytestmark = pytest.mark.lab

# What a run has to do at each of its steps.
DRIFT = f"""\
{EXPOSED}
ufw delete allow 443/tcp
echo '# by hand' >>/etc/caddy/Caddyfile
"""
WITHOUT_CADDY = "DEBIAN_FRONTEND=noninteractive apt-get remove -q -y caddy; apt-get clean"
CADDY_BYTES = 17_800_000  # what its package has, at the least
WITHOUT_LISTS = "rm -f /var/lib/apt/lists/dl.*"


def assert_completed(operator: Operator) -> None:
    document = operator.apply()
    assert (document["exit_code"], troubles(document), document["continued"]) == (0, [], None)


def assert_said(result: Result, code: int, words: str) -> None:
    said = result.stdout + result.stderr
    assert result.code == code, said
    assert words in said
    assert "Traceback" not in said and "traceback" not in said and "should not have happened" not in said


# ── two at once ──

RUNNING = {
    "apply": "apply --answers answers.yaml",
    "rollback": "rollback --yes --expose",
    "uninstall": "uninstall --yes --expose",
}


@pytest.mark.parametrize("running", RUNNING)
def test_second_rollback_or_uninstall_is_told_who_is_at_work_and_changes_nothing(
    secured: Operator, running: str
) -> None:
    server = secured.server
    server.standin(load_seconds=0.2)
    server.run(["sh", "-ec", EXPOSED])
    if running != "apply":
        assert secured.apply()["exit_code"] == 0
    with secured.start(RUNNING[running]) as first:
        with held(secured) as under_way:
            server.wait_until_up()
            before = server.snapshot()
            for second in ("rollback --yes --keep-bind", "uninstall --yes --keep-bind", "uninstall --yes --expose"):
                refused = secured.say(second)
                named = rf"another run is under way: {running} {under_way}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
                assert refused.code == 4 and re.search(named, refused.stderr), refused
                assert "log --follow" in refused.stderr
                document = secured.ask(second)
                assert document["exit_code"] == 4 and under_way in document["errors"][0]["message"]
            assert left(secured, before) == []
        assert first.end().code == 0
    assert_completed(secured)


# ── a slow repository, and one that breaks off ──

# What is slow, or half: words of its path, how many bytes come a second, and what apt is asked to do when it begins.
SLOW: Mapping[str, tuple[str, float, str]] = {
    "index": ("/binary-", 50, "apt-get update"),
    "package": ("/pool/", 1_800_000, "apt-get install"),
}


@pytest.mark.parametrize("what", SLOW)
def test_repository_that_drips_is_waited_for_and_its_progress_is_in_the_log(secured: Operator, what: str) -> None:
    """Each takes ten seconds."""
    within, bytes_per_second, command = SLOW[what]
    secured.server.run(["sh", "-ec", f"{WITHOUT_CADDY}; {WITHOUT_LISTS}"])
    with secured.lab.gate.dripping(within, bytes_per_second), secured.start() as apply:
        known = set(secured.runs())
        begun = secured.wait_for(began(command))
        ended = apply.end()
    assert ended.code == 0, ended
    (made,) = set(secured.runs()) - known
    later = [event for event in secured.events(made) if event["at"] >= begun["at"]]
    finished = next(event for event in later if event["event"] == "action_ended")
    told = next(event for event in later if event["event"] == "output" and "Get:" in event["text"])
    assert finished["at"] - begun["at"] > 7
    assert finished["at"] - told["at"] > 3, "what is fetched is told while it comes, and not at its end"
    assert_completed(secured)


@pytest.mark.parametrize("what", SLOW)
def test_repository_that_breaks_off_is_a_sentence_and_the_next_apply_completes(secured: Operator, what: str) -> None:
    """Half of it comes, and then the connection is closed, however often apt asks for the rest."""
    within, _, command = SLOW[what]
    secured.server.run(["sh", "-ec", f"{WITHOUT_CADDY}; {WITHOUT_LISTS}"])
    with secured.lab.gate.dripping(within, 1e9, share=0.5):
        result = secured.say("apply --answers answers.yaml")
    assert_said(result, 1, "Failed to fetch https://dl.cloudsmith.io/")
    assert re.search(rf"! {command} .*: exit code 100: ", result.stdout)
    assert "the same command goes on from here" in result.stdout and "the API is local only now" in result.stdout
    assert secured.file("/usr/bin/caddy") is None
    assert secured.server.run(["dpkg", "--audit"]).stdout == ""
    assert_completed(secured)


def test_package_that_came_in_part_while_the_rest_was_done_is_gone_on_with(
    attend: Callable[[ServerSpec], Operator],
) -> None:
    operator = attend(ServerSpec(guide_packages=True, load_seconds=2))
    with operator.lab.gate.dripping("/pool/", 3_000_000):
        document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    log = (operator.file(document["log_path"]) or b"").decode()
    assert re.search(r"Get:\d+ https://dl.cloudsmith.io/.* caddy ", log), "the rest is told of as it comes"
    number, unit = re.findall(r"Fetched ([\d.]+) (k|M)?B in", log)[-1]
    print(f"fetched in its turn: {number} {unit}B")
    # The rest has come while vLLM was loading its model, after the firewall was switched on: none of it was dropped.
    assert float(number) * {"": 1, "k": 1e3, "M": 1e6}[unit] < CADDY_BYTES * 0.9, "the part was fetched again"


# ── unattended-upgrades at a boot ──


@pytest.fixture
def upgrading(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of a server that was never set up, on which the real unattended-upgrades is at work since a boot."""
    server = lab.boot(ServerSpec(layers=(ensure_unattended_upgrades(lab.base), program)))
    operator = Operator(lab, server)
    boot_into_an_upgrade(server)
    yield operator
    server.discard()


@pytest.mark.parametrize("held_s", [2, 130], ids=["a moment", "minutes"])
def test_unattended_upgrades_at_a_boot_is_waited_for_and_named(upgrading: Operator, held_s: int) -> None:
    """A package that it has unpacked is no fault of the server's: nobody is told to finish it by hand."""
    server = upgrading.server
    planned = upgrading.say("plan --answers answers.yaml")
    assert planned.code == 0 and "lab-slow: being installed right now, by unattended-upgr" in planned.stdout, planned
    with upgrading.start() as apply:
        waiting = upgrading.wait_for(lambda event: "apt is locked by" in event.get("text", ""))
        holder = re.fullmatch(
            r"apt is locked by unattended-upgr \(process (\d+)\): waiting for it", str(waiting["text"])
        )
        assert holder is not None, waiting
        assert b"unattended-upgrade" in server.get(f"/proc/{holder[1]}/cmdline")
        server.run(["sleep", str(held_s)], timeout=held_s + 60)
        assert not any(event["event"] == "end" for event in upgrading.events())
        let_go(server)
        ended = apply.end()
    assert ended.code == 0, ended
    assert waiting["text"] in ended.stdout
    shown = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "lab-slow"]
    assert server.run(shown).stdout == "ii 2", "its own work was not disturbed"


# ── memory, and processes, used up in the middle of a run ──


def at_step(step: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == "step_began" and event["step"] == step


@contextmanager
def stopped_at(operator: Operator, sign: Callable[[Event], bool]) -> Iterator[int]:
    """The process that applies, stopped there until this ends."""
    operator.wait_for(sign)
    pid = operator.run_process()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_power_that_goes_while_ufw_writes_its_rules_locks_nobody_out(secured: Operator) -> None:
    """The boot loads nothing of a file that is cut off; the undo, which was armed before, puts the old one back."""
    server, rules = secured.server, "/etc/ufw/user.rules"
    server.run(["ufw", "delete", "allow", "443/tcp"])
    before = server.get(rules)
    with secured.start(), stopped_at(secured, began("ufw allow 443/tcp")):
        # By the same command: the run may have been stopped just before it.
        server.run(["sh", "-euc", 'ufw allow 443/tcp comment HTTPS; truncate -s -20 "$1"', "sh", rules])
        server.run(["sync"])
        server.kill()
    assert server.ssh("echo in").stdout == "in\n"
    assert server.get(rules) == before
    document = secured.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])


@pytest.mark.parametrize("step", ["preflight", "firewall", "bind", "caddy", "tls"])
def test_memory_that_is_used_up_in_the_middle_is_a_sentence_and_the_next_apply_completes(
    secured: Operator, step: str
) -> None:
    """From this step on nothing is given any more to the run, and too little to what it starts (ENOMEM)."""
    secured.server.run(["sh", "-ec", f"{DRIFT}{WITHOUT_CADDY}"])
    with secured.start() as apply:
        with stopped_at(secured, at_step(step)) as pid:
            run(["prlimit", f"--pid={pid}", f"--as={4 << 20}"])
        result = apply.end()
    assert_said(result, 1, "memory")
    assert "free -m" in result.stdout and "the same command goes on from" in result.stdout
    assert_completed(secured)


def limit_processes(pid: int, most: int) -> Callable[[], object]:
    """Lets the process's control group have no more than so many processes; returns what takes that back."""
    in_v1 = Path("/sys/fs/cgroup/pids")
    if in_v1.is_dir():
        group = in_v1 / f"vllm-https-lab-limit-{os.getpid()}"
        group.mkdir()
        (group / "pids.max").write_text(str(most))
        (group / "cgroup.procs").write_text(str(pid))
        return group.rmdir
    own = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    group = Path("/sys/fs/cgroup") / own.removeprefix("0::").lstrip("/")
    (group / "pids.max").write_text(str(most))
    return lambda: None  # the group goes with the run's unit


# From where on, and what is said.
MOMENTS: Mapping[str, tuple[Callable[[Event], bool], str]] = {
    "first rule": (at_step("firewall"), "could not be started: Resource temporarily unavailable"),
    "Caddy": (at_step("caddy"), "could not be started: Resource temporarily unavailable"),
    "final test": (lambda event: event["event"] == "test", "no process or thread can be started"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_fork_that_fails_from_the_middle_on_is_a_sentence_and_the_next_apply_completes(
    secured: Operator, moment: str
) -> None:
    """As where the unit has as many processes as it may have: fork fails with EAGAIN, and so does a new thread."""
    secured.server.run(["sh", "-ec", f"{DRIFT}{WITHOUT_CADDY}"])
    with secured.start() as apply:
        with stopped_at(secured, MOMENTS[moment][0]) as pid:
            take_back = limit_processes(pid, 1)
        try:
            result = apply.end()
        finally:
            secured.wait_until_idle()
            take_back()
    assert_said(result, 1, MOMENTS[moment][1])
    assert "TasksMax" in result.stdout and "the same command goes on from" in result.stdout
    assert_completed(secured)
