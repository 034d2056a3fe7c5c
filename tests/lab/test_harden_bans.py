"""Bans and limits by address, as other machines meet them: the web ports alone, never SSH, never the operator."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab import Lab, Server, ServerSpec
from tests.lab.cache import HERE
from tests.lab.operator import Operator, began, changes_of, findings, in_words, rows, troubles
from tests.lab.space import Deadline
from tests.lab.spec import CANARY, File

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
# More addresses of the machine outside: who tries keys, who floods, and somebody else. The operator's are others.
THIEF, FLOOD, OTHER = "10.91.0.66", "10.91.0.67", "10.91.0.68"
THIEF6, OTHER6, NEIGHBOUR6 = "fd92::66", "fd93::68", "fd92::67"
AT_ONCE = 20
BANS: dict[str, Any] = {"ban_wrong_keys": True, "ban_seconds": 3600}
BOTH = {**BANS, "connections_per_address": AT_ONCE, "new_connections_per_minute": 6000}
JAIL, RULES = "/etc/fail2ban/jail.d/vllm-https.conf", "/etc/vllm-https-setup/connections.nft"


@pytest.fixture
def addresses(lab: Lab) -> Iterator[None]:
    """The addresses of the others, and the hosts' way back to those that are not in their network."""
    mine = [f"{one}/16" for one in (THIEF, FLOOD, OTHER)] + [f"{one}/64" for one in (THIEF6, OTHER6, NEIGHBOUR6)]
    for one in mine:
        lab.outside.run(["ip", "address", "add", one, "dev", "eth0", *(["nodad"] if ":" in one else [])])
    yield
    for one in mine:
        lab.outside.run(["ip", "address", "del", one, "dev", "eth0"])


def way_back(operator: Operator) -> None:
    """The host finds the other networks of IPv6 behind the machine outside."""
    for network in ("fd92::/64", "fd93::/64"):
        operator.server.run(["ip", "-6", "route", "replace", network, "via", "fd91::9"])


def url(server: Server, source: str, path: str = "/v1/models") -> str:
    return f"https://[{server.address6}]{path}" if ":" in source else f"https://{server.address}{path}"


def ask(operator: Operator, source: str, *words: str, path: str = "/v1/models") -> str:
    """What another machine gets from this address: the last status, "000" where the port is shut to it."""
    curl = ["curl", "-sk", "-g", "-o", "/dev/null", "-m", "5", "--interface", source, "-w", "%{http_code}\\n"]
    said = operator.lab.outside.run([*curl, *words, url(operator.server, source, path)], check=False).stdout.split()
    return said[-1] if said else ""


def try_keys(operator: Operator, source: str, count: int = 20) -> None:
    """So many requests, each with a wrong key."""
    curl = ["curl", "-sk", "-o", "/dev/null", "-m", "20", "--interface", source]
    lied = 'x","status":200,"headers":{"Authorization":"REDACTED"}'
    words = [
        "-A",
        lied,
        "-H",
        "Authorization: Bearer sk-guess",
        url(operator.server, source, f"/v1/models?n=[1-{count}]"),
    ]
    if ":" in source:
        words[-1] = url(operator.server, source)
        for _ in range(count):
            operator.lab.outside.run([*curl, "-g", *words], check=False)
        return
    operator.lab.outside.run([*curl, *words], check=False)


def ssh(operator: Operator, source: str) -> str:
    """A login from this address."""
    words = [*operator.lab.outside.ssh_words, "-b", source, f"operator@{operator.server.address}", "echo in"]
    return operator.lab.outside.run(words, check=False).stdout.strip()


def wait_until_shut(operator: Operator, source: str) -> None:
    until = Deadline(f"the ban of {source}", 30)
    while ask(operator, source) != "000":
        until.tick(0.2)


def banned(operator: Operator) -> list[str]:
    document = operator.ask("status")
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}, "the final test passes while somebody is banned"
    found = [one for step in document["steps"] for one in step["findings"] if one["key"] == "harden.banned"]
    return sorted(found[0]["evidence"]["addresses"]) if found else []


def tables(server: Server) -> str:
    return server.run(["nft", "list", "tables"]).stdout


