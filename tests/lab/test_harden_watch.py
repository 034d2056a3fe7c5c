"""The watch on a booted server: a line a change, and none where nothing has changed; told to a program and to a web
address; metrics for a scraper alone. Off again, and taken back by uninstall."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Acme, Lab, Server, ServerSpec, cache
from tests.lab.killing import kill_at
from tests.lab.operator import Document, Operator, began, findings, rows, troubles
from tests.lab.site import CHAIN, DOMAIN, KEY, Site
from tests.lab.space import OUTSIDE, OUTSIDE6, Deadline
from tests.lab.spec import CANARY, File
from tests.lab.test_uninstall import left, rules_of

pytestmark = pytest.mark.lab

FURTHER = "10.91.0.10"  # another machine's address
SERVICE, TIMER = "vllm-https-setup-watch.service", "vllm-https-setup-watch.timer"
UNITS = "/etc/systemd/system"
COMMAND, NOTICES = "/usr/local/bin/notify", "/root/notices"
NOTIFY = f"#!/bin/sh\ntest ! -e /root/refuse || exit 3\ncat >>{NOTICES}\n"
HOOK, HOOK_PORT, TOKEN = "hook.example.test", 8443, "T0KEN-of-the-webhook/xyz"
PROMETHEUS = "/var/lib/prometheus/node-exporter/vllm-https.prom"
# The second look comes at once: the test need not wait for a model to come to itself.
PAUSE = "[Service]\nExecStart=\nExecStart=/usr/local/bin/vllm-https-setup watch --journal --pause 1\n"
DROP_IN = File(PAUSE.encode())
HARDEN = {
    "watch": True,
    "watch_minutes": 1440,
    "notify_command": COMMAND,
    "notify_url": f"https://{HOOK}:{HOOK_PORT}/{TOKEN}",
    "prometheus_file": PROMETHEUS,
    "metrics_from": [OUTSIDE],
}
FILES = {
    COMMAND: File(NOTIFY.encode(), 0o755),
    f"{UNITS}/{SERVICE}.d/test.conf": DROP_IN,
    "/var/lib/prometheus/node-exporter/other.prom": File(b"other 1\n"),
}


@pytest.fixture
def site(lab: Lab, acme: Acme, attend: Callable[[ServerSpec], Operator]) -> Iterator[Site]:
    found = Site(lab, acme, attend(ServerSpec(files=FILES)))
    found.name()
    found.trust(lab.certificates.root)
    lab.gate.names.know(HOOK, f"A {OUTSIDE}")
    lab.outside.run(["ip", "addr", "add", f"{FURTHER}/16", "dev", "eth0"], check=False)
    yield found


@contextmanager
def webhook(site: Site) -> Iterator[Path]:
    """The web address answers, at the machine outside; the file with what it was told."""
    place = site.lab.outside.key.parent
    leaf = site.lab.certificates.issue(HOOK)
    chain, key, told = (place / name for name in ("hook.pem", "hook.key", "hook.told"))
    chain.write_bytes(leaf.chain)
    key.write_bytes(leaf.key)
    told.write_bytes(b"")
    words = [str(chain), str(key), OUTSIDE, str(HOOK_PORT), str(told)]
    process: subprocess.Popen[bytes] = site.server.outside_popen(
        [sys.executable, "-I", str(cache.HERE / "webhook.py"), *words]
    )
    until = Deadline("the webhook", 20)
    while site.lab.outside.tcp(OUTSIDE, HOOK_PORT) != "open":
        until.tick()
    try:
        yield told
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def answer(operator: Operator, **harden: Any) -> None:
    tls = {"mode": "custom", "domain": DOMAIN, "certificate": CHAIN, "private_key": KEY}
    operator.answer(tls=tls, harden=harden)


class Journal:
    """What the watch's unit has said, since it was asked last."""

    def __init__(self, server: Server) -> None:
        self._server, self._seen = server, 0

    def look(self) -> list[str]:
        """Has the watch look, as its timer does; what that says."""
        # So often within ten seconds no timer calls it.
        self._server.run(["systemctl", "reset-failed", SERVICE])
        self._server.run(["systemctl", "start", SERVICE])
        self._server.run(["journalctl", "--sync"])
        lines = self._server.run(["journalctl", "-q", "--no-pager", "-o", "cat", "-u", SERVICE]).stdout.splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        return new


def names(lines: list[str], *words: str) -> list[str]:
    """Of what each line tells: its first word; all lines have one of these words."""
    assert all(any(word in line for word in words) for line in lines), lines
    return sorted(line.split()[0] for line in lines)


def notices(text: bytes) -> list[Document]:
    return [json.loads(line[line.index("{") :]) for line in text.decode().splitlines()]


