"""What vLLM gets as its environment, and its API key: from its unit, env files, launch script and command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .engine import Look
from .mask import is_secret
from .model import Secret, SetupError
from .parse.environment import Flaw, parse_environment
from .parse.launch import Launch
from .parse.shell_settings import exports_all, parse_shell_settings, parse_sourced
from .parse.unit_files import parse_assigned
from .parse.units import parse_environment_files
from .server import FileState, Unit, read_through

KEY_NAME = "VLLM_API_KEY"
LARGEST = 64 * 1024  # bytes; an environment of more than 128 KiB starts no program
_VARIABLE = re.compile(r'"?\$\{?(\w+)(?::?-[^}]*)?\}?"?')


@dataclass(frozen=True)
class Setting:
    """A variable as vLLM gets it, and the file that sets it. None: not known before vLLM starts."""

    value: str | None = field(repr=False)
    path: str
    readable: bool = False


@dataclass(frozen=True)
class VllmEnvironment:
    """`files` were read, `missing` are not there; `flaws` are what systemd reads otherwise than was meant, by file.

    `key_file` is where the key stands, `shown` says that it is an argument of vLLM, `readable` that every user of
    this server can read its file.
    """

    files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    variables: dict[str, Setting] = field(default_factory=dict)
    flaws: tuple[tuple[str, Flaw], ...] = ()
    key: Secret | None = None
    key_file: str = ""
    key_unknown: bool = False
    key_empty: bool = False
    shown: bool = False
    readable: bool = False


def read_environment(
    look: Look, unit: Unit, script_path: str, script: FileState | None, launch: Launch
) -> VllmEnvironment:
    """In systemd's order, then what the script sets, then the command line: the last one counts.

    Every value that may be a secret is masked from here on.
    """
    found, missing, flaws = [], [], []
    variables = dict(_of_unit(look, unit))
    for path, optional in _files(look, unit):
        state = read_through(look.server, path)
        if state is None or state.kind != "file":
            if not optional:
                missing.append(path)
            continue
        if len(state.content) > LARGEST:
            raise SetupError(
                f"{path} has more than {LARGEST // 1024} KiB, which no environment has", f"look: head {path}"
            )
        found.append(path)
        environment = parse_environment(state.text)
        flaws += [(path, flaw) for flaw in environment.flaws]
        for entry in environment.entries:
            variables[entry.name] = Setting(entry.value, path, _is_readable(state))
    for name, setting in variables.items():
        look.mask.add_environment(name, setting.value or "")
    for name, setting in _of_script(look, script_path, script):
        variables[name] = setting
        if is_secret(name):
            look.mask.add(setting.value or "")
    key, shown = _key(look, variables, launch, unit, script_path)
    return VllmEnvironment(
        tuple(found),
        tuple(missing),
        variables,
        tuple(flaws),
        Secret(key.value) if key is not None and key.value else None,
        key.path if key is not None else "",
        key is not None and key.value is None,
        key is not None and key.value == "",
        shown,
        key is not None and key.readable,
    )


def _is_readable(state: FileState) -> bool:
    return bool(state.mode & 0o004)


def _files(look: Look, unit: Unit) -> list[tuple[str, bool]]:
    wanted = look.answers.vllm.env_file
    if wanted != "auto":
        return [(wanted, False)]
    return list(parse_environment_files(unit.properties.get("EnvironmentFiles", "")))


def _of_unit(look: Look, unit: Unit) -> Iterator[tuple[str, Setting]]:
    """What `Environment=` sets. Where the files can't be read, systemctl tells every user all the same."""
    own = (unit.properties.get("FragmentPath", ""), *unit.properties.get("DropInPaths", "").split())
    states = [(path, state) for path in own if path and (state := read_through(look.server, path)) is not None]
    for one in parse_assigned((path, state.text) for path, state in states if state.kind == "file"):
        yield one.name, Setting(one.value, one.path, True)


def _of_script(look: Look, path: str, script: FileState | None) -> Iterator[tuple[str, Setting]]:
    if script is None or script.kind != "file" or b"\0" in script.content or len(script.content) > LARGEST:
        return
    texts = [(path, script, False)]
    for sourced in parse_sourced(script.text):
        state = None if sourced.endswith("/activate") else read_through(look.server, sourced, script)
        if state is not None and state.kind == "file" and len(state.content) <= LARGEST:
            texts.append((sourced, state, exports_all(script.text)))
    for place, state, all_exported in texts:
        for one in parse_shell_settings(state.text, all_exported=all_exported):
            if not one.exported or not (one.name.startswith("VLLM_") or is_secret(one.name)):
                continue
            # Whoever writes the script could else have any file of root's sent to vLLM as its key.
            kept = read_through(look.server, one.path, state) if one.path else None
            if kept is not None and kept.kind == "file" and len(kept.content) <= LARGEST:
                yield one.name, Setting(kept.text.strip(), one.path, _is_readable(kept))
            else:
                yield one.name, Setting(one.value, place, _is_readable(state))


def _key(
    look: Look, variables: dict[str, Setting], launch: Launch, unit: Unit, script_path: str
) -> tuple[Setting | None, bool]:
    """The key that counts, and whether it is an argument of vLLM, which every user of the server can list."""
    key = variables.get(KEY_NAME)
    given = [text for command in launch.commands for text in command.api_keys]
    if not given:
        return key, False
    place = script_path or unit.properties.get("FragmentPath", "")
    for text in given:
        named = _VARIABLE.fullmatch(text)
        if named is None and "$" not in text:
            look.mask.add(text)
            return Setting(text, place, True), True
        if named is not None and named[1] in variables:
            return variables[named[1]], True
    return Setting(None, place, True), True
