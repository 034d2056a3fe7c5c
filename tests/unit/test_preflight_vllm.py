"""Preflight looks at vLLM's unit as servers really have it: its forms, its key, how it runs and answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.unit.altered import (
    ENV,
    SCRIPT,
    UNIT,
    exec_start,
    exposed,
    findings,
    with_answers,
    with_command,
    with_exchange,
    with_files,
    with_listeners,
    with_new_command,
    with_unit,
)
from wizard.model import Level, Output
from wizard.server import FileState, Listener, Response
from wizard.vllm import find_vllm
from wizard.vllm_answers import read_version

SERVED = "serve microsoft/Phi-4-mini-instruct --host 0.0.0.0 --port 8000"
LAST_WORDS = ("journalctl", "--no-pager", "-q", "-o", "cat", "-n", "1", "_SYSTEMD_UNIT=vllm.service")
KEY = "sk-9f2c/ab+Q71xyz04PLmnTT=="


def test_hardened_unit_and_template_are_recorded_and_right() -> None:
    for name, unit in (("vllm-hardened", "vllm.service"), ("vllm-template", "vllm@phi.service")):
        found = findings(exposed(name))
        assert unit in found["vllm_unit"].summary
        assert found["launch_script"].evidence["path"] == SCRIPT
        assert {finding.level for finding in found.values()} <= {Level.OK, Level.INFO}


# ── what the unit starts ──


@pytest.mark.parametrize(
    "command",
    [
        SCRIPT,
        f"/bin/bash {SCRIPT}",
        f"/bin/bash -euo pipefail {SCRIPT} more words",
        f"/usr/bin/env HF_HOME=/x bash {SCRIPT}",
        f"/usr/bin/numactl -N 0 {SCRIPT}",
        f"/usr/bin/nice -n 5 /bin/sh -e {SCRIPT}",
    ],
)
def test_launch_script_is_found(command: str) -> None:
    found = findings(with_unit(exposed(), ExecStart=exec_start(command)))["launch_script"]
    assert (found.level, found.evidence["path"], found.evidence["port"]) == (Level.OK, SCRIPT, 8000)


@pytest.mark.parametrize(
    ("command", "level"), [(SCRIPT, Level.BLOCKED), (f"/bin/bash {SCRIPT}", Level.OK)], ids=["itself", "by a shell"]
)
def test_script_that_cannot_be_executed_blocks_before_the_next_start_fails(command: str, level: Level) -> None:
    server = with_unit(exposed(), ExecStart=exec_start(command))
    script = server.description.files[SCRIPT]
    assert script is not None
    found = findings(with_files(server, {SCRIPT: replace(script, mode=0o644)}))["launch_script"]
    assert found.level is level
    assert level is Level.OK or found.remedy == f"sudo chmod +x {SCRIPT}"


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("/opt/vllm/venv/bin/vllm serve org/model --port 8080", 8080),
        ("/opt/vllm/venv/bin/vllm serve org/model", 8000),
        ("/opt/venv/bin/python3 -m vllm.entrypoints.openai.api_server --model m --port=9000", 9000),
        ("/bin/bash -c source /opt/venv/bin/activate && exec vllm serve m --port 8001", 8001),
        ("/usr/bin/env CUDA_VISIBLE_DEVICES=0 /opt/venv/bin/vllm serve m --port ${PORT}", 8000),
    ],
)
def test_vllm_that_the_unit_starts_itself_is_read(command: str, port: int) -> None:
    server = with_unit(exposed(), ExecStart=exec_start(command))
    server = with_files(
        server, dict.fromkeys(("/opt/vllm/venv/bin/vllm", "/opt/venv/bin/python3", "/bin/bash", "/opt/venv/bin/vllm"))
    )
    vllm = find_vllm(server.look())
    assert (vllm.start.kind, vllm.port) == ("command", port)
    if port == 8000:
        assert "vllm.service itself" in findings(server)["launch_script"].summary


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/docker run --rm --gpus all -p 8000:8000 vllm/vllm-openai --model m",
        "/usr/bin/podman run vllm/vllm-openai",
        "/bin/sh -c docker run vllm/vllm-openai",
    ],
)
def test_container_is_named_and_refused(command: str) -> None:
    server = with_files(with_unit(exposed(), ExecStart=exec_start(command)), dict.fromkeys((command.split()[0],)))
    found = findings(server)["launch_script"]
    assert found.level is Level.BLOCKED
    assert "container" in found.summary and "not supported" in found.summary
    assert "-p 127.0.0.1:8000:8000" in str(found.remedy)


def test_container_in_the_launch_script_is_refused_too() -> None:
    script = "#!/bin/bash\nexec docker run --gpus all -p 8000:8000 vllm/vllm-openai:latest --model m\n"
    found = findings(with_files(exposed(), {SCRIPT: script}))["launch_script"]
    assert found.level is Level.BLOCKED and SCRIPT in found.summary


# ── how it runs ──


@pytest.mark.parametrize(
    ("properties", "level", "words"),
    [
        ({"UnitFileState": "disabled"}, Level.BLOCKED, ("disabled", "sudo systemctl enable vllm.service")),
        ({"LoadState": "masked", "UnitFileState": "masked"}, Level.BLOCKED, ("masked", "systemctl unmask")),
        ({"LoadState": "bad-setting"}, Level.BLOCKED, ("bad-setting", "systemd-analyze verify")),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "41"},
            Level.BLOCKED,
            ("41 times", "out of memory", "journalctl -u vllm.service"),
        ),
        ({"ActiveState": "failed", "SubState": "failed"}, Level.BLOCKED, ("has failed: ", "out of memory")),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "start-limit-hit"},
            Level.BLOCKED,
            ("starts it no more", "then sudo systemctl reset-failed vllm.service && sudo systemctl start vllm.service"),
        ),
        ({"ActiveState": "activating", "SubState": "start-pre"}, Level.OK, ("activating",)),
    ],
)
def test_state_of_the_unit_is_told(properties: dict[str, str], level: Level, words: tuple[str, ...]) -> None:
    server = with_new_command(with_unit(exposed(), **properties), LAST_WORDS, "CUDA out of memory\n")
    found = findings(server)["vllm_unit"]
    assert found.level is level
    assert all(word in f"{found.summary} {found.remedy}" for word in words), found


def test_restarts_and_a_changed_unit_file_are_warned_of() -> None:
    found = findings(with_unit(exposed(), NRestarts="7", NeedDaemonReload="yes"))
    assert found["vllm_restarts"].evidence == {"restarts": 7}
    assert "daemon-reload" in str(found["daemon_reload"].remedy)
    assert not {"vllm_restarts", "daemon_reload"} & set(findings(with_unit(exposed(), NRestarts="1")))


DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
WANTS = "/etc/systemd/system/multi-user.target.wants"


@pytest.mark.parametrize(
    ("names", "texts", "wanted", "candidates"),
    [
        (("llm-api.service", "web.service"), {"llm-api.service": SCRIPT, "web.service": "/usr/bin/web"}, (),
         ["llm-api.service"]),
        (("vllm@.service",), {"vllm@.service": "/opt/vllm/%i.sh"}, ("vllm@phi.service", "vllm@qwen.service"),
         ["vllm@phi.service", "vllm@qwen.service"]),
        (("chat.service",), {"chat.service": "/usr/bin/docker run vllm/vllm-openai"}, (), ["chat.service"]),
    ],
)  # fmt: skip
def test_candidates_are_named_where_the_unit_is_missing(
    names: tuple[str, ...], texts: dict[str, str], wanted: tuple[str, ...], candidates: list[str]
) -> None:
    server = with_unit(exposed(), LoadState="not-found", UnitFileState="", ActiveState="inactive")
    files = {f"{DIRECTORIES[0]}/{name}": f"[Service]\nExecStart=-{command}\n" for name, command in texts.items()}
    server = with_files(server, files, {**dict.fromkeys(DIRECTORIES, ()), DIRECTORIES[0]: names, WANTS: wanted})
    found = findings(server)["vllm_unit"]
    assert found.level is Level.BLOCKED
    assert found.evidence["candidates"] == candidates
    assert all(name in str(found.remedy) for name in candidates)


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (Listener("0.0.0.0", 8000, "docker-proxy", 77, "docker.service"), "a container's (docker-proxy)"),
        (Listener("0.0.0.0", 8000, "vllm", 77, "session-3.scope"), "started in session-3.scope"),
        (None, "there is no vllm.service"),
    ],
)
def test_what_has_the_port_is_told_where_no_unit_does(listener: Listener | None, words: str) -> None:
    server = with_unit(exposed(), LoadState="not-found", UnitFileState="", ActiveState="inactive")
    server = with_files(server, {}, dict.fromkeys(DIRECTORIES, ()))
    server = with_listeners(server, *((listener,) if listener else ()), without=[8000])
    assert words in findings(server)["vllm_unit"].summary


# ── the key ──


@pytest.mark.parametrize(
    "text",
    [
        f"VLLM_API_KEY={KEY}\n",
        f"VLLM_API_KEY={KEY}",
        f"# x\r\nVLLM_API_KEY={KEY}\r\nHF_HOME=/x\r\n",
        f'VLLM_API_KEY="{KEY}"\n',
        f"VLLM_API_KEY='{KEY}'\n",
        f"  VLLM_API_KEY = {KEY}  \n",
        f"VLLM_API_KEY=old\nVLLM_API_KEY={KEY}\n",
    ],
)
def test_key_is_read_as_systemd_reads_it(text: str) -> None:
    key = find_vllm(with_files(exposed(), {ENV: text}).look()).key
    assert key is not None and key.reveal() == KEY


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"export VLLM_API_KEY={KEY}\n", ("line 1", "begins with export", "VLLM_API_KEY=…")),
        ("VLLM_API_KEY=\n", ("is empty", "vllm-https-setup key new")),
        ('VLLM_API_KEY=""\n', ("is empty",)),
        ("HF_HOME=/x\n", (f"no VLLM_API_KEY in {ENV}", "sudo vllm-https-setup key new")),
        (f"VLLM_API_KEY={KEY}\x01\n", ("control character",)),
    ],
)
def test_file_without_a_key_blocks_and_says_why(text: str, words: tuple[str, ...]) -> None:
    found = findings(with_files(exposed(), {ENV: text}))["api_key"]
    assert found.level is Level.BLOCKED
    assert all(word in f"{found.summary} {found.remedy}" for word in words), found
    assert KEY not in repr(found)


def test_line_that_is_read_otherwise_than_meant_is_told() -> None:
    found = findings(with_files(exposed(), {ENV: f"VLLM_API_KEY={KEY} # the team's\n"}))
    assert found["api_key"].level is Level.OK
    assert found["env_file_form"].level is Level.WARN and "line 1" in found["env_file_form"].summary


def test_optional_env_file_may_be_missing_and_another_may_not() -> None:
    files = f"{ENV} (ignore_errors=no)\n/etc/vllm/local.env (ignore_errors=yes)"
    server = with_files(with_unit(exposed(), EnvironmentFiles=files), {"/etc/vllm/local.env": None})
    assert findings(server)["api_key"].level is Level.OK
    missing = with_unit(server, EnvironmentFiles=files.replace("yes", "no"))
    assert "/etc/vllm/local.env is missing" in findings(missing)["env_file"].summary


def test_last_env_file_decides() -> None:
    files = f"{ENV} (ignore_errors=no)\n/etc/vllm/local.env (ignore_errors=yes)"
    server = with_files(with_unit(exposed(), EnvironmentFiles=files), {"/etc/vllm/local.env": f"VLLM_API_KEY={KEY}\n"})
    vllm = find_vllm(server.look())
    assert vllm.key is not None and vllm.key.reveal() == KEY
    assert vllm.key_file == "/etc/vllm/local.env"


def test_key_in_the_unit_itself_counts_and_is_warned_of() -> None:
    drop_in = "/etc/systemd/system/vllm.service.d/key.conf"
    server = with_unit(exposed(), EnvironmentFiles="", DropInPaths=drop_in)
    server = with_files(server, {drop_in: f'[Service]\nEnvironment=A=1 "VLLM_API_KEY={KEY}"\n'})
    look = server.look()
    key = find_vllm(look).key
    assert key is not None and key.reveal() == KEY
    assert KEY not in look.mask.text(f"it is {KEY}")
    found = findings(server)
    assert "systemctl cat" in found["key_readable"].summary and "EnvironmentFile" in str(found["key_readable"].remedy)


def test_env_file_that_everybody_can_read_is_warned_of() -> None:
    server = with_files(exposed(), {ENV: FileState("file", f"VLLM_API_KEY={KEY}\n".encode(), 0o644)})
    assert f"chmod o-rwx {ENV}" in str(findings(server)["key_readable"].remedy)
    assert "key_readable" not in findings(exposed())


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (f"--api-key {KEY}", KEY),
        (f"--api-key={KEY}", KEY),
        (f"--api-key {KEY} second-key-0123456789", KEY),
        ('--api-key "$VLLM_API_KEY"', None),
        ("--api-key ${VLLM_API_KEY}", None),
    ],
)
def test_key_on_the_command_line_counts_is_masked_and_warned_of(arguments: str, key: str | None) -> None:
    server = with_files(exposed(), {SCRIPT: f"#!/bin/bash\nexec vllm {SERVED} {arguments}\n"})
    look = server.look()
    found = find_vllm(look).key
    kept = find_vllm(exposed().look()).key
    assert found is not None and kept is not None
    assert found.reveal() == (key or kept.reveal())
    warned = findings(server)["key_on_command_line"]
    assert warned.level is Level.WARN and "ps" in warned.summary
    assert found.reveal() not in look.mask.text(f"exec vllm serve --api-key {found.reveal()}; {found.reveal()}")
    assert found.reveal() not in repr(warned)


def test_key_as_an_argument_of_the_unit_counts_too() -> None:
    server = with_unit(exposed(), ExecStart=exec_start(f"/opt/vllm/venv/bin/vllm {SERVED} --api-key {KEY}"))
    server = with_files(server, {"/opt/vllm/venv/bin/vllm": None})
    key = find_vllm(server.look()).key
    assert key is not None and key.reveal() == KEY
    found = findings(server)
    assert "key_on_command_line" in found
    assert found["api_key"].evidence["env_file"] == "/etc/systemd/system/vllm.service"


def test_key_in_the_program_that_the_unit_gives_to_a_shell_counts_and_is_readable() -> None:
    program = f"export VLLM_API_KEY={KEY}; exec /opt/vllm/venv/bin/vllm {SERVED}"
    server = with_unit(exposed(), ExecStart=exec_start(f"/bin/bash -c {program}"), EnvironmentFiles="")
    found = findings(server)
    assert found["api_key"].evidence["env_file"] == "/etc/systemd/system/vllm.service"
    assert "systemctl cat vllm.service shows it" in found["key_readable"].summary


@pytest.mark.parametrize(
    ("before", "files"),
    [
        (f"export VLLM_API_KEY={KEY}", {}),
        (f"VLLM_API_KEY='{KEY}'\nexport VLLM_API_KEY", {}),
        ('export VLLM_API_KEY="$(cat /etc/vllm/key)"', {"/etc/vllm/key": f"{KEY}\n"}),
        ("set -a\nsource /etc/vllm/secrets.sh\nset +a", {"/etc/vllm/secrets.sh": f"VLLM_API_KEY={KEY}\n"}),
        ('. "/etc/vllm/secrets.sh"', {"/etc/vllm/secrets.sh": f'export VLLM_API_KEY="{KEY}"\n'}),
    ],
)
def test_key_that_the_script_sets_counts(before: str, files: dict[str, str]) -> None:
    script = f"#!/bin/bash\n{before}\nexec vllm {SERVED}\n"
    server = with_files(with_unit(exposed(), EnvironmentFiles=""), {SCRIPT: script, **files})
    key = find_vllm(server.look()).key
    assert key is not None and key.reveal() == KEY


def test_key_that_is_made_up_at_the_start_blocks() -> None:
    script = f"#!/bin/bash\nexport VLLM_API_KEY=$(openssl rand -hex 32)\nexec vllm {SERVED}\n"
    found = findings(with_files(exposed(), {SCRIPT: script}))["api_key"]
    assert found.level is Level.BLOCKED and "makes the API key up" in found.summary


def test_setting_that_is_not_exported_is_not_vllms() -> None:
    script = f"#!/bin/bash\nVLLM_API_KEY={KEY}\n# export VLLM_API_KEY={KEY}x\nexec vllm {SERVED}\n"
    assert (
        findings(with_files(with_unit(exposed(), EnvironmentFiles=""), {SCRIPT: script}))["api_key"].level
        is Level.BLOCKED
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("short", "5 characters"),
        ("token-abc123-of-the-documentation", "of guides"),
        ("changeme-changeme-changeme", "of guides"),
        ("abababababababababababab", "repeats"),
    ],
)
def test_weak_key_is_warned_of(key: str, words: str) -> None:
    found = findings(with_files(exposed(), {ENV: f"VLLM_API_KEY={key}\n"}))["key_weak"]
    assert words in found.summary and "vllm-https-setup key new" in str(found.remedy)
    assert key not in f"{found.summary}{found.remedy}"


def test_comma_makes_no_second_key() -> None:
    found = findings(with_files(exposed(), {ENV: "VLLM_API_KEY=sk-0a1B2c3D4e5F,sk-6g7H8i9J0k1L\n"}))
    assert found["key_with_comma"].level is Level.INFO
    assert "key_with_comma" not in findings(exposed())


# ── switches, versions, answers ──


@pytest.mark.parametrize("place", [ENV, SCRIPT, UNIT])
@pytest.mark.parametrize("name", ["VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"])
def test_switch_is_warned_of_wherever_it_is_set(place: str, name: str) -> None:
    text = {
        ENV: f"VLLM_API_KEY={KEY}\n{name}=1\n",
        SCRIPT: f"#!/bin/bash\nexport {name}=True\nexec vllm {SERVED}\n",
        UNIT: f"[Service]\nEnvironment={name}=1\n",
    }[place]
    found = findings(with_files(exposed(), {place: text}))["vllm_switch"]
    assert found.evidence == {"name": name, "path": place}
    assert "vllm_switch" not in findings(with_files(exposed(), {place: text.replace("=1", "=0").replace("True", "0")}))


@pytest.mark.parametrize(
    ("version", "holes"),
    [
        ("0.11.0", ["CVE-2026-48746", "CVE-2026-22778"]),
        ("0.14.1", ["CVE-2026-48746"]),
        ("0.21.9.post1", ["CVE-2026-48746"]),
        ("0.22.0rc1", ["CVE-2026-48746"]),
        ("0.2.7", ["CVE-2026-22778"]),
        ("0.22.0", []),
        ("0.22.1.dev3+gabc", []),
        ("1.0", []),
        ("dev", []),
    ],
)
def test_version_with_known_holes_is_warned_of(version: str, holes: list[str]) -> None:
    server = with_exchange(exposed(), "/version", Response(200, json.dumps({"version": version}).encode()))
    found = findings(server).get("vllm_version")
    assert (found.evidence["holes"] if found else []) == holes
    assert found is None or all(hole in found.summary for hole in holes)


def test_version_before_a_release_is_older_than_it() -> None:
    assert read_version("0.22.0rc1") < read_version("0.22.0") < read_version("0.22.1")  # type: ignore[operator]
    assert read_version("0.22.0+cu129") == (0, 22, 0)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"v": 1}'])
def test_server_that_tells_no_version_is_no_trouble(body: bytes) -> None:
    assert "vllm_version" not in findings(with_exchange(exposed(), "/version", Response(404, body)))


# ── the GPU ──


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (Output(18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.163\n"),
         ("was upgraded", "sudo reboot")),
        (Output(9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the "
                   "latest NVIDIA driver is installed and running.\n"), ("not loaded", "ubuntu-drivers")),
        (Output(6, "No devices were found\n"), ("finds no GPU", "dmesg")),
        (Output(127, "", "nvidia-smi: command not found"), ("there is no nvidia-smi", "ubuntu-drivers")),
        (Output(3, "", "strange"), ("nvidia-smi fails (strange)", "nvidia-smi")),
    ],
)  # fmt: skip
def test_gpu_that_does_not_answer_blocks_in_its_own_words(output: Output, words: tuple[str, ...]) -> None:
    server = with_files(with_command(exposed(), "nvidia-smi", output), {"/dev/kfd": None})
    found = findings(server)["gpu"]
    assert found.level is Level.BLOCKED
    assert all(word in f"{found.summary} {found.remedy}" for word in words), found
    assert found.evidence["code"] == output.code and "accept" in str(found.remedy)
    assert findings(with_answers(server, "preflight: {accept: [preflight.gpu]}"))["gpu"].level is Level.WARN


def test_amd_gpu_is_one() -> None:
    server = with_command(exposed(), "nvidia-smi", Output(127, "", "not found"))
    assert "AMD" in findings(with_files(server, {"/dev/kfd": FileState("other")}))["gpu"].summary
