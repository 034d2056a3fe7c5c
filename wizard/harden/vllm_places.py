"""Where vLLM's own files lie, and what its start needs beside them: what a sandbox must leave to it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..engine import Look
from ..mask import is_secret
from ..parse.unit_files import parse_unit_file
from ..server import Unit, read_through
from ..vllm import Vllm

HOMES = ("/home", "/root", "/run/user")
# Links may lead in a circle.
MOST_PARTS = 100
READ_ONLY = ("/usr", "/boot", "/efi", "/etc")
# Variables that name a directory which is written to: Hugging Face's, vLLM's, torch's, Triton's, CUDA's, XDG's.
_WRITTEN = re.compile(r"^(HOME|TMPDIR|.*_(HOME|CACHE|CACHE_DIR|CACHE_PATH|CACHE_ROOT|CONFIG_ROOT|DIR|WORKSPACE_BASE))$")
_WORKING = re.compile(r"(Working|Root)Directory=")
_PATH = re.compile(r"(?<![\w.$}~])/[\w.+@%/-]+")
# Programs that need rights of root's, or namespaces of their own.
_ELEVATED = re.compile(
    r"(?<![\w.-])(sudo|su|doas|runuser|gosu|setpriv|docker|podman|nerdctl|apptainer|singularity|enroot|bwrap|unshare"
    r"|nsenter|systemd-run|modprobe|mount|sysctl)(?=\s)"
)


@dataclass(frozen=True)
class Places:
    """`in_homes` are files of its own below a home, `written` directories below what would be read-only."""

    home: str
    in_homes: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


def find_places(look: Look, vllm: Vllm, own: str) -> Places:
    """By its user's home, its environment, its unit and its launch script; links on the way are followed. `own` is
    the drop-in that is ours."""
    home = _home_of(look, vllm.user)
    texts = list(_texts(look, vllm, own))
    plain = {
        name: one.value
        for name, one in vllm.environment.variables.items()
        if one.value and one.value.startswith("/") and not is_secret(name)
    }
    directories = [home, *_working_directories(texts), *(path for name, path in plain.items() if _WRITTEN.match(name))]
    written = {_resolved(look, one) for one in directories if one.startswith("/")}
    named = {path for text in texts for path in _PATH.findall(_without_comments(text))} | set(plain.values())
    # What is in a directory may be a file of any size: not looked at.
    beside = {posixpath.join(_resolved(look, posixpath.dirname(one)), posixpath.basename(one)) for one in named}
    return Places(
        home,
        tuple(sorted(path for path in written | beside if _is_below(path, HOMES))),
        tuple(sorted(path for path in written if _is_below(path, READ_ONLY))),
    )


def elevated(look: Look, vllm: Vllm, own: str) -> str:
    """A program in its script or unit that could not work confined; "" where there is none."""
    found = (_ELEVATED.search(_without_comments(text)) for text in _texts(look, vllm, own))
    return next((one[1] for one in found if one), "")


def unit_files(unit: Unit) -> tuple[str, ...]:
    """The unit's file and its drop-ins, in systemd's order."""
    paths = (unit.properties.get("FragmentPath", ""), *unit.properties.get("DropInPaths", "").split())
    return tuple(path for path in paths if path)


def _texts(look: Look, vllm: Vllm, own: str) -> Iterator[str]:
    for path in unit_files(vllm.unit):
        state = read_through(look.server, path) if path != own else None
        if state is not None and state.kind == "file":
            settings = parse_unit_file(state.text)
            yield "\n".join(f"{key}={value}" for section, key, value in settings if section == "Service")
    if not vllm.launching.in_unit and vllm.script is not None and vllm.script.kind == "file":
        yield vllm.script.text


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _working_directories(texts: Iterable[str]) -> list[str]:
    return [line.partition("=")[2].lstrip("-") for text in texts for line in text.splitlines() if _WORKING.match(line)]


def _home_of(look: Look, user: str) -> str:
    output = look.server.query(("getent", "passwd", user))
    fields = output.out.strip().split(":")
    return fields[5] if output.ok and len(fields) > 5 else ""


def _resolved(look: Look, path: str) -> str:
    """The path without links, as far as it is there."""
    left, done = [part for part in posixpath.normpath(path).split("/") if part], "/"
    for _ in range(MOST_PARTS):
        if not left:
            break
        one = posixpath.join(done, left.pop(0))
        state = look.server.read(one)
        if state is not None and state.kind == "link":
            target = posixpath.normpath(posixpath.join(done, state.text))
            left, done = [*(part for part in target.split("/") if part), *left], "/"
        else:
            done = one
    return posixpath.join(done, *left)


def _is_below(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)
