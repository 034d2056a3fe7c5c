"""Notes everything that a plan, a status and an apply that was cut off anywhere ask a machine.

`record` runs this file on a booted server, by the interpreter of the program that is installed there:
    python -I recording.py <answers.yaml >recording.json
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from wizard import answers as answers_file
from wizard import paths
from wizard.described import UNCHECKED, Question, question
from wizard.engine import Look, NoWatcher, begin, prove, walk
from wizard.facts import Facts
from wizard.hardware import DMI
from wizard.mask import Mask
from wizard.model import Output
from wizard.overlay import Overlay
from wizard.owned import load_owned
from wizard.server import Address, DnsAnswer, FileState, Listener, Machine, Reach, Request, Response, Target
from wizard.steps import STEPS
from wizard.system import RealMachine, find_operator
from wizard.vllm import find_vllm

Table = dict[str, Any]
# What stands for the API key in a recording: each of / + = is in it, so that every quoting is met.
CANARY = "sk-test/canary+0a1B2c3D4e5F=="
PROGRAMS = ("/usr/bin", "/usr/sbin")
LEFT_OUT = b"(a program: its content is left out of the recording)\n"
MOST_BYTES = 512 * 1024
VERSIONS = ("systemd", "ufw", "iptables", "openssh-server", "apt", "dpkg", "caddy")


class RecordingMachine:
    """A machine on top of another: passes every question on, and keeps the first answer to each."""

    def __init__(self, below: Machine) -> None:
        self.below = below
        self.commands: dict[tuple[tuple[str, ...], str], Output] = {}
        self.files: dict[str, FileState | None] = {}
        self.directories: dict[str, tuple[str, ...]] = {}
        self.exchanges: dict[Question, Response] = {}
        self.fetches: dict[str, Response] = {}
        self.reached: dict[Target, Reach] = {}
        self.connected: dict[tuple[int, ...], tuple[str, ...]] = {}
        self.resolved: dict[Question, DnsAnswer] = {}

    def command(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Output:
        output = self.below.command(argv, timeout_s=timeout_s, stdin=stdin, environment=environment)
        return self.commands.setdefault((tuple(argv), stdin.decode("utf-8", "replace")), output)

    def read(self, path: str) -> FileState | None:
        # What it says of itself is of the machine that the lab stands on, not of the server.
        state = None if path.startswith(DMI) else self.below.read(path)
        if state is not None and state.kind == "file" and str(PurePath(path).parent) in PROGRAMS:
            state = replace(state, content=LEFT_OUT)
        if state is not None and len(state.content) > MOST_BYTES:
            raise ValueError(f"{path} is too large for a recording")
        return self.files.setdefault(path, state)

    def names(self, directory: str) -> tuple[str, ...]:
        return self.directories.setdefault(directory, self.below.names(directory))

    def listeners(self) -> tuple[Listener, ...]:
        return self.below.listeners()

    def addresses(self) -> tuple[Address, ...]:
        return self.below.addresses()

    def host_names(self) -> tuple[str, ...]:
        return self.below.host_names()

    def exchange(self, request: Request) -> Response:
        return self.exchanges.setdefault(question(request), self.below.exchange(request))

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        return self.fetches.setdefault(url, self.below.fetch(url, timeout_s, ca_file))

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        return self.resolved.setdefault((name, kind, server or ""), self.below.resolve(name, kind, server))

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]:
        found = self.below.reach(targets)
        return tuple(self.reached.setdefault(one.target, one) for one in found)

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]:
        return self.connected.setdefault(tuple(ports), self.below.connections(ports))

    def now(self) -> float:
        return self.below.now()

    def sleep(self, seconds: float) -> None:
        self.below.sleep(seconds)


class CutOff(NoWatcher):
    """Stops a walk before action number `after`, as a kill between two actions would."""

    def __init__(self, after: int) -> None:
        self._left = after

    def is_stop_asked(self) -> bool:
        self._left -= 1
        return self._left < 0


def ask_everything(look: Look) -> None:
    """A plan, an apply that was cut off after each of its actions and begun again, and the final test."""
    assert isinstance(look.server, Facts)
    begin(STEPS, look)
    for step in STEPS:
        tuple(step.inspect(look))
    overlay = Overlay(look.server)
    walk(STEPS, replace(look, server=overlay))
    walk(STEPS, replace(look, server=overlay))
    overlay.differences()
    for number in range(len(overlay.performed)):
        cut = Overlay(look.server)
        walk(STEPS, replace(look, server=cut), CutOff(number))
        walk(STEPS, replace(look, server=cut))
        cut.differences()
    # `test` asks with a fresh look, `status` after a plan: what the first asks holds for both.
    for _ in prove(STEPS, replace(look, server=Facts(look.server.machine))):
        """Only the questions are wanted here."""


def describe(machine: RecordingMachine, look: Look) -> Table:
    """What was recorded, as tables in a stable order, and with no secret in it."""
    operator = look.operator
    about: Table = {"answers": answers_file.dump(look.answers), "now": round(machine.now())}
    if operator is not None:
        about["operator"] = asdict(operator)
    about["host_names"] = list(machine.host_names())
    about["absent"] = sorted(path for path, state in machine.files.items() if state is None)
    commands = sorted(machine.commands.items(), key=_first)
    # Only what is not checked against a CA is judged by the certificate itself.
    exchanges = [
        (key, one if UNCHECKED in key else replace(one, certificate=b""))
        for key, one in sorted(machine.exchanges.items(), key=_first)
    ]
    tables: Table = {
        "look": about,
        "addresses": [asdict(one) for one in machine.addresses()],
        "listeners": [asdict(one) for one in machine.listeners()],
        "reached": [
            {
                "address": one.target.address,
                "port": one.target.port,
                "state": one.state,
                "detail": one.detail,
                "ms": round(one.ms),
            }
            for one in sorted(machine.reached.values(), key=lambda one: (one.target.port, one.target.address))
        ],
        "connections": [
            {"ports": list(ports), "from": list(found)} for ports, found in sorted(machine.connected.items())
        ],
        "directories": [{"path": path, "names": list(names)} for path, names in sorted(machine.directories.items())],
        "files": [_file(path, state) for path, state in sorted(machine.files.items()) if state is not None],
        "commands": [_command(argv, stdin, output) for (argv, stdin), output in commands],
        "exchanges": [{"question": list(key), **_response(one)} for key, one in exchanges],
        "fetches": [{"url": url, **_response(one)} for url, one in sorted(machine.fetches.items(), key=_first)],
        "resolved": [_dns(key, one) for key, one in sorted(machine.resolved.items())],
    }
    found = without_secrets(tables, look)
    assert isinstance(found, dict)
    return found


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _content(content: bytes) -> Table:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}
    plain = all(one.isprintable() or one in "\n\t" for one in text)
    return {"text": text} if plain else {"base64": base64.b64encode(content).decode()}


def _file(path: str, state: FileState) -> Table:
    attributes = {"mode": f"{state.mode:04o}", "owner": state.owner, "group": state.group}
    return {"path": path, "kind": state.kind, **attributes, **_content(state.content)}


def _command(argv: tuple[str, ...], stdin: str, output: Output) -> Table:
    said = {"out": output.out, "err": output.err, "stdin": stdin}
    return {"argv": list(argv), "code": output.code, **{name: text for name, text in said.items() if text}}


def _dns(asked: Question, answer: DnsAnswer) -> Table:
    found: Table = dict(zip(("name", "kind", "server"), asked, strict=True))
    found |= {"status": answer.status, "values": list(answer.values), "ttl": answer.ttl, "detail": answer.detail}
    return {name: value for name, value in found.items() if value}


def _response(response: Response) -> Table:
    found: Table = {"status": response.status, "ms": round(response.ms)}
    found |= {"error": response.error} if response.error else {}
    found |= {"tls_version": response.tls_version} if response.tls_version else {}
    found |= {"certificate": base64.b64encode(response.certificate).decode()} if response.certificate else {}
    found |= {"headers": [list(pair) for pair in response.headers]} if response.headers else {}
    if len(response.pieces) > 1:
        found["pieces"] = [[round(at, 1), len(piece)] for at, piece in response.pieces]
    return {**found, **(_content(response.body) if response.body else {})}


def without_secrets(value: Any, look: Look) -> Any:
    """The API key becomes the canary, in every form that it takes; what else the mask knows becomes dots."""
    key = find_vllm(look).key
    ways: tuple[Callable[[str], str], ...] = (str, quote, lambda text: quote(text, safe=""))
    # A sign that no text has stands in between: the mask would take a canary that is the key itself for a secret.
    forms = [(way(key.reveal()), chr(0xE000 + n), way(CANARY)) for n, way in enumerate(ways)] if key is not None else []

    def clean(one: Any) -> Any:
        match one:
            case str():
                for known, sign, _ in forms:
                    one = one.replace(known, sign)
                one = look.mask.text(one)
                for _, sign, stands in forms:
                    one = one.replace(sign, stands)
                return one
            case dict():
                return {name: clean(item) for name, item in one.items()}
            case list():
                return [clean(item) for item in one]
            case _:
                return one

    return clean(value)


def main() -> None:
    mask = Mask()
    real = RealMachine(mask)
    machine = RecordingMachine(real)
    answers = answers_file.load(sys.stdin.buffer.read())
    look = Look(Facts(machine), answers, find_operator(), load_owned(machine.read(paths.OWNED)), mask)
    ask_everything(look)
    described = describe(machine, look)
    versions = Facts(real).packages(*VERSIONS)
    described["versions"] = {name: one.version for name, one in versions.items() if one.installed}
    json.dump(described, sys.stdout)


if __name__ == "__main__":
    main()
