"""A recorded server with something else about it: what a test of one circumstance changes, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from tests.servers import scenario
from tests.servers.scenario import Scenario
from wizard.described import Description
from wizard.engine import Look, accepted
from wizard.model import Finding, Output
from wizard.server import FileState, Listener, Response
from wizard.steps import preflight

SCRIPT, ENV, UNIT = "/opt/vllm/start-vllm.sh", "/etc/vllm/vllm.env", "/etc/systemd/system/vllm.service"
VLLM_ENV = "# Secrets\nVLLM_API_KEY=sk-of-the-test/0a1B2c3D4e5F6g7H8i9J==\n"


def exposed(name: str = "exposed") -> Scenario:
    return scenario.load(name)


def _described(server: Scenario, change: Callable[[Description], Description]) -> Scenario:
    return replace(server, description=change(server.description))


def with_files(
    server: Scenario,
    files: Mapping[str, str | FileState | None],
    directories: Mapping[str, tuple[str, ...]] | None = None,
) -> Scenario:
    """Files by path: text keeps the mode of what was there; None is absent."""
    known = server.description.files

    def state(path: str, given: str | FileState | None) -> FileState | None:
        if not isinstance(given, str):
            return given
        before = known.get(path)
        return replace(before, content=given.encode()) if before is not None else FileState("file", given.encode())

    changed = {path: state(path, given) for path, given in files.items()}
    above = {str(one): FileState("directory", mode=0o755) for path in files for one in PurePosixPath(path).parents}
    changed = {**{path: one for path, one in above.items() if path not in known}, **changed}
    return _described(
        server,
        lambda one: replace(
            one, files={**one.files, **changed}, directories={**one.directories, **(directories or {})}
        ),
    )


def with_command(server: Scenario, program: str, output: Output | str, *, has: str = "") -> Scenario:
    """What the commands of this program say, those whose words have `has` in them."""
    said = Output(0, output) if isinstance(output, str) else output
    commands = {
        (argv, stdin): said if argv[0] == program and has in " ".join(argv) else known
        for (argv, stdin), known in server.description.commands.items()
    }
    assert commands != dict(server.description.commands), f"no such command was recorded, or it says that: {program}"
    return _described(server, lambda one: replace(one, commands=commands))


def with_new_command(server: Scenario, argv: Iterable[str], output: str) -> Scenario:
    commands = {**server.description.commands, (tuple(argv), ""): Output(0, output)}
    return _described(server, lambda one: replace(one, commands=commands))


def edited_command(server: Scenario, program: str, edit: Callable[[str], str], *, has: str = "") -> Scenario:
    """The program's recorded output, edited."""
    commands = {
        (argv, stdin): replace(known, out=edit(known.out)) if argv[0] == program and has in " ".join(argv) else known
        for (argv, stdin), known in server.description.commands.items()
    }
    assert commands != dict(server.description.commands), "the edit changes nothing"
    return _described(server, lambda one: replace(one, commands=commands))


def with_unit(server: Scenario, name: str = "vllm.service", **properties: str) -> Scenario:
    """The properties of one unit as `systemctl show` has them; one that was not there is added."""

    def edit(shown: str) -> str:
        blocks = shown.split("\n\n")
        for number, block in enumerate(blocks):
            if f"Id={name}" in block.split("\n"):
                kept = [line for line in block.split("\n") if line.partition("=")[0] not in properties]
                lines = [f"{key}={one}" for key, value in properties.items() for one in value.split("\n")]
                blocks[number] = "\n".join([*(line for line in kept if line), *lines])
        return "\n\n".join(blocks)

    return edited_command(server, "systemctl", edit, has=name)


def exec_start(command: str) -> str:
    path = command.split()[0]
    return (
        f"{{ path={path} ; argv[]={command} ; ignore_errors=no ; start_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }}"
    )


def with_listeners(server: Scenario, *more: Listener, without: Iterable[int] = ()) -> Scenario:
    gone = set(without)
    return _described(
        server,
        lambda one: replace(one, listeners=(*(known for known in one.listeners if known.port not in gone), *more)),
    )


def with_answers(server: Scenario, text: str) -> Scenario:
    return _described(
        server, lambda one: replace(one, answers=f"version: 1\ntls: {{mode: internal}}\n{text}\n".encode())
    )


def with_exchange(server: Scenario, path: str, response: Response) -> Scenario:
    """What vLLM answers to requests for this path."""
    exchanges = {
        asked: response if f":8000{path} " in asked[0] else known
        for asked, known in server.description.exchanges.items()
    }
    assert exchanges != dict(server.description.exchanges), f"not recorded, or the same: {path}"
    return _described(server, lambda one: replace(one, exchanges=exchanges))


def findings(server: Scenario, look: Look | None = None) -> dict[str, Finding]:
    """What preflight finds, by key without the step's name; of several with one key the first."""
    look = look or server.look()
    found: dict[str, Finding] = {}
    for finding in accepted(preflight.inspect(look), look.answers.preflight.accept):
        assert finding.key.startswith("preflight.")
        found.setdefault(finding.key.removeprefix("preflight."), finding)
    return found
