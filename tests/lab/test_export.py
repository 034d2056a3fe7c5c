"""`export`: the plan as a script that leaves a server as `apply` does, and is as careful with its firewall."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import CANARY, Acme, Lab, Server, ServerSpec
from tests.lab.machine import Result
from tests.lab.operator import Operator, restarted, troubles
from tests.lab.site import CHAIN, DOMAIN, KEY, Site, proof
from tests.lab.snapshot import Entry, Snapshot
from tests.lab.space import Deadline

pytestmark = pytest.mark.lab

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SCRIPT = "/home/operator/setup.sh"
TIMER = "vllm-https-setup-revert.timer"
CONFIRM = f"sudo systemctl stop {TIMER}"
# What `apply` keeps of itself (the saved answers among it), and the script does not; and the other way round.
RECORDS = ("/etc/vllm-https-setup", "/var/lib/vllm-https-setup", "/var/log/vllm-https-setup")
KEPT = ("/var/backups",)
# What is another's on every server, or at every time: keys, logs, apt's and systemd's records, caches, logins.
OWN = (
    *("/var/lib/caddy", "/var/log", "/var/lib/apt", "/var/lib/dpkg", "/var/cache", "/var/lib/systemd", "/var/tmp"),
    *("/run", "/home", "/root", "/etc/ld.so.cache"),
)


def export(operator: Operator, *, check: bool = True) -> Result:
    """The script is left in the operator's home, as `sudo vllm-https-setup export > setup.sh` would."""
    result = operator.say("export --answers answers.yaml")
    if check:
        assert result.code == 0, result
        operator.server.put(SCRIPT, result.stdout.encode(), 0o644, "operator:operator")
    return result


def run_script(server: Server, confirm: str = "CONFIRM=yes") -> Result:
    return server.ssh(f"sudo {confirm} sh {SCRIPT}", check=False, timeout=180)


def is_own(path: str) -> bool:
    return path.startswith((*RECORDS, *KEPT, *OWN)) or "__pycache__" in path


def ends(server: Server, before: Snapshot, after: Snapshot) -> dict[str, tuple[object, ...]]:
    """What changed, and what it is now; this server's own name and addresses are the same on all."""

    def kind(path: str, entry: Entry) -> tuple[object, ...]:
        content: object = entry.content
        if entry.kind == "file" and entry.size < 100_000:
            content = neutral(server, (server.upper / path.lstrip("/")).read_bytes())
        return (entry.kind, oct(entry.mode), entry.uid, entry.gid, content)

    return {
        path: kind(path, entry) if entry.kind != "directory" else (entry.kind,)
        for path, entry in after.files.items()
        if before.files.get(path) != entry and not is_own(path)
    }


def neutral(server: Server, content: bytes) -> bytes:
    for own, stands in ((server.address, "ADDRESS"), (server.address6, "ADDRESS6"), (server.name, "NAME")):
        content = re.sub(rf"\b{re.escape(own)}\b".encode(), stands.encode(), content)
    return content


def firewall(server: Server) -> tuple[str, str]:
    """The loaded rules and ufw's own account."""
    loaded = server.run(["nft", "-s", "list", "ruleset"]).stdout
    return loaded, server.run(["ufw", "status", "verbose"]).stdout


def assert_nothing_to_do(operator: Operator) -> None:
    document = operator.plan()
    assert document["exit_code"] == 0
    assert [change for step in document["steps"] for change in step["changes"]] == []


def assert_undo_is_gone(server: Server) -> None:
    units = server.run(["systemctl", "list-units", "--all", "--no-legend", "vllm-https-setup-revert.*"]).stdout
    files = server.run(["sh", "-c", "ls /etc/systemd/system /var/lib/vllm-https-setup 2>&1"], check=False).stdout
    assert (units.strip(), "revert" in files, "firewall" in files) == ("", False, False)


def test_start_that_systemd_refuses_for_those_before_it_is_made_again(operator: Operator) -> None:
    export(operator)
    operator.server.run(restarted(5))
    result = run_script(operator.server)
    assert result.code == 0, result
    assert result.stdout.count("vllm.service was started too often just now") >= 1
    assert_nothing_to_do(operator)


