"""`harden.sandbox` and `harden.admin_socket` on booted servers: the services do all that they did, and can do no more;
what does not come up confined is put back; turned off, or undone, all is as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.lab import Acme, Server, ServerSpec
from tests.lab.killing import kill_at
from tests.lab.machine import Result
from tests.lab.operator import ANSWERS, Operator, began, changes_of, findings, in_words, troubles
from tests.lab.site import CHAIN, DOMAIN, KEY, Site, proof
from tests.lab.test_export import export, run_script

pytestmark = pytest.mark.lab

Section = Mapping[str, Any]
Attend = Callable[[ServerSpec], Operator]
CADDY, VLLM = "caddy.service", "vllm.service"
DROP_IN = "/etc/systemd/system/{}.d/vllm-https.conf"
ADMIN_DROP_IN = "/etc/systemd/system/caddy.service.d/vllm-https-admin.conf"
SCRIPT = "/opt/vllm/start-vllm.sh"
SOCKET = "/run/caddy/admin.sock"
ON = {"sandbox": ["caddy", "vllm"], "admin_socket": True}
ASK_ADMIN = ["curl", "-sS", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}"]


def exposure(server: Server, unit: str) -> float:
    said = server.run(["systemd-analyze", "security", "--no-pager", unit]).stdout
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


def inside(server: Server, unit: str, *argv: str) -> Result:
    """A command of root's with the mounts of the service's process, and no more of what confines that."""
    pid = server.run(["systemctl", "show", "-p", "MainPID", "--value", unit]).stdout.strip()
    return server.run(["nsenter", "-t", pid, "-m", "--", *argv], check=False)


def status_of(server: Server, unit: str) -> dict[str, str]:
    pid = server.run(["systemctl", "show", "-p", "MainPID", "--value", unit]).stdout.strip()
    lines = server.run(["cat", f"/proc/{pid}/status"]).stdout.splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def admin_as(server: Server, user: str) -> tuple[str, str]:
    """What a user gets from Caddy's admin endpoint, by its port and by its socket."""
    by_port = server.run(["runuser", "-u", user, "--", *ASK_ADMIN, "http://localhost:2019/config/"], check=False)
    by_socket = ["--unix-socket", SOCKET, "http://localhost/config/"]
    return by_port.stdout, server.run(["runuser", "-u", user, "--", *ASK_ADMIN, *by_socket], check=False).stdout


def test_confined_services_serve_as_before_and_can_do_no_more(acme: Acme, attend: Attend) -> None:
    operator = attend(ServerSpec(guide_packages=True))
    server = operator.server
    site = Site(operator.lab, acme, operator)
    assert operator.apply()["exit_code"] == 0
    before = {unit: exposure(server, unit) for unit in (CADDY, VLLM)}
    assert admin_as(server, "nobody")[0] == "200", "what is to be closed is open"

    operator.answer(harden=ON)
    planned = operator.plan()
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert in_words(changes_of(planned)) == in_words(changes_of(document))
    assert site.seen_from_outside("internal") == proof("internal")
    now = {unit: exposure(server, unit) for unit in (CADDY, VLLM)}
    assert now[CADDY] < 2 and before[CADDY] > 8, (before, now)
    assert now[VLLM] < 3 and before[VLLM] > 8, (before, now)
    said = [one["summary"] for step in document["steps"] for one in step["findings"]]
    for unit in (CADDY, VLLM):
        assert f"{unit} is confined to what it needs: systemd-analyze security says {now[unit]} of 10 now" in said
    assert any(f"{before[VLLM]} before" in change["why"] for change in changes_of(document))
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)

    # The processes themselves: nothing to be written but their own, nobody's home, no way to more rights.
    for unit in (CADDY, VLLM):
        for path in ("/etc/x", "/usr/x", "/boot/x"):
            assert "Read-only file system" in inside(server, unit, "touch", path).stderr, (unit, path)
        listed = inside(server, unit, "ls", "/home/operator")
        assert listed.code != 0 and "operator" not in listed.stdout
        assert inside(server, unit, "ls", "/var/lib/vllm-https-setup/runs").code != 0
        shown = status_of(server, unit)
        assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("1", "2")
    assert status_of(server, CADDY)["CapBnd"] == "0000000000000400", "low ports alone"
    assert status_of(server, VLLM)["CapBnd"] == "0000000000000000"
    assert "Read-only file system" in inside(server, CADDY, "touch", "/opt/x").stderr
    assert inside(server, VLLM, "ls", "/var/lib/caddy/.local").code != 0
    for path in ("/opt/vllm/x", "/dev/shm/x", "/tmp/x", "/var/tmp/x"):
        assert inside(server, VLLM, "runuser", "-u", "vllm", "--", "touch", path).code == 0, path

    # Orders to Caddy: root and Caddy alone.
    assert 2019 not in server.listening()
    for user in ("nobody", "vllm", "operator"):
        assert admin_as(server, user) == ("000", "000"), user
    assert admin_as(server, "caddy")[1] == "200"
    assert server.run([*ASK_ADMIN, "--unix-socket", SOCKET, "http://localhost/config/"]).stdout == "200"

    # A reload, a crash, a reboot.
    pid = server.run(["systemctl", "show", "-p", "MainPID", "--value", CADDY]).stdout
    server.run(["systemctl", "reload", CADDY])
    assert server.run(["systemctl", "show", "-p", "MainPID", "--value", CADDY]).stdout == pid
    server.run(["systemctl", "kill", "-s", "KILL", CADDY])
    server.run(["sh", "-c", "for n in $(seq 100); do systemctl -q is-active caddy && exit 0; sleep 0.1; done; exit 1"])
    server.reboot()
    assert operator.ask("status")["exit_code"] == 0
    assert admin_as(server, "nobody") == ("000", "000")

    # By hand: the drop-in gone, and one that systemd has not read.
    server.run(["rm", DROP_IN.format(CADDY), ADMIN_DROP_IN])
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert status_of(server, CADDY)["NoNewPrivs"] == "1"
    assert operator.apply()["changed"] is False

    # Off again.
    answer_harden(operator, {})
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert {unit: exposure(server, unit) for unit in (CADDY, VLLM)} == before
    assert admin_as(server, "nobody")[0] == "200"
    left = server.run(["sh", "-c", "ls /etc/systemd/system | grep '[.]service[.]d'; ls -d /run/caddy"], check=False)
    assert left.stdout == ""
    assert status_of(server, VLLM)["NoNewPrivs"] == "0"
    assert operator.apply()["changed"] is False


