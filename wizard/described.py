"""A machine that answers from a description: a TOML file, most of them recorded from booted servers.

What is not described is an error: nothing is guessed.
"""

from __future__ import annotations

import base64
import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .model import Output
from .queries import show_units
from .server import Address, DnsAnswer, FileState, Listener, Operator, Reach, Request, Response, Target

# Stands for "no CA" in a described request.
UNCHECKED = "(unchecked)"
Table = dict[str, Any]
Question = tuple[str, ...]
K = TypeVar("K")
V = TypeVar("V")


class NotDescribed(Exception):
    """The machine was asked what its description does not say. Not a SetupError: no step may take it for an answer."""


def question(request: Request) -> Question:
    """What a described answer is found by: all of the request but the key's value and the patience."""
    return (
        request.key,
        request.unix,
        "" if request.server_name is None else request.server_name,
        UNCHECKED if request.ca_file is None else request.ca_file,
        request.body.decode("utf-8", "replace"),
    )


@dataclass(frozen=True)
class Description:
    """A server as it answered, and with which answers and by which operator it was looked at."""

    answers: bytes
    operator: Operator | None
    now: float
    commands: Mapping[tuple[tuple[str, ...], str], Output]
    files: Mapping[str, FileState | None]
    directories: Mapping[str, tuple[str, ...]]
    host_names: tuple[str, ...]
    addresses: tuple[Address, ...]
    listeners: tuple[Listener, ...]
    exchanges: Mapping[Question, Response]
    fetches: Mapping[str, Response]
    reached: Mapping[Target, Reach]
    connections: Mapping[tuple[int, ...], tuple[str, ...]]
    resolved: Mapping[Question, DnsAnswer]


class DescribedMachine:
    """A `Machine` that answers what its description says. Time stands still on it."""

    def __init__(self, description: Description) -> None:
        self.description = description

    def command(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Output:
        key = (tuple(argv), stdin.decode("utf-8", "replace"))
        if key not in self.description.commands and (shown := self._shown(tuple(argv))) is not None:
            return shown
        return self._answer(self.description.commands, key, f"command {list(argv)}")

    def _shown(self, argv: tuple[str, ...]) -> Output | None:
        """What `systemctl show` says of these units, where others were described together with them."""
        names = argv[len(show_units()) :]
        if argv != show_units(*names) or not set(names) <= self._units.keys():
            return None
        return Output(0, "\n".join(self._units[name] for name in names))

    @functools.cached_property
    def _units(self) -> dict[str, str]:
        """What is described of each unit: one block a name, with a blank line between them."""
        units: dict[str, str] = {}
        for (argv, _), output in self.description.commands.items():
            names = argv[len(show_units()) :]
            blocks = [f"{block.strip()}\n" for block in output.out.split("\n\n")]
            if argv == show_units(*names) and len(blocks) == len(names):
                units |= dict(zip(names, blocks, strict=True))
        return units

    def read(self, path: str) -> FileState | None:
        return self._answer(self.description.files, path, f"file {path}")

    def names(self, directory: str) -> tuple[str, ...]:
        return self._answer(self.description.directories, directory, f"directory {directory}")

    def listeners(self) -> tuple[Listener, ...]:
        return self.description.listeners

    def addresses(self) -> tuple[Address, ...]:
        return self.description.addresses

    def host_names(self) -> tuple[str, ...]:
        return self.description.host_names

    def exchange(self, request: Request) -> Response:
        return self._answer(self.description.exchanges, question(request), f"request {question(request)}")

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        return self._answer(self.description.fetches, url, f"fetch of {url}")

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        key = (name, kind, server or "")
        return self._answer(self.description.resolved, key, f"DNS question {key}")

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]:
        return tuple(self._answer(self.description.reached, target, f"packet to {target}") for target in targets)

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]:
        return self._answer(self.description.connections, tuple(ports), f"connections to {list(ports)}")

    def now(self) -> float:
        return self.description.now

    def sleep(self, seconds: float) -> None:
        """Nothing changes on a described machine: there is nothing to wait for."""

    @staticmethod
    def _answer(known: Mapping[K, V], key: K, what: str) -> V:
        try:
            return known[key]
        except KeyError:
            raise NotDescribed(f"not described: {what}") from None


def read_description(text: str) -> Description:
    """The description that the file's text gives. Raises KeyError or ValueError where it is not one."""
    return describe(tomllib.loads(text))


def describe(data: Table) -> Description:
    """The same from the file's tables."""
    look = data["look"]
    operator = look.get("operator")
    return Description(
        answers=str(look["answers"]).encode(),
        operator=Operator(operator["address"], operator["port"]) if operator else None,
        now=float(look["now"]),
        commands={
            (tuple(one["argv"]), one.get("stdin", "")): Output(one["code"], one.get("out", ""), one.get("err", ""))
            for one in data.get("commands", ())
        },
        files={**dict.fromkeys(look["absent"]), **{one["path"]: _file(one) for one in data.get("files", ())}},
        directories={one["path"]: tuple(one["names"]) for one in data.get("directories", ())},
        host_names=tuple(look["host_names"]),
        addresses=tuple(Address(**one) for one in data.get("addresses", ())),
        listeners=tuple(Listener(**one) for one in data.get("listeners", ())),
        exchanges={tuple(one["question"]): _response(one) for one in data.get("exchanges", ())},
        fetches={one["url"]: _response(one) for one in data.get("fetches", ())},
        reached={
            (target := Target(one["address"], one["port"])): Reach(target, one["state"], one["detail"], one["ms"])
            for one in data.get("reached", ())
        },
        connections={tuple(one["ports"]): tuple(one["from"]) for one in data.get("connections", ())},
        resolved={
            (one["name"], one["kind"], one.get("server", "")): DnsAnswer(
                one["name"],
                one["kind"],
                tuple(one.get("values", ())),
                one["status"],
                one.get("ttl", 0),
                one.get("server", "") or "recursive",
                one.get("detail", ""),
            )
            for one in data.get("resolved", ())
        },
    )


def _content(table: Table) -> bytes:
    return base64.b64decode(table["base64"]) if "base64" in table else str(table.get("text", "")).encode()


def _file(table: Table) -> FileState:
    return FileState(table["kind"], _content(table), int(table["mode"], 8), table["owner"], table["group"])


def _response(table: Table) -> Response:
    """The pieces are described by arrival (ms) and length: together they are the body."""
    body, start, pieces = _content(table), 0, []
    for at, length in table.get("pieces", ()):
        pieces.append((float(at), body[start : start + length]))
        start += length
    return Response(
        table["status"],
        body,
        tuple((name, value) for name, value in table.get("headers", ())),
        table.get("error", ""),
        float(table.get("ms", 0)),
        table.get("tls_version", ""),
        certificate=base64.b64decode(table.get("certificate", "")),
        pieces=tuple(pieces),
    )