def test_script_ends_in_the_same_state_as_apply(attend: Callable[[ServerSpec], Operator]) -> None:
    one, two = attend(ServerSpec(name="gpu-one")), attend(ServerSpec(name="gpu-two"))
    before = [each.server.snapshot() for each in (one, two)]
    assert one.apply()["exit_code"] == 0
    looked = two.server.snapshot()
    assert CANARY not in export(two).stdout
    left = [line for line in looked.differences(two.server.snapshot()) if not line.startswith((*OWN, "/: ", "links"))]
    assert left == []
    result = run_script(two.server)
    assert result.code == 0, result
    applied = assert_same_end(one.server, two.server, before)
    assert "/etc/caddy/Caddyfile" in applied
    assert "/opt/vllm/start-vllm.sh" in applied
    exported = [each.server.get("/etc/vllm-https-setup/root.crt") for each in (one, two)]
    assert all(root.startswith(b"-----BEGIN CERTIFICATE") for root in exported)
    tcp = two.lab.outside.tcp
    assert [tcp(two.server.address, port, 0.5) for port in (22, 443, 8000)] == ["open", "open", "filtered"]
    assert_undo_is_gone(two.server)
    assert_nothing_to_do(two)
    # Run once more, on a server where all is done, it does no harm.
    time.sleep(1.1)
    again = run_script(two.server)
    assert again.code == 0, again
    assert firewall(one.server) == firewall(two.server)
    assert_nothing_to_do(two)
    assert two.apply()["exit_code"] == 0


def assert_same_end(one: Server, two: Server, before: list[Snapshot]) -> dict[str, tuple[object, ...]]:
    """What `apply` did to the one and the script to the other comes to the same; returns what that is."""
    after = [one.snapshot(), two.snapshot()]
    applied, scripted = ends(one, before[0], after[0]), ends(two, before[1], after[1])
    assert sorted(scripted) == sorted(applied)
    assert {path: scripted[path] for path in applied if scripted[path] != applied[path]} == {}
    assert firewall(one) == firewall(two)
    assert after[0].units == after[1].units
    return applied