def test_other_modes_and_http3_go_on_confined(acme: Acme, attend: Attend) -> None:
    """A certificate from a CA; one's own, renewed, by the watch of its files; and the large buffers of HTTP/3."""
    operator = attend(ServerSpec(guide_packages=True))
    server, site = operator.server, Site(operator.lab, acme, operator)
    site.name()
    site.answer_acme()
    answer_harden(operator, ON)
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert site.seen_from_outside("acme") == proof("acme")
    assert status_of(server, CADDY)["CapBnd"] == "0000000000000400"

    site.answer_mode("custom")
    answer_harden(operator, ON, proxy={"http3": True})
    # Killed when systemd has read the other drop-in, and nothing but the process goes by the old one.
    kill_at(operator, began("systemctl restart caddy"))
    assert status_of(server, CADDY)["CapBnd"] == "0000000000000400"
    told = findings(operator.plan(), "drift")["harden.sandbox"]
    assert told == f"{CADDY} runs as it was started before {DROP_IN.format(CADDY)} was changed"
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert status_of(server, CADDY)["CapBnd"] == "0000000000001400", "CAP_NET_ADMIN, for the buffers alone"
    renewed = operator.lab.certificates.issue(DOMAIN)
    server.put(CHAIN, renewed.chain)
    server.put(KEY, renewed.key, 0o600)
    site.wait_until_served(renewed)
    assert "UDP" not in server.run(["journalctl", "-u", CADDY, "-b", "--grep", "buffer size"], check=False).stdout
    assert operator.apply()["changed"] is False


def answer_harden(operator: Operator, harden: Section, **more: Section) -> None:
    """The answers that are there, with another section `harden`."""
    answers = json.loads(operator.server.get(ANSWERS)) | {"harden": harden} | more
    operator.server.put(ANSWERS, json.dumps(answers).encode(), 0o600, "operator:operator")


THEIRS = "{{\n\tdefault_sni {0}\n\tfallback_sni {0}\n}}\nhttp://site.lan:8080 {{\n\trespond theirs\n}}\n"
ASK_THEIRS = ["curl", "-s", "-H", "Host: site.lan", "http://127.0.0.1:8080/"]
UP_AGAIN = "for n in $(seq 100); do ss -Hltn | grep -q :8000 && exit 0; sleep 0.1; done; exit 1"


