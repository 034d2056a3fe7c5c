"""A run killed at any moment, or a server that loses its power, is left working, and the next run completes it.

`tests/lab/kill` does the same at every action of every mode: here are ten of those instants.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.lab import Acme, Lab, ServerSpec
from tests.lab.killing import (
    Before,
    assert_completed,
    assert_not_exposed,
    assert_reachable,
    assert_whole,
    kill_at,
    lose_power,
    spare,
)
from tests.lab.operator import (
    Event,
    Operator,
    began,
    changes_of,
    comparable,
    done,
    findings,
    in_words,
    troubles,
)
from tests.lab.site import Site
from tests.lab.space import Deadline

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
Sign = Callable[[Event], bool]
SCRIPT, CADDYFILE = "/opt/vllm/start-vllm.sh", "/etc/caddy/Caddyfile"
PATHS = (SCRIPT, CADDYFILE)
KEY = "/etc/caddy/vllm-https/key.pem"
EXPOSED = (
    "sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' /opt/vllm/start-vllm.sh; systemctl restart vllm; "
    "until ss -Hltn | grep -q 0.0.0.0:8000; do sleep 0.05; done"
)

# the instants: the run dies when its journal shows this action begun, so many seconds later, or when dpkg says this
INSTANTS: dict[str, tuple[str, str, float | bytes]] = {
    "second rule": ("internal", "ufw allow 443/tcp", 0.03),
    "firewall switched on": ("internal", "ufw --force enable", 0.1),
    "countdown ended": ("internal", "systemctl stop vllm-https-setup-revert.timer", 0),
    "vLLM loading": ("internal", "vLLM answers", 0.1),
    "Caddy unpacked": ("internal", "apt-get install", b"status half-installed caddy"),
    "Caddyfile validated": ("internal", f"write {CADDYFILE}", 0.02),
    "lists fetched": ("acme", "apt-get update", 0.1),
    "certificate awaited": ("acme", "a certificate for", 0),
    "key copied": ("custom", f"write {KEY}", 0),
    "Caddy told": ("custom", "systemctl reload-or-restart caddy", 0),
}


@pytest.fixture
def site(lab: Lab, acme: Acme, operator: Operator) -> Iterator[Site]:
    yield Site(lab, acme, operator)


def assert_left_working(operator: Operator, before: Before) -> None:
    assert_reachable(operator)
    assert_whole(operator, before)
    assert_not_exposed(operator, before)


def assert_completes(operator: Operator, killed: str) -> None:
    """The next apply does what its plan says, completes the killed run's work, and says so."""
    assert "cut off: the next apply completes it" in operator.say("runs").stdout
    plan = operator.plan()
    assert any(killed in warning for warning in plan["warnings"])
    document = operator.apply()
    assert_completed(operator, document, killed)
    ran = done(operator.events(document["run"])) if document["run"] else []
    assert comparable(ran) == comparable(changes_of(plan))
    again = operator.apply()
    assert (again["exit_code"], again["changed"], again["continued"]) == (0, False, None)


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_run_leaves_a_working_server_and_is_completed(site: Site, instant: str) -> None:
    mode, words, then = INSTANTS[instant]
    operator = site.operator
    if mode != "internal":
        site.answer_mode(mode)
    before = Before.of(operator, PATHS)
    killed = kill_at(operator, began(words), then)
    print(f"killed in: {in_words(done(operator.events()))[-1]}")
    assert_left_working(operator, before)
    assert_completes(operator, killed)


def test_download_under_way_dies_with_its_run_and_is_taken_away_by_the_next(attend: Attend) -> None:
    operator = attend(ServerSpec(guide_packages=True, load_seconds=4))
    before = Before.of(operator, PATHS)
    with operator.lab.gate.dripping("/pool/", 200_000):
        killed = kill_at(operator, began("vLLM answers"), 2)
        assert operator.server.run(["pgrep", "-l", "apt|http"], check=False).stdout == ""
    left = operator.server.run(["find", "/run/vllm-https-setup", "-name", "*.deb"]).stdout
    assert "/download/archives/partial/caddy_" in left
    operator.server.wait_until_up()
    assert_left_working(operator, before)
    assert_completes(operator, killed)
    assert operator.server.run(["ls", "/run/vllm-https-setup"]).stdout == "lock\n"


