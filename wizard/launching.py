"""The file that has the command which starts vLLM: a launch script, or the unit itself; and its smallest edit."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .engine import Look
from .mask import Mask
from .model import UnitRead
from .parse.exec_start import bind_exec, exec_lines, exec_words, holds_command, parse_exec, parse_set
from .parse.in_shell import host_given
from .parse.launch import Edit, Launch, VllmCommand, bind_to, parse_launch
from .parse.start import parse_start
from .parse.units import parse_exec_commands, parse_show
from .parse.vllm_config import VllmConfig, parse_vllm_config
from .paths import UNITS
from .server import FileState, Unit, read_through

NOTHING = Launch((), None)
_NAMED_SECRET = re.compile(r"\b\w*(?:KEY|TOKEN|SECRET|PASS|CREDENTIAL)\w*=(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"';]+)", re.I)


@dataclass(frozen=True)
class Launching:
    """`state` is None where there is no such file. `foreign`: a package's file or a generated one, not to be edited.

    `environment` is what the service gets: the variables of its unit and its env files.
    """

    path: str
    state: FileState | None
    launch: Launch = NOTHING
    in_unit: bool = False
    foreign: bool = False
    arguments: bool = False
    environment: Mapping[str, str] | None = None
    config: VllmConfig | None = None

    @property
    def command(self) -> VllmCommand | None:
        return self.launch.command

    @property
    def host(self) -> str | None:
        """Where it has vLLM listen; None where it does not say so, or not for certain."""
        return self.command.host if self.command else None

    def bind(self, host: str) -> Edit:
        """The file's content with vLLM bound to this host."""
        assert self.state is not None
        if self.launch.refusal is not None:
            return Edit(None, self.launch.refusal, self.launch.remedy)
        if self.in_unit:
            return bind_exec(self.state.content, host, self.environment, self.config)
        content, arguments = self.state.content, self.arguments
        return bind_to(content, host, self.environment, arguments=arguments, config=self.config)

    def read_by_systemd(self, name: str, content: bytes) -> UnitRead:
        """What systemd knows of the unit once it has read this content."""
        argv = " ".join(exec_words(content))
        return UnitRead(name, f"{{ path={argv.partition(' ')[0]} ; argv[]={argv} ; ignore_errors=no }}")


def find_launching(look: Look, unit: Unit, path: str, variables: Mapping[str, str]) -> Launching:
    """By the launch script at `path`, unless the unit starts vLLM itself. `variables` are those of the env files."""
    argv = _argv(unit)
    if look.answers.vllm.launch_script == "auto" and holds_command(argv):
        found = _in_unit(look, unit, variables)
    else:
        found = _in_script(look, unit, argv, path, variables)
    if found.state is not None:
        _mask_secrets(look.mask, found)
    config = _config(look, found)
    if config is None:
        return found
    commands = tuple(
        replace(one, host=one.host or config.host, port=one.port or config.port)
        if one.config is not None and not one.dynamic_host
        else one
        for one in found.launch.commands
    )
    return replace(found, launch=replace(found.launch, commands=commands), config=config)


def _argv(unit: Unit) -> tuple[str, ...]:
    commands = parse_exec_commands(unit.properties.get("ExecStart", ""))
    return commands[-1] if commands else ()


def _in_script(look: Look, unit: Unit, argv: Sequence[str], path: str, variables: Mapping[str, str]) -> Launching:
    arguments = path not in argv or argv[-1] != path
    script = look.server.read(path) if path else None
    if script is None or script.kind != "file":
        return Launching(path, script, arguments=arguments)
    launch = parse_launch(script.content, variables, arguments=arguments)
    if launch.asked - set(variables):
        # Only then: most scripts ask for nothing that their unit might set.
        variables = {**_set_by(look, _files(look, unit)), **variables}
        launch = parse_launch(script.content, variables, arguments=arguments)
    return Launching(path, script, launch, arguments=arguments, environment=variables)


def _in_unit(look: Look, unit: Unit, variables: Mapping[str, str]) -> Launching:
    """The unit's file or the drop-in whose ExecStart= counts: the last that has one."""
    files = _files(look, unit)
    environment = {**_set_by(look, files), **variables}
    having = [(path, state) for path, state in files if state.kind == "file" and exec_lines(state.content)]
    if not having:
        return Launching(files[0][0], files[0][1], in_unit=True) if files else Launching("", None, in_unit=True)
    path, state = having[-1]
    launch = parse_exec(state.content, environment)
    before = [line for _, one in having[:-1] for line in exec_lines(one.content) if line.text]
    if before and exec_lines(state.content)[0].text:
        remedy = f"put a line ExecStart= without a value before the other one in {path}: it clears those before it"
        launch = Launch((), f"it adds a command to the ExecStart= of {having[0][0]}", remedy)
    foreign = not path.startswith(f"{UNITS}/")
    return Launching(path, state, launch, in_unit=True, foreign=foreign, environment=environment)


def _files(look: Look, unit: Unit) -> list[tuple[str, FileState]]:
    """The unit's file and its drop-ins, in systemd's order, as they are: a link is one."""
    known = unit.properties
    if "DropInPaths" not in known:
        argv = ("systemctl", "show", "--no-pager", "-p", "Id,DropInPaths", "--", unit.name)
        known = {**known, **next(iter(parse_show(look.server.query(argv).out).values()), {})}
    paths = (known.get("FragmentPath", ""), *known.get("DropInPaths", "").split())
    return [(path, state) for path in paths if path and (state := look.server.read(path)) is not None]


def _set_by(look: Look, files: Sequence[tuple[str, FileState]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_set(state.text for _, state in files if state.kind == "file"):
        look.mask.add_environment(name, value)
        found[name] = value
    return found


def _mask_secrets(mask: Mask, found: Launching) -> None:
    """What stands beside the command, and would be shown with an edit of it."""
    assert found.state is not None
    for one in _NAMED_SECRET.finditer(found.state.text):
        if not one[1].strip("\"'").startswith("$"):
            mask.add(one[1].strip("\"'"))
    for command in found.launch.commands:
        for key in command.api_keys:
            if "$" not in key:
                mask.add(key)


def _config(look: Look, found: Launching) -> VllmConfig | None:
    """What the file of --config says, if it can be told which file that is."""
    path = found.command.config if found.command else None
    if path is None or not posixpath.isabs(path):
        return None
    state = read_through(look.server, path, found.state)
    return parse_vllm_config(path, state.content) if state is not None and state.kind == "file" else None


def loaded_host(unit: Unit) -> str | None:
    """The --host of the command line that systemd has in memory; it may be older than the unit's file."""
    host, words = None, iter(_argv(unit))
    if parse_start(unit.properties.get("ExecStart", "")).program_text:
        return host_given(unit.properties["ExecStart"])
    for word in words:
        if word == "--host":
            host = next(words, None)
        elif word.startswith("--host="):
            host = word.removeprefix("--host=")
    return host