def test_vllm_that_cannot_work_confined_is_put_back_and_undone_is_as_before(attend: Attend) -> None:
    """Caddy was there before us, with a site of others: it stays, and is administered by its port again."""
    operator = attend(ServerSpec(guide_packages=True))
    server = operator.server
    script = server.get(SCRIPT)
    needs = script.replace(b"exec vllm", b"touch /usr/local/needed || exit 3\nexec vllm")
    server.put(SCRIPT, needs, 0o755, "vllm:vllm")
    server.run(["chown", "vllm:", "/usr/local"])
    # Bound and confined by one restart, it fails; without the one it is bound all the same, and Caddy serves it.
    operator.answer(harden={"sandbox": ["vllm"]})
    document = operator.apply()
    assert document["exit_code"] == 1
    assert "vllm.service does not come up so confined: the drop-in is taken away" in " ".join(troubles(document))
    assert {step["id"]: step["status"] for step in document["steps"]}["bind"] == "changed"
    assert operator.file(DROP_IN.format(VLLM)) is None
    needs, script = server.get(SCRIPT), server.get(SCRIPT).replace(b"touch /usr/local/needed || exit 3\n", b"")
    assert b"--host 127.0.0.1" in needs
    server.run(["sh", "-c", UP_AGAIN])
    assert status_of(server, VLLM)["NoNewPrivs"] == "0"
    assert operator.ask("test")["exit_code"] == 0
    server.put(SCRIPT, needs.replace(b"touch", b"sudo touch"), 0o755, "vllm:vllm")
    assert "its start uses sudo" in findings(operator.plan(), "warn")["harden.sandbox"]
    server.put(SCRIPT, script, 0o755, "vllm:vllm")

    # As if we had never been.
    theirs = THEIRS.format(server.address).encode()
    server.run(["rm", "-rf", "/var/lib/vllm-https-setup", "/etc/vllm-https-setup"])
    server.put("/etc/caddy/Caddyfile", theirs)
    server.run(["systemctl", "reload-or-restart", CADDY])
    operator.answer(harden=ON, caddy={"existing_config": "keep"})
    assert "admin unix//run/caddy/admin.sock" in findings(operator.plan(), "warn")["harden.admin_open"]

    # Killed before a restart, the next run completes it.
    operator.answer(harden=ON, caddy={"existing_config": "replace"})
    with operator.start() as typed:
        operator.wait_for(began("systemctl restart vllm"))
        operator.kill_run()
        assert typed.end().code == 1
    operator.wait_until_idle()
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    for unit in (CADDY, VLLM):
        assert status_of(server, unit)["NoNewPrivs"] == "1"

    # Turned off, and that taken back: from its socket to its port, and from there to its socket.
    operator.answer(caddy={"existing_config": "replace"})
    assert operator.apply()["exit_code"] == 0
    assert admin_as(server, "nobody")[0] == "200"
    document = operator.ask("rollback --yes")
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert admin_as(server, "nobody") == ("000", "000")
    assert status_of(server, VLLM)["NoNewPrivs"] == "1"

    document = operator.ask("uninstall --yes")
    assert document["exit_code"] == 0, troubles(document)
    assert server.get("/etc/caddy/Caddyfile") == theirs
    assert server.run(ASK_THEIRS).stdout == "theirs"
    assert admin_as(server, "nobody")[0] == "200"
    left = server.run(
        ["sh", "-c", "ls /etc/systemd/system | grep -e service.d -e vllm-https; ls -d /run/caddy"], check=False
    )
    assert left.stdout == ""
    for unit in (CADDY, VLLM):
        assert status_of(server, unit)["NoNewPrivs"] == "0"


def begun(server: Server) -> int:
    """How often vLLM has begun to load its model."""
    return server.run(["journalctl", "-q", "-u", VLLM, "-o", "cat"]).stdout.count("vLLM API server version")


def test_vllm_is_bound_and_confined_by_one_restart_wherever_the_run_is_killed(attend: Attend) -> None:
    operator = attend(ServerSpec(guide_packages=True))
    server = operator.server
    operator.answer(harden={"sandbox": ["vllm"]})
    for words in ("daemon-reload", "systemctl restart vllm"):
        kill_at(operator, began(words))
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert (begun(server), status_of(server, VLLM)["NoNewPrivs"]) == (2, "1")
    assert operator.ask("uninstall --yes --keep-bind")["exit_code"] == 0
    assert (begun(server), status_of(server, VLLM)["NoNewPrivs"]) == (3, "0")
    assert "127.0.0.1:8000" in server.run(["ss", "-Hltn"]).stdout


def test_exported_script_binds_and_confines_vllm_by_one_restart_too(attend: Attend) -> None:
    operator = attend(ServerSpec(guide_packages=True))
    server = operator.server
    operator.answer(harden={"sandbox": ["vllm"]})
    export(operator)
    result = run_script(server)
    assert result.code == 0, result
    assert (begun(server), status_of(server, VLLM)["NoNewPrivs"]) == (2, "1")
    assert changes_of(operator.plan()) == []