# iptables-restore, as ufw's start calls it; from its CUT-th call on it loads nothing more.
CUT = """#!/bin/bash
n=$(($(cat /run/restores) + 1)); echo $n >/run/restores
[ $n -lt $(cat /run/cut) ] || exit 1
exec -a ${0##*/} /usr/sbin/xtables-nft-multi "$@"
"""
START = """nft flush ruleset; echo {cut} >/run/cut; echo 0 >/run/restores
for one in iptables-restore ip6tables-restore; do mv /usr/sbin/$one /run/; cp /root/cut /usr/sbin/$one; done
/lib/ufw/ufw-init start >/dev/null 2>&1 || true
mv -f /run/*tables-restore /usr/sbin/
"""


def test_start_of_ufw_that_was_cut_off_anywhere_is_seen_and_made_whole(operator: Operator) -> None:
    """ufw says that it is on as soon as it begins, and closes last, IPv6 after IPv4: at a boot as well as in a run."""
    server = operator.server
    assert operator.apply()["exit_code"] == 0
    server.put("/root/cut", CUT.encode(), 0o755)
    server.run(["systemd-run", "-q", "python3", "-m", "http.server", "9999", "--bind", "::"])
    until = Deadline("an open port", 20)
    while ":9999" not in server.run(["ss", "-Hltn"]).stdout:
        until.tick(0.05)

    def seen() -> list[str]:
        return [operator.lab.outside.tcp(address, 9999, 0.3) for address in (server.address, server.address6)]

    for cut, left_open in ((1, 2), (7, 2), (10, 2), (11, 1), (20, 1)):
        server.run(["sh", "-ec", START.format(cut=cut)])
        assert seen().count("open") == left_open, cut
        status = operator.ask("status")
        assert (status["exit_code"], "firewall.enabled" in findings(status, "drift")) == (1, True), cut
        document = operator.ask("repair")
        assert (document["exit_code"], troubles(document)) == (0, [])
        assert seen() == ["filtered", "filtered"], cut


# What `ufw disable` has done when it is cut off: its file first, then the rules, chain by chain; the policy is left.
CUT_OFF = "sed -i s/ENABLED=yes/ENABLED=no/ /etc/ufw/ufw.conf; iptables -F {}; ip6tables -F {}"


def test_uninstall_that_was_killed_while_ufw_was_switched_off_lets_everybody_in_again(operator: Operator) -> None:
    server, tcp = operator.server, operator.lab.outside.tcp
    assert operator.apply()["exit_code"] == 0
    kill_at(operator, began("ufw --force disable"), 0, command="uninstall --yes --expose")
    server.run(["sh", "-ec", CUT_OFF.format("ufw-before-input", "ufw6-before-input")])
    assert [tcp(address, 22, 0.5) for address in (server.address, server.address6)] == ["filtered"] * 2
    # From the console: nobody gets in.
    assert server.run(["vllm-https-setup", "uninstall", "--yes", "--expose"], check=False).code == 0
    for program in ("iptables", "ip6tables"):
        assert "-P INPUT ACCEPT" in server.run([program, "-S", "INPUT"]).stdout
    # The neighbours lost sight of each other over IPv6, whose own messages were dropped as well.
    until = Deadline("SSH over both families", 10)
    while [tcp(address, 22) for address in (server.address, server.address6)] != ["open"] * 2:
        until.tick()