@pytest.mark.parametrize("mode", ["acme", "custom"])
def test_script_of_the_other_modes_ends_in_the_same_state_too(
    mode: str, lab: Lab, acme: Acme, attend: Callable[[ServerSpec], Operator]
) -> None:
    """Both servers have the domain for their own, one after the other, and bring the same certificate."""
    leaf = lab.certificates.issue(DOMAIN)
    one, two = (Site(lab, acme, attend(ServerSpec(name=name))) for name in ("gpu-one", "gpu-two"))
    for site in (one, two):
        site.trust(lab.certificates.root)
        site.answer_custom(leaf.chain, leaf.key)
        if mode == "acme":
            site.answer_acme()
    before = [site.server.snapshot() for site in (one, two)]
    one.name()
    document = one.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    two.name()
    script = export(two.operator).stdout
    checked = subprocess.run([SHELLCHECK, "-s", "sh", "-"], input=script, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert "PRIVATE KEY" not in script
    result = run_script(two.server)
    assert result.code == 0, result
    applied = assert_same_end(one.server, two.server, before)
    assert b"llm.example.test" in applied["/etc/caddy/Caddyfile"][-1]  # type: ignore[operator]
    assert two.seen_from_outside(mode) == proof(mode)
    assert_undo_is_gone(two.server)
    assert_nothing_to_do(two.operator)
    if mode == "custom":
        renewed = lab.certificates.issue(DOMAIN)
        two.server.put(KEY, renewed.key, 0o600)
        two.server.put(CHAIN, renewed.chain)
        two.wait_until_served(renewed)


def test_unconfirmed_firewall_goes_back_and_the_rest_is_not_begun(operator: Operator) -> None:
    server = operator.server
    operator.answer(firewall={"safety_seconds": 10})
    export(operator)
    rules, script = firewall(server), server.get("/opt/vllm/start-vllm.sh")
    result = run_script(server, confirm="")
    assert result.code == 1
    assert CONFIRM in result.stdout
    assert "The firewall was put back as it was before." in result.stderr
    assert firewall(server)[1] == rules[1]
    assert operator.lab.outside.tcp(server.address, 8000) == "open"
    assert server.get("/opt/vllm/start-vllm.sh") == script
    assert server.run(["test", "-e", "/usr/bin/caddy"], check=False).code == 1
    assert_undo_is_gone(server)


@pytest.mark.parametrize("way", ["second login", "typed"])
def test_firewall_is_confirmed_by_a_person(operator: Operator, way: str) -> None:
    server = operator.server
    export(operator)
    with server.ssh_popen(f"sudo sh {SCRIPT}", tty=way == "typed") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        said = b""
        while CONFIRM.encode() not in said or (way == "typed" and b"type yes" not in said):
            line = process.stdout.readline()
            assert line, said
            said += line
        if way == "typed":
            process.stdin.write(b"yes\n")
            process.stdin.flush()
        else:
            server.ssh(CONFIRM)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == 0, (rest, errors)
    assert b"confirmed" in rest
    assert_undo_is_gone(server)
    assert_nothing_to_do(operator)


def test_script_that_is_killed_leaves_the_firewall_to_its_timer_and_can_be_run_again(operator: Operator) -> None:
    server = operator.server
    operator.answer(firewall={"safety_seconds": 10})
    export(operator)
    rules = firewall(server)
    with server.ssh_popen(f"sudo sh {SCRIPT}") as process:
        until = Deadline("ufw to be on", 30)
        while "Status: active" not in server.run(["ufw", "status"]).stdout:
            until.tick(0.1)
        server.run(["pkill", "-KILL", "-f", f"^sh {SCRIPT}"])
        process.communicate(timeout=60)
    early = run_script(server)
    assert (early.code, "not confirmed yet" in early.stderr) == (1, True)
    until = Deadline("the firewall to go back", 30)
    while "Status: active" in server.run(["ufw", "status"]).stdout:
        until.tick(0.2)
    assert firewall(server)[1] == rules[1]
    until = Deadline("the mark to go", 10)
    while server.run(["test", "-e", "/var/lib/vllm-https-setup/firewall/unconfirmed"], check=False).code == 0:
        until.tick(0.1)
    time.sleep(1.1)
    result = run_script(server)
    assert result.code == 0, result
    assert_undo_is_gone(server)
    assert_nothing_to_do(operator)


def test_script_of_another_server_or_of_another_time_changes_nothing(operator: Operator) -> None:
    server = operator.server
    text = export(operator).stdout
    rules = firewall(server)
    server.put("/opt/vllm/start-vllm.sh", server.get("/opt/vllm/start-vllm.sh") + b"# edited\n", 0o755, "vllm:vllm")
    result = run_script(server)
    assert (result.code, "start-vllm.sh was changed since" in result.stderr) == (1, True)
    server.put(SCRIPT, text.replace(f"\nserver={server.name}\n", "\nserver=another\n").encode(), 0o644)
    result = run_script(server)
    assert (result.code, "made for another server, another" in result.stderr) == (2, True)
    refused = server.ssh(f"sh {SCRIPT}", check=False)
    assert (refused.code, "this needs root" in refused.stderr) == (2, True)
    assert firewall(server) == rules
    assert server.run(["sh", "-c", "ls -d /var/backups/vllm*"], check=False).stdout == ""


def test_vllm_that_fails_with_the_edit_gets_its_old_script_back(operator: Operator) -> None:
    server = operator.server
    export(operator)
    before = server.get("/opt/vllm/start-vllm.sh")
    server.standin(fail="loopback")
    result = run_script(server)
    assert (result.code, "too often" in result.stdout) == (1, False)
    assert "this did not come about: vLLM answers on 127.0.0.1:8000" in result.stderr
    assert server.get("/opt/vllm/start-vllm.sh") == before
    until = Deadline("vLLM as it was", 30)
    while 8000 not in server.listening():
        until.tick(0.1)


def test_no_script_where_a_check_blocks_or_the_call_is_wrong(attend: Callable[[ServerSpec], Operator]) -> None:
    operator = attend(ServerSpec(api_key=None))
    blocked = export(operator, check=False)
    assert (blocked.code, blocked.stdout) == (3, "")
    assert "no VLLM_API_KEY in" in blocked.stderr
    plain = operator.server.ssh("vllm-https-setup export --answers answers.yaml", check=False)
    assert (plain.code, plain.stdout, "this needs root" in plain.stderr) == (2, "", True)
    without = operator.say("export")
    assert (without.code, without.stdout, "--answers" in without.stderr) == (2, "", True)
