"""A run killed at any moment leaves a server that works, and the next one completes it. The firewall proves itself."""

import json
import time
from collections.abc import Callable

import pytest

from tests.lab import ServerSpec
from tests.lab.cache import HERE
from tests.lab.operator import (
    Event,
    Operator,
    began,
    changes_of,
    comparable,
    done,
    in_words,
    interrupted,
    troubles,
)
from tests.lab.space import Deadline

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
Sign = Callable[[Event], bool]
SCRIPT, CADDYFILE = "/opt/vllm/start-vllm.sh", "/etc/caddy/Caddyfile"
REVERT = "/etc/systemd/system/vllm-https-setup-revert"
STATE = "/var/lib/vllm-https-setup"
ROOT = "/etc/vllm-https-setup/root.crt"

# the instants: the run dies when its journal shows this action begun, so many seconds later, or when dpkg says this
INSTANTS: dict[str, tuple[str, float | bytes]] = {
    "first rule": ("ufw allow 22/tcp", 0),
    "second rule": ("ufw allow 443/tcp", 0.03),
    "firewall switched on": ("ufw --force enable", 0.1),
    "proof awaited": ("SSH proved", 0),
    "countdown ended": ("systemctl stop vllm-https-setup-revert.timer", 0),
    "vLLM restarted": ("systemctl restart vllm.service", 0),
    "vLLM loading": ("vLLM answers", 0.1),
    "lists fetched": ("apt-get update", 0.2),
    "packages fetched": ("apt-get install", 0.4),
    "Caddy unpacked": ("apt-get install", b"status half-installed caddy"),
    "Caddy configured": ("apt-get install", b"status half-configured caddy"),
    "Caddyfile validated": (f"write {CADDYFILE}", 0.02),
    "Caddy told": ("systemctl reload-or-restart caddy", 0),
}


def kill_at(operator: Operator, sign: Sign, then: float | bytes = 0) -> None:
    """Start a run and kill it so long after the sign. It counts only where an action was begun and is not done."""
    with operator.start() as apply:
        operator.wait_for(sign)
        wait_on(operator, then)
        operator.kill_run()
        ended = apply.end()
    operator.wait_until_idle()
    assert interrupted(operator.events()), "killed between two actions: this instant shows nothing"
    assert ended.code == 1
    assert "was killed before its end" in ended.stderr
    assert "goes on from where it was" in ended.stderr


def wait_on(operator: Operator, then: float | bytes) -> None:
    """So many seconds, or until dpkg's log says this."""
    if isinstance(then, bytes):
        until = Deadline(f"dpkg's log to say {then!r}", 60)
        while then not in (operator.file("/var/log/dpkg.log") or b""):
            until.tick(0.002)
    else:
        time.sleep(then)


def assert_whole(operator: Operator, before: dict[str, bytes | None]) -> None:
    """Each file that a run writes is as it was, or as it will be; none is half of anything."""
    script = operator.file(SCRIPT)
    old = before[SCRIPT]
    assert old is not None
    assert script in (old, old.replace(b"0.0.0.0", b"127.0.0.1"))
    caddyfile = operator.file(CADDYFILE)
    packaged = (HERE / "files/caddy/Caddyfile").read_bytes()
    assert caddyfile in (None, packaged) or caddyfile.rstrip().endswith(b"}")
    for path, end in ((f"{REVERT}.service", b"WantedBy=multi-user.target"), (f"{REVERT}.timer", b".service")):
        unit = operator.file(path)
        assert unit is None or unit.rstrip().endswith(end)
    for name in (f"{STATE}/owned.json", *(f"{STATE}/runs/{run}/request.json" for run in operator.runs())):
        found = operator.file(name)
        assert found is None or json.loads(found)
    certificate = operator.file(ROOT)
    assert certificate is None or certificate.rstrip().endswith(b"-----END CERTIFICATE-----")


def assert_reachable(operator: Operator) -> None:
    assert operator.server.ssh("echo in").stdout == "in\n"
    assert operator.lab.outside.tcp(operator.server.address, operator.server.spec.ssh_port) == "open"


def litter(operator: Operator) -> list[str]:
    """Files that were written beside another, to take its place, and never did."""
    return [str(path.relative_to(operator.server.upper)) for path in operator.server.upper.rglob(".*.new")]


