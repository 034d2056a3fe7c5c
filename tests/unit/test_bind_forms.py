"""The forms in which real servers start vLLM: what bind finds, what it does, and that the laws hold for it, too.

Each is the recorded server `exposed`, started in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.test_laws import Book, Killed, apply, undo
from wizard.engine import walk
from wizard.model import Action, Finding, Level, ListensOn, Output, Run, Status, Write
from wizard.overlay import Overlay
from wizard.script import Notes, write_script
from wizard.server import FileState, Firewall, Listener
from wizard.steps import STEPS, bind, caddy
from wizard.undo import undo_actions
from wizard.vllm import find_vllm

UNIT, SCRIPT, DROP_IN = (
    "/etc/systemd/system/vllm.service",
    "/opt/vllm/start-vllm.sh",
    "/etc/systemd/system/vllm.service.d/override.conf",
)
SHOW_DROP_INS = ("systemctl", "show", "--no-pager", "-p", "Id,DropInPaths", "--", "vllm.service")
SERVE = "/usr/bin/vllm serve microsoft/Phi-4-mini-instruct --host 0.0.0.0 --port 8000"
LOOPBACK = (Listener("127.0.0.1", 8000, "vllm", 42, "vllm.service"),)


def started(
    files: Mapping[str, str | FileState | None],
    *,
    exec_start: str = SCRIPT,
    fragment: str = UNIT,
    listeners: tuple[Listener, ...] | None = None,
    answers: str = "",
) -> Scenario:
    """`exposed`, where systemd has this command line, and these files are there."""
    known = scenario.load("exposed")
    description = known.description
    shown = f"ExecStart={{ path={exec_start.split()[0]} ; argv[]={exec_start} ; ignore_errors=no ; start_time="

    drop_ins = " ".join(sorted(path for path in files if "/vllm.service.d/" in path))

    def show(output: Output) -> Output:
        out = re.sub(r"ExecStart=\{ path=/opt/vllm/start-vllm.sh ; .*?start_time=", lambda _: shown, output.out)
        of_unit = f"FragmentPath={fragment}\nDropInPaths={drop_ins}"
        return replace(output, out=re.sub(rf"FragmentPath={UNIT}(\nDropInPaths=.*)?", of_unit, out))

    commands = {key: show(output) for key, output in description.commands.items()}
    commands[SHOW_DROP_INS, ""] = Output(0, f"Id=vllm.service\nDropInPaths={drop_ins}\n")
    states = {
        path: FileState("file", one.encode(), 0o755, "vllm", "vllm") if isinstance(one, str) else one
        for path, one in files.items()
    }
    program = {"/usr/bin/vllm": FileState("file", b"#!/usr/bin/python3\n", 0o755)}
    program |= {path: FileState("directory", mode=0o755) for path in ("/etc", "/etc/vllm")}
    own = [one for one in description.listeners if one.unit != "vllm.service"]
    here = description.listeners if listeners is None else (*own, *listeners)
    return replace(
        known,
        description=replace(
            description,
            commands=commands,
            files={**description.files, **program, **states},
            listeners=here,
            answers=answers.encode() or description.answers,
        ),
    )


def unit(exec_start: str = SERVE, more: str = "") -> str:
    return f"[Unit]\nDescription=vLLM\n\n[Service]\nUser=vllm\n{more}ExecStart={exec_start}\nRestart=on-failure\n"


def findings(server: Scenario) -> dict[str, Finding]:
    return {one.key: one for one in bind.inspect(server.look())}


def launch(server: Scenario) -> Finding:
    return findings(server)["bind.launch_script"]


IN_UNIT = started({UNIT: unit()}, exec_start=SERVE)
IN_DROP_IN = started(
    {UNIT: unit("/opt/old/start.sh"), DROP_IN: f"[Service]\nExecStart=\nExecStart={SERVE}\n"}, exec_start=SERVE
)
RIGHT = {UNIT: unit(SERVE.replace("0.0.0.0", "127.0.0.1"))}
READ_BY_NOBODY = started(RIGHT, exec_start=SERVE)
READ_LATER = started(RIGHT, exec_start=SERVE, listeners=LOOPBACK)
# As systemd prints it: the quotes of the unit are gone, those of the program are not.
PROGRAM = 'source /opt/vllm/venv/bin/activate; exec vllm serve m --host "{}" --port 8000'
IN_SHELL = started(
    {UNIT: unit(f"/bin/bash -c '{PROGRAM.format('0.0.0.0')}'")}, exec_start=f"/bin/bash -c {PROGRAM.format('0.0.0.0')}"
)
IN_SHELL_READ_BY_NOBODY = started(
    {UNIT: unit(f"/bin/bash -c '{PROGRAM.format('127.0.0.1')}'")},
    exec_start=f"/bin/bash -c {PROGRAM.format('0.0.0.0')}",
)
BY_VARIABLE = started({SCRIPT: '#!/bin/bash\nexec vllm serve m --host "${HOST:-0.0.0.0}"\n', UNIT: unit(SCRIPT)})
BY_CONFIG = started(
    {
        SCRIPT: "#!/bin/bash\nexec vllm serve m --config /etc/vllm/config.yaml\n",
        "/etc/vllm/config.yaml": "host: 0.0.0.0\nport: 8000\n",
    }
)
FORMS = {
    "in-unit": IN_UNIT,
    "in-drop-in": IN_DROP_IN,
    "read-by-nobody": READ_BY_NOBODY,
    "read-later": READ_LATER,
    "in-shell": IN_SHELL,
    "in-shell-read-by-nobody": IN_SHELL_READ_BY_NOBODY,
    "by-variable": BY_VARIABLE,
    "by-config": BY_CONFIG,
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Scenario:
    return FORMS[request.param]


# ── the laws ──


def test_after_apply_nothing_is_left_and_vllm_is_on_loopback(form: Scenario) -> None:
    look, overlay = form.overlaid()
    book = Book(look)
    results = apply(book)
    assert [result.problem for result in results if result.problem] == []
    assert {result.status for result in walk(STEPS, book.look)} == {Status.OK, Status.SKIPPED}
    vllm = find_vllm(book.look)
    assert [str(one) for one in vllm.own_listeners] == ["127.0.0.1:8000"]
    assert vllm.launching.host == "127.0.0.1"
    assert overlay.performed


def rereads_vllm(actions: Iterable[Action]) -> bool:
    reload = ("systemctl", "daemon-reload")
    return any(isinstance(one, Run) and one.argv == reload and one != caddy.RELOAD for one in actions)


def test_apply_again_after_a_kill_anywhere_ends_in_the_same_state(form: Scenario) -> None:
    look, whole = form.overlaid()
    book = Book(look)
    apply(book)
    cuts = [(number, False) for number in range(len(book.performed))]
    cuts += [(number, True) for number, action in enumerate(book.actions) if isinstance(action, Write)]
    for number, when_done in cuts:
        overlay = Overlay(whole.below)
        cut = Book(replace(form.look(), server=overlay), number, when_done)
        with pytest.raises(Killed):
            walk(STEPS, cut.look, cut)
        resumed = Book(cut.look)
        walk(STEPS, resumed.look, resumed)
        assert overlay.differences() == whole.differences(), book.actions[number]
        assert rereads_vllm(overlay.performed) == rereads_vllm(book.actions)


def test_undo_after_apply_gives_back_the_state_before(form: Scenario) -> None:
    look, overlay = form.overlaid()
    book = Book(look)
    apply(book)
    left = undo(overlay, book.performed)
    # What ran was not what the unit's file said: any start takes up what the file says.
    assert set(left) <= (
        {"listeners"} if any(form is one for one in (READ_BY_NOBODY, IN_SHELL_READ_BY_NOBODY)) else set()
    )


# ── a unit without a script ──


@pytest.mark.parametrize(("server", "path"), [(IN_UNIT, UNIT), (IN_DROP_IN, DROP_IN)])
def test_command_is_edited_where_it_stands_and_systemd_reads_it_before_the_restart(server: Scenario, path: str) -> None:
    look, overlay = server.overlaid()
    (step,) = (one for one in STEPS if one.id == "bind")
    (result,) = walk([step], look)
    write, reread, restart, _ = result.actions
    assert isinstance(write, Write) and write.path == path and write.keep_attributes
    assert b"--host 127.0.0.1" in write.content and b"0.0.0.0" not in write.content
    assert [getattr(one, "argv", ())[1:] for one in (reread, restart)] == [
        ("daemon-reload",),
        ("restart", "vllm.service"),
    ]
    assert overlay.read(path) == FileState("file", write.content, 0o755, "vllm", "vllm")


def test_exported_script_edits_the_unit_and_has_systemd_read_it_before_the_restart() -> None:
    look, notes = IN_UNIT.look(), Notes()
    results = walk(STEPS, replace(look, server=Overlay(look.server)), notes)
    lines = [line.strip() for line in write_script(look, results, notes, "", "now").splitlines()]
    places = [
        next(number for number, line in enumerate(lines) if part in line)
        for part in (f"edit {UNIT}", "systemctl daemon-reload", "systemctl restart vllm.service")
    ]
    assert places == sorted(places)


def test_edit_is_put_back_and_read_where_vllm_fails_with_it() -> None:
    edit = next(action for action in launch(IN_UNIT).fix if isinstance(action, Write))
    (back,) = edit.otherwise
    assert isinstance(back, Write) and back.content == unit().encode()
    assert [then.argv[1] for then in back.then] == ["daemon-reload", "restart"]
    assert back.then[1].makes[0] == ListensOn("vllm.service", (("0.0.0.0", 8000),))


def test_right_file_that_systemd_has_not_read_is_read_and_vllm_restarted_only_where_it_listens_wrongly() -> None:
    exposed, loopback = launch(READ_BY_NOBODY), launch(READ_LATER)
    for found in (exposed, loopback):
        assert found.level is Level.DRIFT and "has not read that yet" in found.summary
    run, other = exposed.fix[0], loopback.fix[0]
    assert isinstance(run, Run) and [then.argv[1] for then in run.then] == ["restart"]
    assert isinstance(other, Run) and other.then == ()


@pytest.mark.parametrize(
    ("fragment", "do"),
    [
        (
            "/usr/lib/systemd/system/vllm.service",
            "sudo cp /usr/lib/systemd/system/vllm.service /etc/systemd/system/vllm",
        ),
        ("/run/systemd/generator/vllm.service", "where /run/systemd/generator/vllm.service is made from"),
    ],
)
def test_unit_of_a_package_or_a_generator_is_not_edited(fragment: str, do: str) -> None:
    found = launch(started({fragment: unit()}, exec_start=SERVE, fragment=fragment))
    assert found.level is Level.BLOCKED
    assert do in (found.remedy or "")
    bound = unit(SERVE.replace("0.0.0.0", "127.0.0.1"))
    right = started({fragment: bound}, exec_start=SERVE.replace("0.0.0.0", "127.0.0.1"), fragment=fragment)
    assert launch(right).level is Level.OK


def test_drop_in_that_adds_a_second_command_is_refused() -> None:
    found = launch(started({UNIT: unit(), DROP_IN: f"[Service]\nExecStart={SERVE}\n"}, exec_start=SERVE))
    assert found.level is Level.BLOCKED
    assert "ExecStart= without a value" in (found.remedy or "")


def test_program_of_a_shell_that_can_not_be_read_is_refused_with_what_to_write() -> None:
    inline = "/bin/bash -c 'eval vllm serve m --host 0.0.0.0'"
    found = launch(started({UNIT: unit(inline)}, exec_start=inline.replace("'", "")))
    assert found.level is Level.BLOCKED
    assert "the program that it gives to `/bin/bash`: vLLM is started through `eval`" in found.summary
    assert "ExecStart=/path/to/vllm serve MODEL --host 127.0.0.1" in (found.remedy or "")


def test_edited_program_of_a_shell_is_read_by_systemd_and_vllm_restarted_once() -> None:
    write = next(action for action in launch(IN_SHELL).fix if isinstance(action, Write))
    assert write.content.decode() == unit(f"/bin/bash -c '{PROGRAM.format('127.0.0.1')}'")
    assert [then.argv[1] for then in write.then] == ["daemon-reload", "restart"]
    found = launch(IN_SHELL_READ_BY_NOBODY)
    assert (found.level, "systemd has not read that yet" in found.summary) == (Level.DRIFT, True)
    right = f"/bin/bash -c {PROGRAM.format('127.0.0.1')}"
    files = {UNIT: unit(f"/bin/bash -c '{PROGRAM.format('127.0.0.1')}'")}
    assert launch(started(files, exec_start=right, listeners=LOOPBACK)).level is Level.OK


def test_shell_that_only_runs_a_script_leads_to_that_script() -> None:
    server = started({SCRIPT: f"#!/bin/bash\nexec {SERVE}\n"}, exec_start=f"/bin/bash -lc exec {SCRIPT}")
    (write,) = (action for action in launch(server).fix if isinstance(action, Write))
    assert write.path == SCRIPT


def test_port_and_host_of_a_unit_are_known_by_its_variables() -> None:
    serve = "/usr/bin/vllm serve m --host ${BIND} --port ${PORT}"
    server = started({UNIT: unit(serve, "Environment=BIND=::1 PORT=8123\n")}, exec_start=serve)
    vllm = find_vllm(server.look())
    assert (vllm.port, vllm.launching.host) == (8123, "::1")
    assert launch(server).level is Level.OK


# ── scripts ──


def test_variable_is_what_the_unit_says_it_is() -> None:
    script = '#!/bin/bash\nexec vllm serve m --host "${HOST:-0.0.0.0}" --port "${PORT:-8000}"\n'
    levels = {
        more: launch(started({SCRIPT: script, UNIT: unit(SCRIPT, more)})).level
        for more in ("", "Environment=HOST=127.0.0.1\n", "Environment=HOST=10.0.0.5\n")
    }
    assert list(levels.values()) == [Level.DRIFT, Level.OK, Level.DRIFT]
    server = started({SCRIPT: script, UNIT: unit(SCRIPT, "Environment=PORT=8123\n")})
    assert find_vllm(server.look()).port == 8123


def test_env_file_counts_more_than_the_unit() -> None:
    env = scenario.load("exposed").description.files["/etc/vllm/vllm.env"]
    assert env is not None
    files: dict[str, str | FileState | None] = {
        SCRIPT: '#!/bin/bash\nexec vllm serve m --host "$HOST"\n',
        UNIT: unit(SCRIPT, "Environment=HOST=127.0.0.1\n"),
        "/etc/vllm/vllm.env": replace(env, content=env.content + b"HOST=0.0.0.0\n"),
    }
    found = launch(started(files))
    assert (found.level, found.evidence["host"]) == (Level.DRIFT, "0.0.0.0")


@pytest.mark.parametrize(("given", "options"), [("", 1), (" --enforce-eager", 2)])
def test_arguments_that_the_unit_gives_its_script_are_reckoned_with(given: str, options: int) -> None:
    server = started({SCRIPT: '#!/bin/bash\nexec vllm serve m --host 0.0.0.0 "$@"\n'}, exec_start=SCRIPT + given)
    edit = next(action for action in launch(server).fix if isinstance(action, Write))
    assert edit.content.count(b"--host 127.0.0.1") == options


@pytest.mark.parametrize(
    ("config", "level", "said"),
    [
        ("host: 127.0.0.1\nport: 8000\n", Level.OK, "binds vLLM to loopback"),
        ("host: 0.0.0.0\n", Level.DRIFT, "leaves the host to /etc/vllm/config.yaml (0.0.0.0): the command line wins"),
        ("port: 8000\n", Level.DRIFT, "leaves the host to /etc/vllm/config.yaml (which has none)"),
        ("uds: /run/vllm.sock\n", Level.BLOCKED, "the UNIX socket /run/vllm.sock alone"),
        (None, Level.DRIFT, "names no --host"),
    ],
)
def test_config_file_of_vllm(config: str | None, level: Level, said: str) -> None:
    files = {SCRIPT: "#!/bin/bash\nexec vllm serve m --config /etc/vllm/config.yaml\n", "/etc/vllm/config.yaml": config}
    found = launch(started(files))
    assert found.level is level
    assert said in found.summary


def test_port_of_a_config_file_is_vllms_port() -> None:
    files = {SCRIPT: "#!/bin/bash\nexec vllm serve m --config /c.yaml\n", "/c.yaml": "port: 8123\n"}
    assert find_vllm(started(files).look()).port == 8123


def test_script_that_is_a_link_is_not_followed() -> None:
    link = FileState("link", b"/srv/vllm/start.sh", 0o777, "vllm", "vllm")
    found = launch(started({SCRIPT: link}))
    assert found.level is Level.BLOCKED
    assert "vllm: {launch_script: /srv/vllm/start.sh}" in (found.remedy or "")


UNREADABLE = '#!/bin/bash\nbash -c "exec vllm serve m --host $BIND"\n'


def test_script_that_cannot_be_read_blocks_only_where_vllm_is_not_on_loopback() -> None:
    exposed = findings(started({SCRIPT: UNREADABLE}))
    assert list(exposed) == ["bind.launch_script"] and exposed["bind.launch_script"].level is Level.BLOCKED
    bound = findings(started({SCRIPT: UNREADABLE}, listeners=LOOPBACK))
    assert (bound["bind.launch_script"].level, bound["bind.listener"].level) == (Level.WARN, Level.OK)
    assert "whether it will after its next start" in bound["bind.launch_script"].summary


def test_remedy_names_the_script() -> None:
    found = launch(started({SCRIPT: "#!/bin/bash\r\nvllm serve m\r\n"}))
    assert f"sudo sed -i 's/\\r$//' {SCRIPT}" in (found.remedy or "")


@pytest.mark.parametrize(
    "secret",
    ["export HF_TOKEN=hf_canary123456", "DB_PASSWORD='canary words'", 'MY_KEY="canary/+="', "--api-key sk-canary-1"],
)
def test_secret_beside_the_edit_is_never_shown(secret: str) -> None:
    line = secret if not secret.startswith("--") else "true"
    options = secret if secret.startswith("--") else ""
    look, overlay = started({SCRIPT: f"#!/bin/bash\n{line}\nexec vllm serve m --host 0.0.0.0 {options}\n"}).overlaid()
    results = walk(STEPS, look)
    (write,) = (action for action in overlay.performed if isinstance(action, Write) and action.path == SCRIPT)
    assert b"canary" in write.content
    assert "canary" not in repr([change.as_json() for result in results for change in result.changes])


# ── other sockets ──

OPEN = Firewall(True, True, True, (), scenario.load("exposed").look().server.firewall().defaults)


def other(port: int, program: str = "VLLM::EngineCore") -> Listener:
    return Listener("0.0.0.0", port, program, 43, "vllm.service")


def listening(*more: Listener, answers: str = "", name: str = "exposed") -> list[Finding]:
    known = scenario.load(name)
    description = replace(known.description, listeners=(*known.description.listeners, *more))
    if answers:
        description = replace(description, answers=answers.encode())
    look = replace(known, description=description).look()
    return [one for one in bind.inspect(look) if one.key == "bind.other_listener"]


@pytest.mark.parametrize(
    ("listener", "what"),
    [
        (other(41877), "up to version 0.27.1"),
        (other(29500), "torch.distributed's store"),
        (other(29550), "data parallel (ZMQ)"),
        (other(5557), "KV cache (ZMQ)"),
        (other(6379, "gcs_server"), "Ray's head"),
        (other(40001, "raylet"), "a part of Ray"),
    ],
)
def test_other_socket_is_named_and_judged(listener: Listener, what: str) -> None:
    (found,) = listening(listener, name="half-done")
    assert found.level is Level.WARN
    assert what in found.summary and "the firewall closes it" in found.summary
    assert found.evidence["closed"] is True
    assert f"sport = :{listener.port}" in (found.remedy or "")


def test_socket_that_no_firewall_closes_is_said_to_be_open_with_what_that_means() -> None:
    (found,) = listening(other(29550))
    assert "no firewall closes it, and whoever reaches it can run code" in found.summary
    assert "sudo ufw status numbered" in (found.remedy or "")
    managed = '{"version": 1, "firewall": {"manage": false}, "tls": {"mode": "internal"}}'
    (found,) = listening(other(29550), answers=managed)
    assert "in the firewall that you manage" in (found.remedy or "")


def test_rule_that_lets_others_to_it_opens_it() -> None:
    (found,) = listening(other(9100), name="ufw-active-with-rules")
    assert found.evidence["closed"] is False


def test_sockets_on_loopback_are_nobodys_business() -> None:
    assert listening(replace(other(29500), address="127.0.0.1")) == []


# ── taking it back ──


def test_edit_is_taken_back_with_the_files_attributes_kept() -> None:
    before = FileState("file", unit().encode(), 0o640, "root", "root")
    edit = next(action for action in launch(IN_UNIT).fix if isinstance(action, Write))
    back, *told = undo_actions([(edit, before)])
    assert isinstance(back, Write) and back.keep_attributes and back.content == before.content
    assert [one.argv[1] for one in told if isinstance(one, Run)] == ["daemon-reload", "restart"]
