"""Caddy's index and package, fetched while vLLM loads its model: apt has them in its places when their turn comes.

apt itself fetches them, obeying its proxy, with lists, a key and a cache apart: nobody waits for a lock, and no hook of
an update runs twice. What is in its cache apt compares by size alone: nothing is put there that apt has not verified by
the key that the plan has checked. The commands stand in the log at their time, as what went on beside the steps.

Of apt's own lists no more is changed than an update of that one list would, under the same lock; where anything stands
in the way of that, apt is told to update as if nothing had been fetched. Hooks of an update do not run for it: what
they keep up to date knows Caddy's index after the system's next update.

It begins when the firewall is done with: where ufw is switched on while something is fetched, that may stall. The
kernel followed no connection before, and takes one for new whose next packet comes from outside.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from . import files
from .apt import CADDY, ENVIRONMENT, TIMEOUT_S, installed_by, refreshes
from .caddy_source import KEYRING
from .caddy_source import LIST as CADDY_LIST
from .engine import StepResult
from .model import Output, Run, SetupError, Write
from .parse.host import parse_assignments
from .paths import RUNTIME
from .process import Process
from .system import Observer, RealMachine

HERE = f"{RUNTIME}/download"
KEY, LIST, LISTS, ARCHIVES = f"{HERE}/caddy.gpg", f"{HERE}/caddy.list", f"{HERE}/lists", f"{HERE}/archives"
# Where apt keeps its own, by its configuration.
PLACES = ("apt-config", "shell", "LISTS", "Dir::State::Lists/d", "ARCHIVES", "Dir::Cache::Archives/d")
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
    PLACES,
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
    """Both under way, from `begin` to `hand_over`. Where one can't be had the log says so: apt will tell."""

    def __init__(self, key: bytes, list_text: str, machine: RealMachine) -> None:
        """`list_text` is apt's list of the repository, as the plan writes it."""
        self._key = key
        self._list = list_text
        self._machine = machine
        self._thread: Thread | None = None
        self._process: Process | None = None
        self._done: list[Output] = []
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
            files.write(LIST, self._list.replace(KEYRING, KEY).encode(), mode=0o644)
            self._thread = Thread(
                target=self._fetch, args=(RealMachine(self._machine.mask, Beside(self._machine.observer)),)
            )
            self._thread.start()

    def hand_over(self, argv: Sequence[str]) -> Output | None:
        """Gives apt what there is, where this command fetches Caddy's index or installs Caddy. Returns its output where
        nothing is left of it to be run.

        A package that is still on its way apt goes on with itself, and tells of it: a part it takes up, and verifies.
        """
        if self._thread is None or not self._done:
            return None
        places = parse_assignments(self._done[0].out)
        with contextlib.suppress(SetupError, KeyError):
            if refreshes(argv, CADDY_LIST) and len(self._done) > 1:
                return self._hand_over_index(places["LISTS"].rstrip("/"))
            if CADDY in installed_by(argv):
                self._stop()
                for directory in ("", "/partial"):
                    self._move(glob.glob(f"{ARCHIVES}{directory}/*.deb"), places["ARCHIVES"].rstrip("/") + directory)
        return None

    def _hand_over_index(self, lists: str) -> Output | None:
        """As apt does it: into its directory of what is not whole yet, and from there to its name."""
        there = files.read(CADDY_LIST)
        if there is None or there.text != self._list:
            return None
        with locked(lists) as is_ours:
            if not is_ours:
                return None
            self._machine.observer.note("apt has fetched this index while vLLM loaded: it is put in its place")
            fetched = glob.glob(f"{LISTS}/*_*")
            partial = [f"{lists}/partial/{os.path.basename(path)}" for path in fetched]
            done = self._move(fetched, f"{lists}/partial") and self._move(partial, lists)
        return Output(0) if done else None

    def _move(self, paths: Sequence[str], into: str) -> bool:
        return bool(paths) and self._machine.command(("mv", "-f", "-t", into, "--", *paths)).ok

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
                self._done.append(output)


@contextlib.contextmanager
def locked(lists: str) -> Iterator[bool]:
    """Whether we hold the lock of apt's lists, which apt takes by fcntl(2). Another's is not waited for: apt waits for
    it, and names who has it."""
    with contextlib.ExitStack() as held:
        try:
            fcntl.lockf(held.enter_context(open(f"{lists}/lock", "r+b")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        except OSError:
            is_ours = False
        yield is_ours


def clear() -> None:
    """Takes away what a run has left that was killed."""
    shutil.rmtree(HERE, ignore_errors=True)