def assert_completes(operator: Operator, killed: str) -> None:
    """The next apply does what its plan says, completes the killed run's work, and says so."""
    plan = operator.plan()
    assert any(killed in warning for warning in plan["warnings"])
    document = operator.apply()
    assert (troubles(document), document["exit_code"]) == ([], 0)
    assert document["continued"] == killed
    assert comparable(done(operator.events(document["run"]))) == comparable(changes_of(plan))
    assert f"cut off; completed by {document['run']}" in operator.say("runs").stdout
    assert litter(operator) == []
    for path in (f"{REVERT}.service", f"{REVERT}.timer", f"{STATE}/firewall/unconfirmed"):
        assert operator.file(path) is None
    again = operator.apply()
    assert (again["exit_code"], again["changed"], again["continued"]) == (0, False, None)


def contents(operator: Operator) -> dict[str, bytes | None]:
    return {SCRIPT: operator.file(SCRIPT)}


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_run_leaves_a_working_server_and_is_completed(operator: Operator, instant: str) -> None:
    words, then = INSTANTS[instant]
    before = contents(operator)
    kill_at(operator, began(words), then)
    killed = operator.runs()[-1]
    print(f"killed in: {in_words(done(operator.events()))[-1]}")
    assert_reachable(operator)
    assert_whole(operator, before)
    assert "cut off: the next apply completes it" in operator.say("runs").stdout
    assert_completes(operator, killed)


@pytest.mark.parametrize("moment", [b"status half-installed ufw", b"status half-configured ufw"])
def test_run_killed_while_it_installs_ufw_is_completed(attend: Attend, moment: bytes) -> None:
    operator = attend(ServerSpec(ufw_installed=False))
    kill_at(operator, began("apt-get install", "ufw"), moment)
    assert_reachable(operator)
    assert_completes(operator, operator.runs()[-1])


def test_run_killed_again_and_again_is_completed_at_last(operator: Operator) -> None:
    before = contents(operator)
    killed = []
    for words in ("ufw --force enable", "systemctl restart vllm", "apt-get install", f"write {CADDYFILE}"):
        kill_at(operator, began(words))
        killed.append(in_words(done(operator.events()))[-1])
        assert_reachable(operator)
        assert_whole(operator, before)
    print(f"killed in: {'; '.join(killed)}")
    assert_completes(operator, operator.runs()[-1])


# ── the firewall that can't be proved ──

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


def test_timer_puts_the_firewall_back_where_the_run_was_killed(operator: Operator) -> None:
    unprovable(operator)
    before = firewall_state(operator)
    kill_at(operator, is_unproved)
    killed = operator.runs()[-1]
    assert operator.server.run(["ufw", "status"]).stdout.startswith("Status: active")
    print(f"put back {wait_until_off(operator):.1f} s after the kill")
    after = firewall_state(operator)
    assert (after["files"], after["modes"]) == (before["files"], before["modes"])
    assert (after["status"], after["loaded"], after["policies"]) == (
        before["status"],
        before["loaded"],
        before["policies"],
    )
    assert_reachable(operator)
    operator.server.run(["iptables", "-D", *FOREIGN_RULE[2:3], *FOREIGN_RULE[4:]])
    assert_completes(operator, killed)


def test_power_loss_with_an_unproved_firewall_puts_it_back_at_boot(operator: Operator) -> None:
    unprovable(operator)
    with operator.start() as apply:
        operator.wait_for(is_unproved)
        operator.server.kill()
        apply.cut()
    killed = operator.runs()[-1]
    assert_reachable(operator)
    wait_until_off(operator)
    assert operator.server.run(["ufw", "status"]).stdout.strip() == "Status: inactive"
    assert b"ENABLED=no" in operator.server.get("/etc/ufw/ufw.conf")
    assert operator.lab.outside.tcp(operator.server.address, 8000) == "open"
    operator.answer()
    assert_completes(operator, killed)


def test_power_loss_in_the_middle_of_an_installation_is_completed(operator: Operator) -> None:
    before = contents(operator)
    with operator.start() as apply:
        operator.wait_for(began("apt-get install"))
        time.sleep(1)
        operator.server.kill()
        apply.cut()
    killed = operator.runs()[-1]
    assert interrupted(operator.events(killed))
    assert_reachable(operator)
    assert_whole(operator, before)
    assert_completes(operator, killed)