def gauge(server: Server, sample: str) -> str:
    lines = server.get(PROMETHEUS).decode().splitlines()
    return next(line.rpartition(" ")[2] for line in lines if line.startswith(f"vllm_https_setup_{sample} "))


def test_what_changes_is_told_once_and_metrics_are_for_the_scraper_alone(site: Site) -> None:
    server, operator, journal = site.server, site.operator, Journal(site.server)
    ending = site.lab.certificates.issue(DOMAIN, ends=20)
    site.answer_custom(ending.chain, ending.key)
    before, rules = server.snapshot(), rules_of(server)
    answer(operator, **HARDEN)
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}
    timer = server.run(["systemctl", "show", TIMER, "-p", "ActiveState,UnitFileState,NextElapseUSecMonotonic"]).stdout
    assert "ActiveState=active" in timer and "UnitFileState=enabled" in timer and "Monotonic=infinity" not in timer

    # The first look tells of what is wrong already, by every way; the second has nothing to add.
    (line, refused) = journal.look()
    assert line.startswith("the certificate ends in 19 days, on ")
    assert refused.startswith(f"notify_url: {HOOK}: connection refused; it is tried again")
    assert [one["event"] for one in notices(server.get(NOTICES))] == ["certificate_ends"]
    assert journal.look() == []
    assert (gauge(server, "up"), gauge(server, 'test_ok{id="api.chat"}')) == ("1", "1")
    assert int(gauge(server, "certificate_not_after_timestamp_seconds")) == int(
        ending.certificate.not_valid_after_utc.timestamp()
    )
    modes = server.run(["stat", "-c", "%a %U", PROMETHEUS, "/var/lib/vllm-https-setup/watch.json"]).stdout.split("\n")
    assert modes[:2] == ["644 root", "600 root"]

    # Two things break: each row and each finding is a line, of this look alone.
    server.run(["systemctl", "stop", "vllm.service"])
    caddyfile = server.get("/etc/caddy/Caddyfile")
    server.put("/etc/caddy/Caddyfile", caddyfile.replace(b"nosniff", b"sniff"))
    status = operator.ask("status")
    wrong = sorted([*(name for name, ok in rows(status).items() if ok is False), *findings(status, "drift")])
    assert {"api.models", "tls.caddyfile"} <= set(wrong)
    with webhook(site) as told:
        lines = journal.look()
        assert lines.pop() == "notify_url: takes notices again"
        assert names(lines, "failed", "has drifted") == wrong
        assert journal.look() == []
        posted = told.read_bytes()
    assert posted.startswith(f"/{TOKEN} ".encode())
    assert [one["text"] for one in notices(posted)] == [line, *lines]
    assert notices(posted) == notices(server.get(NOTICES))
    last = notices(posted)[-1]
    assert (last["server"], last["endpoint"], last["bad"]) == (server.name, f"https://{DOMAIN}/v1", True)
    shown = [gauge(server, f'test_ok{{id="api.{row}"}}') for row in ("models", "chat")]
    assert (gauge(server, "up"), shown) == ("0", ["0", "NaN"]), "without an answer to the one, the other can't be tried"
    warnings = server.run(["journalctl", "-q", "-o", "cat", "-p", "warning", "-u", SERVICE]).stdout.splitlines()
    assert "notify_url: takes notices again" not in warnings and set(lines) <= set(warnings)

    # A program that refuses is tried again; what works again is told. (The timer does not run while a run does.)
    server.put("/root/refuse", b"")
    renewed = site.lab.certificates.issue(DOMAIN)
    server.put(KEY, renewed.key, 0o600)
    server.put(CHAIN, renewed.chain)
    document = operator.ask("repair")
    assert document["exit_code"] == 0, troubles(document)
    operator.wait_until_idle()
    with webhook(site):
        lines = journal.look()
        assert lines.pop().startswith(f"notify_command: {COMMAND} ended with exit code 3; it is tried again")
        renewal = [line for line in lines if line.startswith("the certificate was renewed: until ")]
        assert len(renewal) == 1
        assert names([line for line in lines if line not in renewal], "works again", "is in order again") == wrong
        server.run(["rm", "/root/refuse"])
        assert journal.look() == ["notify_command: takes notices again"]
        assert [one["text"] for one in notices(server.get(NOTICES))[-len(lines) :]] == lines
        # Whoever could change the program could do anything as root: it is not run.
        server.run(["chmod", "o+w", COMMAND])
        server.run(["systemctl", "stop", "caddy.service"])
        assert any(line.startswith(f"notify_command: {COMMAND} is writable by others") for line in journal.look())
        assert "harden.notify_command" in findings(operator.ask("status"), "blocked")
        server.run(["chmod", "o-w", COMMAND])
        server.run(["systemctl", "start", "caddy.service"])
        journal.look()

    # The address of the webhook lets in whoever knows it: it is in the answers alone, which are root's.
    places = ("/var/log", "/etc/systemd", "/etc/caddy", PROMETHEUS)
    assert server.run(["grep", "-rl", TOKEN, *places], check=False).stdout == ""
    found = server.run(["sh", "-c", f"grep -rl {TOKEN} /var/lib/vllm-https-setup | xargs stat -c %a"]).stdout.split()
    assert set(found) == {"600"} and TOKEN not in json.dumps(status)
    assert server.run(["journalctl", "-q", "-g", TOKEN], check=False).stdout == ""

    # As cron calls it: no terminal, hardly an environment.
    cron = ["env", "-i", "PATH=/usr/bin:/bin", "HOME=/root", "/usr/local/bin/vllm-https-setup", "status", "--json"]
    assert json.loads(server.run(cron).stdout)["exit_code"] == 0

    assert_metrics(site)
    assert operator.apply()["changed"] is False
    assert operator.runs() and not [
        run for run in server.run(["vllm-https-setup", "runs"]).stdout.split() if run == "watch"
    ]

    # Off: nothing of it is left; and on again, for uninstall to take it back.
    answer(operator)
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert_gone(server)
    assert operator.apply()["changed"] is False
    answer(operator, **HARDEN)
    assert operator.apply()["exit_code"] == 0
    server.run(["systemctl", "start", SERVICE])
    document = operator.ask("uninstall --yes --expose --purge")
    assert (document["exit_code"], document["warnings"]) == (0, []), troubles(document)
    assert_gone(server)
    ours = (COMMAND, NOTICES, CHAIN, KEY)
    assert [line for line in left(before, server) if not any(path in line for path in ours)] == []
    assert rules_of(server) == rules


