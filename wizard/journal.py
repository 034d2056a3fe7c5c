"""A run's directory: request, answers, plan, events, backups, report; and the log that a person reads.

Every event is a line of journal.jsonl; what changes the server is on disk before it is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from . import files, paths
from .book import Book
from .mask import Mask
from .model import SetupError, Status
from .owned import Owned, load_owned
from .report import UNDOING
from .server import FileState

if TYPE_CHECKING:
    from .engine import Step

KEEP_UNCHANGED = 50
# What whoever follows a run reads in its report.
REPORTED = {"exit_code", "steps", "tests", "errors", "warnings", "endpoint", "log_path"}


def new_run_id(now: float) -> str:
    """Sorts by time: 20261124T101500Z-1f3a."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ-") + secrets.token_hex(2)


def run_directory(run: str) -> Path:
    return Path(paths.RUNS) / run


def log_path(run: str) -> str:
    return f"{paths.LOG}/{run}.log"


class Journal(Book):
    """What a run writes as it goes."""

    def __init__(
        self,
        run: str,
        mask: Mask,
        before_first_action: Callable[[], None] = lambda: None,
        after_step: Callable[[Step, Status], None] = lambda step, status: None,
    ) -> None:
        super().__init__(run, mask, load_owned(files.read(paths.OWNED)))
        self.directory = run_directory(run)
        self._before_first_action: Callable[[], None] | None = before_first_action
        self._after_step = after_step
        self._backups = 0
        self._events: IO[str] = _append(str(self.directory / "journal.jsonl"), 0o600)
        files.make_directories(paths.LOG, 0o750)
        self._log: IO[str] = _append(log_path(run), 0o640)
        os.chmod(log_path(run), 0o640)

    def close(self) -> None:
        for book in (self._events, self._log):
            # What a full disk did not take is tried once more by this.
            with contextlib.suppress(OSError):
                book.close()

    def write_event(self, line: str, *, durable: bool) -> None:
        """Raises SetupError where it has to last and can't be written; what is only told may be lost on a full disk."""
        try:
            self._events.write(line + "\n")
            self._events.flush()
            if durable:
                os.fsync(self._events.fileno())
        except OSError as error:
            if durable:
                raise SetupError(
                    f"this run's journal can't be written: {error.strerror}",
                    f"see whether the disk is full or read-only: df -h {self.directory}",
                ) from error

    def write_line(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._log.write(text)
            self._log.flush()

    def before_action(self) -> None:
        first, self._before_first_action = self._before_first_action, None
        if first is not None:
            first()

    def step_ended(self, step: Step, status: Status, seconds: float) -> None:
        super().step_ended(step, status, seconds)
        self._after_step(step, status)

    def is_stop_asked(self) -> bool:
        return (self.directory / "stop").exists()

    def back_up(self, path: str, before: FileState | None) -> str | None:
        """The old content and attributes, kept in the run's backup. Returns where, None where there was nothing."""
        if before is None or before.kind != "file":
            return None
        self._backups += 1
        kept = self.directory / "backup" / f"{self._backups:03}{path.replace('/', '_')}"
        files.make_directories(str(kept.parent), 0o700)
        files.write(str(kept), before.content, mode=0o600)
        attributes = {
            "path": path,
            "mode": f"{before.mode:04o}",
            "owner": before.owner,
            "group": before.group,
        }
        files.write(f"{kept}.attributes", json.dumps(attributes).encode(), mode=0o600)
        return str(kept)

    def keep_owned(self, owned: Owned) -> None:
        files.write(paths.OWNED, owned.dump().encode(), mode=0o600)


def _append(path: str, mode: int) -> IO[str]:
    """The file, opened to append to, for as long as its user lives. Never through a link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        raise SetupError(f"{path} can't be written: {error.strerror}", f"look at it: ls -l {path}") from error
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


# ── runs on disk ──


@dataclass(frozen=True)
class PastRun:
    """A run as its journal tells it. `ended` is None for one that was killed (or is under way). `unit` is whose key
    it was to make, where that is not the first service's."""

    id: str
    command: str
    began: float
    ended: float | None
    exit_code: int | None
    changed: bool
    started: bool = False
    rolled_back: bool = False
    continued_by: str | None = None
    unit: str = ""


def prepare(run: str, request: dict[str, Any], answers: bytes, plan: dict[str, Any]) -> None:
    """Makes a run's directory with what the run needs to begin."""
    directory = str(run_directory(run))
    files.make_directories(paths.STATE, 0o755)
    files.make_directories(paths.RUNS, 0o700)
    files.make_directories(directory, 0o700)
    files.write(f"{directory}/answers.yaml", answers, mode=0o600)
    files.write(f"{directory}/plan.json", json.dumps(plan, indent=1).encode(), mode=0o600)
    # An uninstall with little to do is over, and has removed it, before who follows has looked twice.
    files.write(f"{directory}/journal.jsonl", b"", mode=0o600)
    files.write(f"{directory}/request.json", json.dumps(request).encode(), mode=0o600)


class Events:
    """A run's events as they come. The file stays open: an uninstall removes it at its end, and is read to that."""

    def __init__(self, run: str) -> None:
        self._path = run_directory(run) / "journal.jsonl"
        self._opened: BinaryIO | None = None
        self._rest = b""

    def new(self) -> list[dict[str, Any]]:
        """What was written since the last call."""
        if self._opened is None:
            try:
                self._opened = open(self._path, "rb")  # noqa: SIM115
            except OSError:
                return []
        whole, _, self._rest = (self._rest + self._opened.read()).rpartition(b"\n")
        return list(_parse(whole))

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _parse(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(event := json.loads(line), dict) and isinstance(event.get("event"), str):
                yield event


def read_events(run: str, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The journal's events from byte `start` on, and where the next call goes on. Half a line waits for its rest."""
    try:
        with open(run_directory(run) / "journal.jsonl", "rb") as opened:
            opened.seek(start)
            data = opened.read()
    except OSError:
        return [], start
    whole = data[: data.rfind(b"\n") + 1]
    return list(_parse(whole)), start + len(whole)


def read_report(run: str) -> dict[str, Any]:
    """What an ended run has reported. Raises SetupError where it was killed before that."""
    try:
        found: dict[str, Any] = json.loads((run_directory(run) / "report.json").read_bytes())
        if not found.keys() >= REPORTED:
            raise ValueError("no report")
    except (OSError, ValueError, AttributeError, RecursionError):
        if files.is_full(paths.STATE):
            raise SetupError(
                f"the disk is full: run {run} could not write what it did",
                f"make room: df -h {paths.STATE}; then the same command goes on from where it was",
            ) from None
        raise SetupError(
            f"run {run} was killed before its end",
            f"the same command goes on from where it was; its log: {log_path(run)}",
        ) from None
    return found


def past_runs() -> Iterator[PastRun]:
    """Every run on disk, newest first; what can't be read as one of ours is none."""
    try:
        names = sorted(os.listdir(paths.RUNS), reverse=True)
    except OSError:
        return
    for name in names:
        if (found := _past_run(name)) is not None:
            yield found


def _past_run(run: str) -> PastRun | None:
    try:
        request = json.loads((run_directory(run) / "request.json").read_bytes())
        past = PastRun(run, str(request.get("command")), float(request.get("began", 0)), None, None, False)
        past = replace(past, unit=str(request.get("unit") or ""))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    events, _ = read_events(run)
    for event in events:
        match event.get("event"):
            case "run":
                past = replace(past, started=True)
            case "action_began":
                past = replace(past, changed=True)
            case "end":
                past = replace(past, ended=event.get("at", past.began), exit_code=event.get("exit_code"))
            case "rolled_back":
                past = replace(past, rolled_back=True)
            case "continued":
                past = replace(past, continued_by=event.get("by"), ended=past.ended or event.get("at", past.began))
    return past


def find_unfinished() -> PastRun | None:
    """The newest run that began, if it never ended: it was killed, or the power went."""
    newest = next((past for past in past_runs() if past.started), None)
    return newest if newest is not None and newest.ended is None else None


def what_completes(unfinished: PastRun) -> str:
    """What to do about a run that was cut off, after its name. A take-back is completed by its like alone."""
    if unfinished.command in UNDOING:
        return f"{unfinished.command} completes it, and apply sets this server up again"
    if unfinished.command == "key":
        more = f" --unit {unfinished.unit}" if unfinished.unit else ""
        return f"`key new{more}` completes it, with another key"
    return "apply completes its work"


def forget(run: str) -> None:
    """Removes the directory of a run that never began."""
    shutil.rmtree(run_directory(run), ignore_errors=True)


def mark(run: str, kind: str, by: str) -> None:
    """Says in an earlier run's journal what a later one did about it: it was `continued`, or `rolled_back`."""
    line = json.dumps({"at": round(time.time(), 3), "event": kind, "by": by})
    with _append(str(run_directory(run) / "journal.jsonl"), 0o600) as opened:
        opened.write("\n" + line + "\n")


def prune() -> None:
    """Removes all but the last 50 of the runs that changed nothing, and their logs."""
    unchanged = [past for past in past_runs() if not past.changed and past.ended is not None]
    for past in unchanged[KEEP_UNCHANGED:]:
        shutil.rmtree(run_directory(past.id), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(log_path(past.id))
