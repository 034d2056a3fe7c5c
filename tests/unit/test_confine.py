"""What confines Caddy and vLLM, and what is left to them; where Caddy is administered, which a reload can't move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers import scenario
from tests.unit.altered import SCRIPT, with_answers, with_files, with_unit
from wizard import admin_socket
from wizard.actions import compose
from wizard.caddy_service import is_moved, loaded
from wizard.described import DescribedMachine
from wizard.engine import Look
from wizard.facts import Facts
from wizard.harden import sandbox
from wizard.harden.vllm_places import elevated, find_places
from wizard.model import Action, Finding, Impact, Level, ListensOn, Output, Run, Then, Wait, Write
from wizard.overlay import Overlay
from wizard.owned import Owned, OwnedFile
from wizard.parse.caddy_admin import admin_address
from wizard.parse.caddy_admin import admin_socket as socket_of
from wizard.parse.exposure import parse_exposure
from wizard.render import render
from wizard.reversal import _each_restart_once
from wizard.server import FileState
from wizard.steps import STEPS
from wizard.vllm import find_vllm

RECORDED = Path(__file__).parents[1] / "recorded/exposure"
ON = "harden: {sandbox: [caddy, vllm], admin_socket: true}"
CADDY, VLLM = sandbox.drop_in_of("caddy.service"), sandbox.drop_in_of("vllm.service")
EXPOSURE = "→ Overall exposure level for caddy.service: 9.0 UNSAFE 😨\n"


class Absent(dict[str, Any]):
    """Knows of everything else that it is not there."""

    def __init__(self, known: Mapping[str, Any], otherwise: Any) -> None:
        super().__init__(known)
        self._otherwise = otherwise

    def __missing__(self, key: str) -> Any:
        return self._otherwise


def seen(
    server: scenario.Scenario,
    home: str = "/opt/vllm",
    owned: Owned | None = None,
    processes: Mapping[str, str] | None = None,
    started_before: int = 100,
    changed_before: int = 200,
) -> Look:
    """A look at a server on which only what is recorded is there, with this home of vLLM's user. So many seconds ago
    Caddy was started, and the drop-in beside it changed."""
    about = server.description
    commands = {
        **about.commands,
        (("getent", "passwd", "vllm"), ""): Output(0, f"vllm:x:998:998::{home}:/usr/sbin/nologin\n"),
        (("systemd-analyze", "security", "--no-pager", "caddy.service"), ""): Output(0, EXPOSURE),
        (("systemd-analyze", "security", "--no-pager", "vllm.service"), ""): Output(127, "", "not found"),
        (("systemctl", "show", "-p", "ExecMainStartTimestamp", "--timestamp=unix", "--", "caddy.service"), ""): Output(
            0, f"ExecMainStartTimestamp=@{int(NOW) - started_before}\n"
        ),
        (("stat", "-c", "%Y", "--", CADDY.path), ""): Output(0, f"{int(NOW) - changed_before}\n"),
    }
    files = {**about.files, **{path: FileState("file", text.encode()) for path, text in (processes or {}).items()}}
    machine = DescribedMachine(
        replace(about, commands=commands, files=Absent(files, None), directories=Absent(about.directories, ()))
    )
    look = replace(server.look(), server=Facts(machine))
    look.server.units(*server.units)
    return replace(look, owned=owned or look.owned)


NOW = scenario.load("finished").look().server.now()


def finished(text: str = ON, name: str = "finished") -> scenario.Scenario:
    return with_answers(scenario.load(name), text)


# ── what vLLM must be left ──


def with_environment(text: str) -> scenario.Scenario:
    return with_files(finished(), {"/etc/vllm/vllm.env": f"VLLM_API_KEY=sk-of-the-test\n{text}\n"})


@pytest.mark.parametrize(
    "text",
    [
        "HF_HOME=/home/bob/hf",
        "HF_HUB_CACHE=/root/hub",
        "XDG_CACHE_HOME=/run/user/7/c",
        "VLLM_CACHE_ROOT=/home/../root/x",
    ],
)
def test_homes_stay_where_a_cache_is_in_one(text: str) -> None:
    look = seen(with_environment(text))
    assert find_places(look, find_vllm(look), VLLM.path).in_homes
    (_, found) = sandbox.check(look)
    assert "ProtectHome" not in content_of(found)


def test_homes_stay_where_a_link_or_the_script_leads_into_one() -> None:
    linked = with_files(with_environment("HF_HOME=/data/hf"), {"/data": FileState("link", b"home/data")})
    look = seen(linked)
    assert find_places(look, find_vllm(look), VLLM.path).in_homes == ("/home/data/hf",)
    script = scenario.load("finished").description.files[SCRIPT]
    assert script is not None
    model = with_files(finished(), {SCRIPT: script.text.replace("vllm serve ", "vllm serve /home/bob/model ")})
    look = seen(model)
    assert find_places(look, find_vllm(look), VLLM.path).in_homes == ("/home/bob/model",)
    look = seen(finished(), home="/home/vllm")
    assert find_places(look, find_vllm(look), VLLM.path).in_homes == ("/home/vllm",)


def test_homes_are_hidden_where_nothing_of_its_own_is_there() -> None:
    (_, found) = sandbox.check(seen(finished()))
    assert "\nProtectHome=yes\n" in content_of(found)


def test_links_in_a_circle_end() -> None:
    circle = {"/data": FileState("link", b"/else"), "/else": FileState("link", b"/data")}
    look = seen(with_files(with_environment("HF_HOME=/data/hf"), circle))
    assert find_places(look, find_vllm(look), VLLM.path).in_homes == ()


def test_cache_below_usr_can_be_written_and_a_program_there_cannot() -> None:
    look = seen(with_environment("HF_HOME=/usr/local/hf 100%\nPATH=/usr/local/bin:/usr/bin"))
    (_, found) = sandbox.check(look)
    lines = content_of(found).splitlines()
    assert [line for line in lines if line.startswith("ReadWritePaths")] == ['ReadWritePaths="-/usr/local/hf 100%%"']


def test_a_key_is_asked_of_nobody() -> None:
    look = seen(with_environment("VLLM_API_KEY=/home/secret"))
    assert find_places(look, find_vllm(look), VLLM.path).in_homes == ()


SCRIPTS = {
    "sudo -u vllm vllm serve x": "sudo",
    "/usr/bin/docker run --gpus all vllm/vllm-openai": "docker",
    "# sudo is not used\nexec vllm serve x": "",
    "exec vllm serve x --mount y --served-model-name su": "",
    "numactl --membind 0 vllm serve /mnt/mount/x": "",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_start_that_needs_more_is_seen(script: str) -> None:
    look = seen(with_files(finished(), {SCRIPT: f"#!/bin/sh\n{script}\n"}))
    assert elevated(look, find_vllm(look), VLLM.path) == SCRIPTS[script]


def test_vllm_is_not_confined_where_its_start_needs_more() -> None:
    script = scenario.load("finished").description.files[SCRIPT]
    assert script is not None
    changed = with_files(finished(), {SCRIPT: script.text.replace("exec vllm", "sudo sysctl -w x=1\nexec vllm")})
    (_, found) = sandbox.check(seen(changed))
    assert (found.level, found.fix) == (Level.WARN, ()) and "uses sudo" in found.summary


# What CUDA, torch, Triton, NCCL, MPS or Ray would not survive: docs/security.md.
NEVER = (
    *("PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute", "PrivateTmp"),
    *("PrivateIPC", "RemoveIPC", "ProcSubset", "IPAddressDeny", "PrivateNetwork", "PrivateUsers", "LimitMEMLOCK"),
)


def settings_of(text: str) -> list[tuple[str, str]]:
    lines = [line.partition("=") for line in text.splitlines() if line and not line.startswith(("#", "["))]
    return [(key, value) for key, _, value in lines]


@pytest.mark.parametrize("root", [False, True])
def test_nothing_is_set_that_a_gpu_or_shared_memory_would_not_survive(root: bool) -> None:
    text = render("vllm_sandbox.conf.j2", root=root, device_files=[], home=(), writable=[])
    settings = settings_of(text)
    assert not {key for key, _ in settings} & set(NEVER)
    assert dict(settings)["ProtectSystem"] == "full"
    filters = [value for key, value in settings if key == "SystemCallFilter"]
    assert all(value.startswith("~") for value in filters), "a list of what is forbidden: new calls go on working"
    assert not any(group in value for value in filters for group in ("@debug", "@resources", "@ipc", "@privileged"))
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} <= set(dict(settings)["RestrictAddressFamilies"].split())
    assert (dict(settings)["CapabilityBoundingSet"] == "") is not root


def test_device_files_of_the_gpus_are_made_before_as_root() -> None:
    server = finished()
    described = replace(server.description, directories={**server.description.directories, "/usr/bin": ("nvidia-smi",)})
    (_, found) = sandbox.check(seen(replace(server, description=described)))
    assert "\nExecStartPre=-+/usr/bin/nvidia-smi -L\n" in content_of(found)
    assert "ExecStartPre=-+/usr/bin/nvidia-modprobe" not in content_of(found)


# ── what the operator's own files set ──


def content_of(finding: Finding) -> str:
    (write,) = (one for one in finding.fix if isinstance(one, Write))
    return write.content.decode()


def test_what_the_operators_unit_sets_is_left_to_it() -> None:
    own = "/etc/systemd/system/vllm.service.d/own.conf"
    server = with_unit(finished(), DropInPaths=own)
    text = "[Service]\nProtectHome=read-only\nAmbientCapabilities=CAP_IPC_LOCK\nExecStartPre=/bin/true\n"
    (_, found) = sandbox.check(seen(with_files(server, {own: text})))
    keys = {key for key, _ in settings_of(content_of(found))}
    assert not keys & {"ProtectHome", "CapabilityBoundingSet", "AmbientCapabilities"}
    assert "NoNewPrivileges" in keys


def test_block_goes_as_a_whole_and_its_reason_with_it() -> None:
    text = "# ours\n[Service]\n\n# why a\nA=1\nB=2\n\n# why c\nC=3\n"
    assert sandbox.without(text, frozenset({"B"})) == "# ours\n[Service]\n\n# why c\nC=3\n"
    assert sandbox.without(text, frozenset({"ExecStartPre"})) == text


@pytest.mark.parametrize("http3", [False, True])
def test_caddy_keeps_the_right_that_http3_needs_and_no_other(http3: bool) -> None:
    (found, _) = sandbox.check(seen(finished(f"{ON}\nproxy: {{http3: {str(http3).lower()}}}")))
    settings = settings_of(content_of(found))
    wanted = "CAP_NET_BIND_SERVICE CAP_NET_ADMIN" if http3 else "CAP_NET_BIND_SERVICE"
    assert [value for key, value in settings if key == "CapabilityBoundingSet"] == [wanted]
    assert ("ProtectSystem", "strict") in settings and ("RestartPreventExitStatus", "1") in settings


def test_sites_and_additions_of_the_operator_keep_their_files() -> None:
    server = finished()
    described = replace(
        server.description, directories={**server.description.directories, "/etc/caddy/vllm-https.d": ("own.caddy",)}
    )
    (found, _) = sandbox.check(seen(replace(server, description=described)))
    settings = dict(settings_of(content_of(found)))
    assert settings["ProtectSystem"] == "full" and not {"ProtectHome", "UMask"} & set(settings)


# ── a run that was killed; turned off ──


def actions_of(finding: Finding) -> list[tuple[str, ...]]:
    return [one.argv for one in compose([finding]) if isinstance(one, Run)]


RELOAD, RESTART = ("systemctl", "daemon-reload"), ("systemctl", "restart", "caddy.service")


def placed(loaded: str = CADDY.path, stale: str = "no") -> scenario.Scenario:
    """The drop-in is there, and systemd knows these drop-ins."""
    server = finished("harden: {sandbox: [caddy]}")
    (found,) = sandbox.check(seen(server))
    server = with_files(server, {CADDY.path: FileState("file", content_of(found).encode())})
    return with_unit(server, "caddy.service", DropInPaths=loaded, NeedDaemonReload=stale, MainPID="7")


INSIDE = "30 20 0:26 / / ro\n99 30 0:26 /null /var/lib/vllm-https-setup ro\n"


def test_run_killed_before_systemd_read_it_is_completed() -> None:
    for server in (placed(loaded=""), placed(stale="yes")):
        (found,) = sandbox.check(seen(server, processes={"/proc/7/mountinfo": INSIDE}))
        assert (found.level, actions_of(found)) == (Level.DRIFT, [RELOAD])


def test_run_killed_before_the_restart_is_completed() -> None:
    (found,) = sandbox.check(seen(placed(), processes={"/proc/7/mountinfo": "30 20 0:26 / / rw\n"}))
    assert (found.level, actions_of(found)) == (Level.DRIFT, [RESTART])
    assert all(one.impact is Impact.RESTART_CADDY for one in found.fix)


def test_confined_process_is_fine_and_says_how_much_is_left() -> None:
    (found,) = sandbox.check(seen(placed(), processes={"/proc/7/mountinfo": INSIDE}))
    assert (found.level, found.evidence["exposure"]) == (Level.OK, 9.0)


@pytest.mark.parametrize(("started", "changed", "older"), [(200, 100, True), (100, 200, False), (200, -100, False)])
def test_run_killed_between_what_systemd_read_and_the_restart_is_completed(
    started: int, changed: int, older: bool
) -> None:
    """The drop-in has other lines since the process was started; one of the future says nothing."""
    look = seen(placed(), "/opt/vllm", None, {"/proc/7/mountinfo": INSIDE}, started, changed)
    (found,) = sandbox.check(look)
    assert (found.level is Level.DRIFT, actions_of(found)) == (older, [RESTART] if older else [])
    overlay = Overlay(look.server)
    for action in compose([found]):
        overlay.perform(action)
    assert [one.level for one in sandbox.check(replace(look, server=overlay))] == [Level.OK]


@pytest.mark.parametrize(
    ("there", "loaded", "process", "wanted"),
    [
        (True, CADDY.path, INSIDE, [RELOAD, RESTART]),
        (False, CADDY.path, INSIDE, [RELOAD, RESTART]),
        (False, "", INSIDE, [RESTART]),
        (False, "", "30 20 0:26 / / rw\n", []),
    ],
)
def test_turned_off_it_goes_wherever_a_run_was_killed(
    there: bool, loaded: str, process: str, wanted: list[tuple[str, ...]]
) -> None:
    server = with_unit(finished("harden: {}"), "caddy.service", DropInPaths=loaded, MainPID="7")
    server = with_files(server, {CADDY.path: FileState("file", b"x") if there else None})
    owned = Owned(files={CADDY.path: OwnedFile("x", None, step="harden")})
    found = list(sandbox.check(seen(server, owned=owned, processes={"/proc/7/mountinfo": process})))
    done = [argv for one in found for argv in actions_of(one) if argv[0] == "systemctl"]
    assert done == wanted


def test_applied_nothing_is_left_to_do() -> None:
    look = seen(finished())
    overlay = Overlay(look.server)
    look = replace(look, server=overlay)
    for step in STEPS:
        if step.id in ("tls", "harden"):
            for action in compose(step.inspect(look)):
                overlay.perform(action)
    left = [one for step in STEPS if step.id in ("tls", "harden") for one in step.inspect(look) if one.fix]
    assert left == []
    restarts = [one for one in overlay.performed if isinstance(one, Run) and one.argv == RESTART]
    assert len(restarts) == 2, "once for the socket, once for what confines it"


# ── where Caddy is administered ──

ADDRESSES = {
    "": "localhost:2019",
    "{\n\tadmin localhost:2019\n}\n": "localhost:2019",
    "{\n\tadmin unix//run/caddy/admin.sock|0600\n}\n": "unix//run/caddy/admin.sock",
    "{\n\tadmin off\n}\n": "off",
    "{\n\t# admin off\n\tadmin {\n\t\torigins x\n\t}\n}\n": "localhost:2019",
    "http://admin.lan {\n\thandle /admin {\n\t\trespond x\n\t}\n}\n": "localhost:2019",
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_admin_address_is_read_from_a_caddyfile(text: str) -> None:
    assert admin_address(text) == ADDRESSES[text]
    assert socket_of(text) == ("/run/caddy/admin.sock" if "unix" in text else "")


def test_reload_becomes_a_restart_where_the_endpoint_moves_and_only_there() -> None:
    plain = seen(finished("harden: {}"))
    assert not is_moved(plain) and loaded(plain).argv[1] == "reload-or-restart"
    moving = seen(finished())
    assert is_moved(moving) and loaded(moving).argv == RESTART
    overlay = Overlay(moving.server)
    on_socket = replace(moving, server=overlay)
    overlay.make_true(ListensOn("caddy.service", (("::", 443),)))
    assert not is_moved(on_socket)
    back = replace(on_socket, answers=plain.answers)
    assert is_moved(back) and loaded(back).argv == RESTART


def test_directory_of_the_socket_is_asked_for_only_where_it_is_wanted() -> None:
    """On a described server every other question is an error."""
    look = scenario.load("finished").look_within()
    assert list(admin_socket.clear_away(look)) == list(admin_socket.check_directory(look)) == []
    assert list(sandbox.check(look)) == []


# ── the engine's part, the reversal's part ──


def test_systemd_is_told_before_each_service_that_is_to_start_by_it() -> None:
    reload = Then(RELOAD, "", Impact.NONE)
    writes = [
        Write(f"/{name}", b"", "", then=(reload, Then(("systemctl", "restart", name), "", Impact.NONE)))
        for name in "ab"
    ]
    shown = [
        one.argv[-1] if isinstance(one, Run) else one.path
        for one in compose([drift(*writes)])
        if not isinstance(one, Wait)
    ]
    assert shown == ["/a", "daemon-reload", "a", "/b", "daemon-reload", "b"]


def drift(*fix: Action) -> Finding:
    return Finding("a.b", Level.DRIFT, "", fix=fix)


def test_vllm_is_restarted_once_by_an_uninstall() -> None:
    restart = Run(("systemctl", "restart", "vllm.service"), "")
    wait = Wait("vLLM answers again", "", 1, lambda _: None)  # type: ignore[arg-type, return-value]
    other = Run(("true",), "")
    steps = list(_each_restart_once([(STEPS[0], (other, restart, wait)), (STEPS[1], (restart, wait))]))
    assert [actions for _, actions in steps] == [(other,), (restart, wait)]


# ── systemd-analyze ──


def test_exposure_is_read_from_what_systemd_says() -> None:
    recorded = {path.name: parse_exposure(path.read_text()) for path in RECORDED.iterdir()}
    assert recorded["vllm.service.txt"] == 9.2
    assert parse_exposure("") is None
    assert parse_exposure("Unit no-such.service not found.") is None