def test_renewal_that_the_ca_refuses_is_told_with_its_reason(
    lab: Lab, acme: Acme, attend: Callable[[ServerSpec], Operator]
) -> None:
    """Caddy has a certificate that nears its end, and is refused another."""
    site = Site(lab, acme, attend(ServerSpec(guide_packages=True, files={f"{UNITS}/{SERVICE}.d/test.conf": DROP_IN})))
    server, operator, journal = site.server, site.operator, Journal(site.server)
    site.name()
    site.answer_acme()
    tls = json.loads(server.get("/home/operator/answers.yaml"))["tls"]
    operator.answer(tls=tls, harden={"watch": True})
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert journal.look() == []
    acme.reject("rateLimited")
    old = lab.certificates.issue(DOMAIN, begins=-80, ends=10)
    (path,) = server.run(["find", "/var/lib/caddy", "-name", f"{DOMAIN}.crt"]).stdout.split()
    server.run(["systemctl", "stop", "caddy.service"])
    server.put(path, old.chain, 0o600, "caddy:caddy")
    server.put(path.removesuffix("crt") + "key", old.key, 0o600, "caddy:caddy")
    server.run(["systemctl", "start", "caddy.service"])
    until = Deadline("Caddy's attempt to renew", 30)
    while "could not get certificate" not in server.run(["journalctl", "-q", "-o", "cat", "-u", "caddy"]).stdout:
        until.tick(0.3)
    (line,) = (line for line in journal.look() if line.startswith("the certificate"))
    assert line.startswith("the certificate ends in 9 days, on ") and "Caddy should have renewed it: the CA's" in line
    assert journal.look() == []


THEIRS = File(b"http://blog.lan:8081 {\n\trespond blog\n}\n")
CUTS = ("daemon-reload", f"enable {TIMER}", f"restart {TIMER}")


