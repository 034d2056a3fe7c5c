"""The three doors are shut: no test starts a process, asks the network or writes outside its own directory.

A test opens what it needs by name:
    @pytest.mark.allow_commands("bash")      programs, by the last part of their path ("python": this interpreter)
    @pytest.mark.allow_network("127.0.0.1")  addresses
    @pytest.mark.allow_writes("/dev/shm")    directories or files beside tmp_path
An audit hook (PEP 578) stands at the doors: no name that was imported before, and no library, gets around it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.configuration
import pytest

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events with a path as first argument, and where its directory's descriptor is among the arguments.
CHANGES = {
    "os.chmod": 2,
    "os.chown": 3,
    "os.mkdir": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.truncate": None,
    "os.removexattr": None,
    "os.setxattr": None,
    "os.utime": 3,
}
# Events with two paths: what is written is the second, and with a rename the first goes.
MOVES = {"os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,)}
STARTS = ("os.fork", "os.forkpty", "os.system", "pty.spawn")


@dataclass
class Doors:
    """What is open now; None: nobody watches. `forced` are the attempts on shut ones."""

    commands: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    places: tuple[str, ...] = ()
    forced: list[str] = field(default_factory=list)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITING and not isinstance(path, int):
                self.write(path)
        elif event in CHANGES:
            where = CHANGES[event]
            self.write(args[0], args[where] if where is not None else -1)
        elif event in MOVES:
            for number in MOVES[event]:
                self.write(args[number], args[2 + number] if len(args) > 2 + number else -1)
        elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
            self.start(os.path.basename(os.fsdecode(args[0])))
        elif event in STARTS:
            # What a fork becomes is seen by its exec, in the child.
            if not self.commands:
                self.refuse(f"a process: {event}")
        elif event == "socket.connect":
            self.ask(args[1])
        elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
            self.ask(args)

    def start(self, name: str) -> None:
        own = os.path.basename(sys.executable)
        if name not in self.commands and not ("python" in self.commands and name == own):
            self.refuse(f"a process: {name}")

    def ask(self, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else address
        if str(host) not in self.addresses:
            self.refuse(f"the network: {host}")

    def write(self, path: Any, directory: Any = -1) -> None:
        if isinstance(path, int):
            return
        place = os.fsdecode(path)
        if isinstance(directory, int) and directory >= 0 and not os.path.isabs(place):
            place = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), place)
        elif found := re.match(r"/proc/self/fd/\d+(?=/)", place):
            place = os.readlink(found[0]) + place[found.end() :]
        place = os.path.normpath(os.path.join(os.getcwd(), place))
        inside = any(place == one or place.startswith(f"{one}/") for one in self.places)
        if not inside and "/__pycache__" not in place:
            self.refuse(f"a write: {place}")

    def refuse(self, what: str) -> None:
        self.forced.append(what)
        raise PermissionError(f"a test went through a shut door, {what}; see tests/unit/conftest.py")


_shut: list[Doors] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _shut:
        _shut[-1].audit(event, args)


sys.addaudithook(_audit)


def pytest_configure(config: pytest.Config) -> None:
    # The same cases each time, none of which fails by its time: what was found on one machine is found on any other.
    still = hypothesis.settings(derandomize=True, deadline=None, database=None)
    hypothesis.settings.register_profile("still", still)
    hypothesis.settings.load_profile("still")
    for name, what in (("commands", "names"), ("network", "addresses"), ("writes", "paths")):
        config.addinivalue_line(
            "markers", f"allow_{name}(*{what}): opens this door by name; see tests/unit/conftest.py"
        )


def _named(request: pytest.FixtureRequest, marker: str) -> tuple[str, ...]:
    return tuple(str(word) for mark in request.node.iter_markers(marker) for word in mark.args)


@pytest.fixture(autouse=True)
def doors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Shut around every test. An attempt on one fails the test, also where the program caught the error."""
    base = tmp_path_factory.getbasetemp()
    hypothesis.configuration.set_hypothesis_home_dir(base / "hypothesis")
    bytecode = sys.pycache_prefix or str(base)
    now = Doors(
        frozenset(_named(request, "allow_commands")),
        frozenset(_named(request, "allow_network")),
        (str(base), str(base.resolve()), "/dev/null", bytecode, *_named(request, "allow_writes")),
    )
    _shut.append(now)
    try:
        yield now
    finally:
        _shut.remove(now)
    assert not now.forced, f"shut doors were forced: {now.forced}"


@pytest.fixture
def any_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files keep the caller's owner where the caller is not root, who alone may give them away."""
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "fchown", lambda *_: None)


@pytest.fixture
def own_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_owner: None) -> Path:
    """The program's own directories (runs, log, owned.json, lock) below tmp_path."""
    from wizard import paths

    for name in (
        "ETC",
        "ANSWERS",
        "STATE",
        "RUNS",
        "OWNED",
        "DRAFT",
        "RESTORE",
        "CHECKED",
        "RENDERED",
        "LOG",
        "RUNTIME",
        "LOCK",
    ):
        monkeypatch.setattr(paths, name, f"{tmp_path}{getattr(paths, name)}")
    return tmp_path