def test_firewall_that_was_half_switched_off_is_switched_on_whole(operator: Operator) -> None:
    """`ufw enable` alone says that it was started already, and loads nothing."""
    server = operator.server
    assert operator.apply()["exit_code"] == 0
    loaded = [server.run([program, "-S"]).stdout for program in ("iptables", "ip6tables")]
    server.run(["sh", "-ec", CUT_OFF.format("ufw-user-input", "ufw6-user-input")])
    document = server.run(["vllm-https-setup", "repair", "--json"], check=False)
    assert document.code == 0, document
    assert [server.run([program, "-S"]).stdout for program in ("iptables", "ip6tables")] == loaded
    assert server.ssh("echo in").stdout == "in\n"


@pytest.mark.parametrize("moment", [b"status half-installed ufw", b"status half-configured ufw"])
def test_run_killed_while_it_installs_ufw_is_completed(attend: Attend, moment: bytes) -> None:
    operator = attend(ServerSpec(ufw_installed=False))
    killed = kill_at(operator, began("apt-get install", "ufw"), moment)
    assert_reachable(operator)
    assert_completes(operator, killed)


def test_run_killed_again_and_again_is_completed_at_last(operator: Operator) -> None:
    before = Before.of(operator, PATHS)
    killed = ""
    for words in ("ufw --force enable", "systemctl restart vllm", "apt-get install", f"write {CADDYFILE}"):
        killed = kill_at(operator, began(words))
        print(f"killed in: {in_words(done(operator.events()))[-1]}")
        assert_left_working(operator, before)
    assert_completes(operator, killed)


# ── runs on a server that is set up: quick ──


def test_without_its_kill_a_test_of_kills_fails(secured: Operator) -> None:
    """All of the above would pass where nothing is ever killed, if it were not counted."""
    secured.server.run(["ufw", "disable"])
    with pytest.raises(AssertionError, match="nothing was killed"):
        kill_at(secured, began("ufw --force enable"), kill=spare)
    assert secured.ask("status")["exit_code"] == 0


def test_killed_repair_is_completed_by_the_next_with_its_own_answers(secured: Operator) -> None:
    secured.server.run(["sh", "-c", EXPOSED])
    killed = kill_at(secured, began("systemctl restart vllm"), command="repair")
    assert_reachable(secured)
    document = secured.ask("repair")
    assert_completed(secured, document, killed)


def test_killed_rollback_is_completed_by_the_next_one_and_vllm_is_told(secured: Operator) -> None:
    """The script is put back, and vLLM does not know of it yet."""
    secured.server.run(["sh", "-c", EXPOSED])
    target = secured.apply()["run"]
    killed = kill_at(secured, began("systemctl restart vllm"), command="rollback --yes --expose")
    assert_reachable(secured)
    assert "127.0.0.1:8000" in secured.server.run(["ss", "-Hltn"]).stdout, "not restarted yet"
    assert "cut off: the next rollback completes it" in secured.say("runs").stdout
    document = secured.ask("rollback --yes --expose")
    assert (document["exit_code"], document["continued"], document["warnings"]) == (0, killed, [])
    assert "0.0.0.0:8000" in secured.server.run(["ss", "-Hltn"]).stdout
    assert any(event["event"] == "rolled_back" for event in secured.events(target))
    again = secured.apply()
    assert (again["exit_code"], troubles(again)) == (0, [])


# ── the power goes ──

# mode -> in which action, and how long after its beginning
POWER_LOSSES = {
    "internal": ("apt-get install", 1.0),
    "acme": ("a certificate for", 0.0),
    "custom": (f"write {KEY}", 0.0),
}


@pytest.mark.parametrize("mode", POWER_LOSSES)
def test_power_loss_in_the_middle_of_a_run_is_completed(site: Site, mode: str) -> None:
    words, seconds = POWER_LOSSES[mode]
    operator = site.operator
    if mode != "internal":
        site.answer_mode(mode)
    before = Before.of(operator, PATHS)
    killed = kill_at(operator, began(words), seconds, kill=lose_power)
    assert_left_working(operator, before)
    assert_completes(operator, killed)