def test_runs_that_are_cut_off_are_completed_and_the_timer_is_there_after_a_reboot(
    lab: Lab, attend: Callable[[ServerSpec], Operator]
) -> None:
    """The Caddyfile is another's, the firewall too, and the scraper comes by IPv6."""
    files = {"/etc/caddy/Caddyfile": THEIRS, f"{UNITS}/{SERVICE}.d/test.conf": DROP_IN}
    operator = attend(ServerSpec(guide_packages=True, files=files, ufw_enabled=True, ufw_rules=("allow 22/tcp",)))
    server = operator.server
    wanted: dict[str, Any] = {"watch": True, "metrics_from": [OUTSIDE6], "prometheus_file": PROMETHEUS}

    def answer(**harden: Any) -> None:
        operator.answer(
            tls={"hosts": ["llm.lab.internal"]},
            caddy={"existing_config": "keep"},
            firewall={"manage": False},
            harden=harden,
        )

    answer(**wanted)
    planned = operator.plan()
    assert (planned["exit_code"], list(findings(planned, "blocked"))) == (3, ["harden.prometheus_file"])
    server.run(["install", "-d", "-m", "0755", "/var/lib/prometheus/node-exporter"])
    server.put("/var/lib/prometheus/node-exporter/other.prom", b"other 1\n")
    for words in CUTS:
        kill_at(operator, began(words))
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert {"harden.metrics_option"} <= set(findings(document, "warn"))
    url = f"http://[{server.address6}]:9180"
    server.run(["ufw", "allow", "9180/tcp"])
    counted = lab.outside.run(["curl", "-sgf", "-m", "5", f"{url}/caddy"]).stdout
    assert "caddy_" in counted, "what is no global option is there"
    by_ipv4 = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{server.address}:9180/vllm"]
    assert lab.outside.run(by_ipv4).stdout == "403"
    server.run(["ufw", "delete", "allow", "9180/tcp"])

    server.reboot()
    shown = server.run(["systemctl", "show", TIMER, "-p", "ActiveState,NextElapseUSecMonotonic"]).stdout
    assert "ActiveState=active" in shown and "infinity" not in shown
    # A look that is killed has told nothing, or what it has told is told again: nothing is lost.
    journal = Journal(server)
    assert journal.look() == []
    server.run(["systemctl", "stop", "vllm.service"])
    server.run(["systemctl", "start", "--no-block", SERVICE])
    server.run(["systemctl", "kill", "-s", "KILL", SERVICE])
    assert [line for line in journal.look() if line.startswith("api.models failed")]
    server.run(["systemctl", "start", "vllm.service"])
    until = Deadline("the line of vLLM's return", 30)
    while not [line for line in journal.look() if line.startswith("api.models works again")]:
        until.tick(0.2)
    # Edited by hand: put back.
    server.put(f"{UNITS}/{TIMER}", b"[Timer]\nOnCalendar=daily\n")
    assert "harden.watch" in findings(operator.ask("status"), "drift")
    assert operator.ask("repair")["exit_code"] == 0
    assert b"OnUnitInactiveSec" in server.get(f"{UNITS}/{TIMER}")

    answer()
    for words in (f"disable --now {TIMER}", f"stop {SERVICE}", "rm -f -- /var/lib/vllm-https-setup/watch.json"):
        kill_at(operator, began(words))
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert_gone(server)
    assert b"9180" not in server.get("/etc/caddy/vllm-https.caddy")
    assert operator.ask("uninstall --yes --expose")["exit_code"] == 0
    assert server.get("/etc/caddy/Caddyfile").split() == THEIRS.content.split()


def assert_gone(server: Server) -> None:
    """Neither units, nor what they have written, nor the port of the metrics."""
    for path in (f"{UNITS}/{TIMER}", f"{UNITS}/{SERVICE}", f"{UNITS}/timers.target.wants/{TIMER}", PROMETHEUS):
        assert server.run(["test", "-e", path], check=False).code == 1, path
    assert server.run(["test", "-e", "/var/lib/vllm-https-setup/watch.json"], check=False).code == 1
    assert server.run(["systemctl", "is-active", TIMER], check=False).stdout.strip() in ("inactive", "unknown")
    assert "9180" not in server.run(["ufw", "show", "added"]).stdout
    assert 9180 not in server.listening()
    assert server.get("/var/lib/prometheus/node-exporter/other.prom") == b"other 1\n"


def assert_metrics(site: Site) -> None:
    """From the scraper's address, and from no other; the public site knows nothing of them."""
    address = site.server.address
    url = f"http://{address}:9180"
    site.curl(f"https://{DOMAIN}/v1/models", "-k", "-H", f"Authorization: Bearer {CANARY}")
    caddy, vllm = (
        site.lab.outside.run(["curl", "-sf", "-m", "5", f"{url}/{path}"]).stdout for path in ("caddy", "vllm")
    )
    assert "caddy_http_requests_total" in caddy and "caddy_http_request_duration_seconds" in caddy
    assert "vllm" in vllm
    assert site.curl(f"{url}/metrics") == "404"
    assert site.curl(f"http://[{site.server.address6}]:9180/caddy", "-g", "-m", "1", address="") == "000"
    for path in ("/caddy", "/vllm", "/metrics"):
        assert site.curl(f"https://{DOMAIN}{path}", "-k") == "404"
    # Another machine: the firewall lets it nowhere near; and where somebody has opened the port, Caddy does not.
    other = ["curl", "-s", "-m", "1", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/caddy"]
    assert site.lab.outside.run([*other, "--interface", FURTHER], check=False).stdout == "000"
    site.server.run(["ufw", "allow", "9180/tcp"])
    assert site.lab.outside.run([*other, "--interface", FURTHER], check=False).stdout == "403"
    site.server.run(["ufw", "delete", "allow", "9180/tcp"])