@contextmanager
def flood(operator: Operator, source: str, count: int) -> Iterator[dict[str, int]]:
    """This address holds so many connections, as far as it gets them: how many are open, and how many refused."""
    address = operator.server.address6 if ":" in source else operator.server.address
    argv = [sys.executable, "-I", "-S", str(HERE / "files/flood.py"), source, address, "443", str(count)]
    pipe = subprocess.PIPE
    with subprocess.Popen(operator.lab.outside.enter(argv), stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(20)


def assert_nothing_left(server: Server) -> None:
    """No file, unit, table of the kernel or package of this is there."""
    places = "/etc/fail2ban /etc/systemd/system /etc/systemd/system/multi-user.target.wants /var/log /var/lib"
    found = server.run(["sh", "-c", f"ls -d {places} 2>/dev/null; ls {places} 2>/dev/null"], check=False).stdout
    assert "fail2ban" not in found and "connections" not in found
    assert "f2b" not in tables(server) and "vllm-https" not in tables(server)
    assert server.run(["dpkg-query", "-W", "fail2ban"], check=False).code == 1


@pytest.mark.usefixtures("addresses")
def test_wrong_keys_ban_an_address_from_the_web_ports_alone(attend: Attend) -> None:
    """The run is killed while it installs fail2ban; what that then starts has no jail for SSH."""
    operator = attend(ServerSpec())
    server = operator.server
    way_back(operator)
    operator.answer(harden={**BANS, "ban_after": 20})
    with operator.start() as typed:
        operator.wait_for(began("apt-get install", "fail2ban"))
        operator.kill_run()
        typed.end()
    operator.wait_until_idle()
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False), changes_of(again)
    assert "Jail list:\tvllm-https\n" in server.run(["fail2ban-client", "status"]).stdout, "and none for SSH"

    for source in (THIEF, THIEF6):
        assert ask(operator, source) == "401"
        try_keys(operator, source)
        wait_until_shut(operator, source)
    assert ask(operator, THIEF, path="/metrics") == "000"
    assert ssh(operator, THIEF) == "in", "SSH is never shut"
    key = ("-H", f"Authorization: Bearer {CANARY}")
    assert (ask(operator, OTHER, *key), ask(operator, OTHER6, *key)) == ("200", "200")

    # No key is no attempt, a page that is not there no wrong key; and the operator may mistype.
    curl = ["curl", "-sk", "-o", "/dev/null", "--interface", OTHER]
    operator.lab.outside.run([*curl, f"https://{server.address}/v1/models?n=[1-60]"])
    wrong = ("-H", "Authorization: Bearer sk-guess")
    operator.lab.outside.run([*curl, *wrong, f"https://{server.address}/no/such/page?n=[1-60]"])
    try_keys(operator, "10.91.0.9", 60)
    try_keys(operator, THIEF, 1)
    assert banned(operator) == sorted([THIEF, THIEF6])
    assert (ask(operator, OTHER, *key), ask(operator, "10.91.0.9", *key)) == ("200", "200")

    server.run(["ufw", "reload"])
    assert (ask(operator, THIEF), ask(operator, OTHER)) == ("000", "401"), "a reload of ufw lets nobody in"
    operator.answer(harden={**BANS, "ban_after": 30, "never_ban": [THIEF6]})
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert in_words(changes_of(document))[:2] == [f"write {JAIL}", "run systemctl reload-or-restart fail2ban.service"]
    assert ask(operator, THIEF) == "000", "who is banned stays so"
    server.reboot()
    assert (ask(operator, THIEF), ask(operator, OTHER)) == ("000", "401"), "and after a reboot"

    operator.answer()
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert_nothing_left(server)
    assert ask(operator, THIEF) == "401"
    assert "harden" not in [step["id"] for step in operator.ask("status")["steps"]]


