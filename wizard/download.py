"""Caddy's package, fetched while vLLM loads its model: apt then has it in its cache when its turn comes.

apt itself fetches it, obeying its proxy, with lists, a key and a cache apart: nobody waits for a lock, and no hook of
an update runs twice. What is in its cache apt compares by size alone: nothing is put there that apt has not verified by
the key that the plan has checked. The commands stand in the log at their time, as what went on beside the steps.

It begins when the firewall is done with: where ufw is switched on while something is fetched, that may stall. The
kernel followed no connection before, and takes one for new whose next packet comes from outside.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
from collections.abc import Iterable, Sequence
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from . import files
from .apt import CADDY, ENVIRONMENT, TIMEOUT_S, installed_by
from .caddy_source import KEYRING
from .engine import StepResult
from .model import Run, SetupError, Write
from .paths import RUNTIME
from .process import Process
from .system import Observer, RealMachine

HERE = f"{RUNTIME}/download"
KEY, LIST, LISTS, ARCHIVES = f"{HERE}/caddy.gpg", f"{HERE}/caddy.list", f"{HERE}/lists", f"{HERE}/archives"
CACHE = "/var/cache/apt/archives"
BEGINS_AFTER = "firewall"
# apt reads the one that its environment names first, then what lies in apt.conf.d, then this: apt.conf(5).
FIRST_CONF, LAST_CONF, SYSTEM_CONF = f"{HERE}/first.conf", f"{HERE}/apt.conf", "/etc/apt/apt.conf"
HOOKS = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
OWN = (
    *("-q", "-y", "-o", "Debug::NoLocking=1", "-o", f"Dir::Etc::sourcelist={LIST}", "-o", "Dir::Etc::sourceparts=-"),
    *("-o", f"Dir::State::Lists={LISTS}", "-o", f"Dir::Cache::Archives={ARCHIVES}"),
    *("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="),
)
COMMANDS = (
    ("apt-get", "update", *OWN, "-o", "APT::Update::Error-Mode=any"),
    ("apt-get", "install", *OWN, "--download-only", "--no-install-recommends", "--", CADDY),
)


def key_of_plan(results: Iterable[StepResult]) -> bytes:
    """The key that the plan has checked; b"" where it installs no Caddy, or does nothing just before that."""
    key, anything_between = b"", False
    for result in results:
        for action in result.actions:
            if isinstance(action, Write) and action.path == KEYRING:
                key = action.content
            if isinstance(action, Run) and CADDY in installed_by(action.argv):
                return key if anything_between else b""
        anything_between = result.step.id != BEGINS_AFTER and (anything_between or bool(result.actions))
    return b""


class Beside:
    """Tells the run's observer of what goes on beside it: notes for its log, for its events are those of the steps."""

    def __init__(self, observer: Observer) -> None:
        self._note = observer.note

    def command(self, line: str) -> None:
        self._note(f"beside the steps: $ {line}")

    def output(self, text: str) -> None:
        if text.strip():
            self._note(f"beside the steps: {text.rstrip()}")

    def ended(self, code: int, seconds: float) -> None:
        self._note(f"beside the steps: → exit {code}, {seconds:.2f} s")

    def note(self, text: str) -> None:
        self._note(text)

    def progress(self, text: str) -> None:
        self._note(text)


class Download:
    """The package under way, from `begin` to `hand_over`. Where it can't be had the log says so: apt will tell."""

    def __init__(self, key: bytes, source: str, machine: RealMachine) -> None:
        """`source` is the repository's entry in a list of apt's, as the plan writes it."""
        self._key = key
        self._source = source.replace(KEYRING, KEY)
        self._machine = machine
        self._thread: Thread | None = None
        self._process: Process | None = None
        self._turn, self._is_wanted = Lock(), True
        clear()

    def begin(self) -> None:
        if not self._key:
            return
        with contextlib.suppress(SetupError):
            # apt reads the key, and fetches, as a user of its own.
            for directory in (LISTS, ARCHIVES):
                files.make_directories(f"{directory}/partial", 0o755)
            conf = "".join(f"#clear {hook};\n" for hook in HOOKS)
            if files.read(SYSTEM_CONF) is not None:
                conf = f'#include "{SYSTEM_CONF}";\n{conf}'
            files.write(FIRST_CONF, f'Dir::Etc::main "{LAST_CONF}";\n'.encode(), mode=0o644)
            files.write(LAST_CONF, conf.encode(), mode=0o644)
            files.write(KEY, self._key, mode=0o644)
            files.write(LIST, f"deb {self._source}\n".encode(), mode=0o644)
            self._thread = Thread(
                target=self._fetch, args=(RealMachine(self._machine.mask, Beside(self._machine.observer)),)
            )
            self._thread.start()

    def hand_over(self, argv: Sequence[str]) -> None:
        """Gives apt what there is, where this command installs Caddy. What is still on its way apt goes on with itself,
        and tells of it: a part of a package it takes up, and verifies."""
        if self._thread is None or CADDY not in installed_by(argv):
            return
        self._stop()
        for directory in ("", "/partial"):
            if packages := glob.glob(f"{ARCHIVES}{directory}/*.deb"):
                with contextlib.suppress(SetupError):
                    self._machine.command(("mv", "-f", "-t", f"{CACHE}{directory}", "--", *packages))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()
        clear()

    def _stop(self) -> None:
        with self._turn:
            self._is_wanted = False
            if self._process is not None:
                self._process.end()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _fetch(self, machine: RealMachine) -> None:
        environment = {**dict(ENVIRONMENT), "APT_CONFIG": FIRST_CONF}
        with contextlib.suppress(SetupError, OSError):
            for argv in COMMANDS:
                with self._turn:
                    if not self._is_wanted:
                        return
                    self._process = machine.start(argv, environment)
                output = machine.command(argv, timeout_s=TIMEOUT_S, environment=environment, begun=self._process)
                with self._turn:
                    self._process = None
                if not output.ok:
                    return


def clear() -> None:
    """Takes away what a run has left that was killed."""
    shutil.rmtree(HERE, ignore_errors=True)