@pytest.mark.usefixtures("addresses")
def test_flood_of_one_address_is_refused_and_others_are_served(attend: Attend) -> None:
    operator = attend(ServerSpec())
    server = operator.server
    way_back(operator)
    operator.answer(harden=BOTH)
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert operator.apply()["changed"] is False
    key = ("-H", f"Authorization: Bearer {CANARY}")
    with flood(operator, FLOOD, 2000) as said:
        assert (said.get("open"), said.get("refused")) == (AT_ONCE, 2000 - AT_ONCE)
        assert [ask(operator, OTHER, *key) for _ in range(5)] == ["200"] * 5
        assert (ask(operator, FLOOD), ssh(operator, FLOOD)) == ("000", "in")
        with flood(operator, "10.91.0.9", 100) as operators:
            assert operators == {"open": 100}, "the operator is not limited"
        document = operator.ask("status")
        assert (document["exit_code"], set(rows(document).values())) == (0, {True})
    # One line of a provider has a /64: its addresses are one client.
    with flood(operator, THIEF6, 100) as said:
        assert said.get("open") == AT_ONCE
        assert (ask(operator, NEIGHBOUR6), ask(operator, OTHER6)) == ("000", "401")

    server.run(["sh", "-c", f"nft flush ruleset; ufw reload; echo nonsense >>{RULES}"])
    server.run(["sh", "-c", f"systemctl disable --now fail2ban; echo '[sshd]' >{JAIL}"])
    status = operator.ask("status")
    assert {"harden.connections", "harden.bans", "harden.fail2ban"} <= findings(status, "drift").keys()
    assert operator.ask("repair")["exit_code"] == 0
    with flood(operator, FLOOD, 100) as said:
        assert said.get("open") == AT_ONCE
    assert "Jail list:\tvllm-https\n" in server.run(["fail2ban-client", "status"]).stdout, "and none for SSH"
    assert_a_restart_of_vllm_is_ridden_out(operator)
    server.reboot()
    way_back(operator)
    with flood(operator, FLOOD, 100) as said:
        assert said.get("open") == AT_ONCE, "and after a reboot"

    # So many a minute, all at once the first time.
    operator.answer(harden={"new_connections_per_minute": 30})
    assert operator.apply()["exit_code"] == 0
    with flood(operator, OTHER, 100) as said:
        assert 30 <= said["open"] <= 33, said
    assert_nothing_left_of_bans(server)
    document = operator.ask("uninstall --yes --expose")
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert_nothing_left(server)


def assert_a_restart_of_vllm_is_ridden_out(operator: Operator) -> None:
    """Meanwhile clients are told at once, as OpenAI's do it, and when to try again."""
    server = operator.server
    key = f"Authorization: Bearer {CANARY}"
    argv = ["curl", "-sk", "-i", "-m", "3", "-H", key, f"https://{server.address}/v1/models"]

    def get() -> str:
        return operator.lab.outside.run(argv, check=False).stdout.replace("\r", "")

    server.run(["systemctl", "stop", "vllm"])
    head, _, body = get().partition("\n\n")
    assert head.split()[1] == "502" and "retry-after: 5" in head.lower()
    assert json.loads(body)["error"]["type"] == "proxy_error"
    server.run(["systemctl", "start", "vllm"])
    until = Deadline("vLLM's next answer", 20)
    while " 200" not in get().split("\n")[0]:
        until.tick(0.1)


def assert_nothing_left_of_bans(server: Server) -> None:
    assert server.run(["dpkg-query", "-W", "fail2ban"], check=False).code == 1
    assert "f2b" not in tables(server)


OWN_JAIL = b"[own]\nenabled = true\nfilter = sshd\nlogpath = /var/log/auth.log\nbackend = polling\n"


@pytest.mark.usefixtures("addresses")
@pytest.mark.parametrize("ending", ["turned off", "uninstalled"])
def test_fail2ban_that_was_there_keeps_its_own_jails_and_stays(ending: str, attend: Attend) -> None:
    log, jail = File(b"", 0o640), File(OWN_JAIL)
    files = {"/var/log/auth.log": log, "/etc/fail2ban/jail.d/own.conf": jail}
    operator = attend(ServerSpec(packages=("fail2ban",), files=files))
    server = operator.server

    def jails() -> set[str]:
        listed = server.run(["fail2ban-client", "status"]).stdout.partition("Jail list:")[2]
        return set(listed.replace(",", " ").split())

    assert jails() == {"own", "sshd"}
    operator.answer(harden={**BANS, "ban_after": 3})
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert jails() == {"own", "sshd", "vllm-https"}
    assert operator.apply()["changed"] is False
    try_keys(operator, THIEF, 3)
    wait_until_shut(operator, THIEF)
    if ending == "turned off":
        operator.answer()
        assert operator.apply()["exit_code"] == 0
        assert ask(operator, THIEF) == "401"
    else:
        document = operator.ask("uninstall --yes --expose")
        assert (document["exit_code"], troubles(document)) == (0, [])
    assert jails() == {"own", "sshd"}
    assert server.run(["sh", "-c", "ls /etc/fail2ban/*/vllm-https.conf"], check=False).stdout == ""
    assert "f2b" not in tables(server)
