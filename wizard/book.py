"""What a run tells as it goes, event by event and line by line; where that goes is for each kind of book to say."""

from __future__ import annotations

import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .mask import Mask
from .model import Action, Change, Finding, Output, Remove, Run, SetupError, Status, TestRow, Write
from .owned import Owned, sha256
from .server import FileState

if TYPE_CHECKING:
    from .engine import Step

OUTPUT_INTERVAL_S = 0.1


class Book(ABC):
    """The engine's `Watcher`, and the machine's `Observer`. What is told is masked here."""

    def __init__(self, run: str, mask: Mask, owned: Owned) -> None:
        self.run = run
        self.mask = mask
        self.owned = owned
        self._said: list[str] = []
        self._told = 0.0
        self.has_changed = False

    @abstractmethod
    def write_event(self, line: str, *, durable: bool) -> None:
        """The event as a line of JSON, without its end."""

    @abstractmethod
    def write_line(self, text: str) -> None:
        """Whole lines of the log."""

    @abstractmethod
    def before_action(self) -> None: ...

    @abstractmethod
    def back_up(self, path: str, before: FileState | None) -> str | None:
        """Where the old content is kept; None where there was nothing."""

    @abstractmethod
    def keep_owned(self, owned: Owned) -> None: ...

    @abstractmethod
    def is_stop_asked(self) -> bool: ...

    def event(self, kind: str, *, durable: bool = False, **data: Any) -> None:
        line = json.dumps({"at": round(time.time(), 3), "event": kind, **self.mask.value(data)}, ensure_ascii=False)
        self.write_event(line, durable=durable)

    def line(self, text: str, indent: str = "") -> None:
        at = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        self.write_line("".join(f"{at}  {indent}{one}\n" for one in self.mask.text(text).splitlines()))

    # ── the machine's observer ──

    def command(self, line: str) -> None:
        self.event("command", line=line)
        self.line(f"$ {line}")

    def output(self, text: str) -> None:
        """Lines that come close together (a list of packages) are one event."""
        self._said.append(text)
        if time.monotonic() - self._told > OUTPUT_INTERVAL_S:
            self._tell_output()

    def _tell_output(self) -> None:
        said, self._said, self._told = "".join(self._said), [], time.monotonic()
        if said:
            self.event("output", text=said)
            self.line(said, "    ")

    def ended(self, code: int, seconds: float) -> None:
        self._tell_output()
        self.event("command_ended", code=code, seconds=round(seconds, 3))
        self.line(f"→ exit {code}, {seconds:.2f} s", "    ")

    def note(self, text: str) -> None:
        self.event("note", text=text)
        self.line(f"- {text}")

    def progress(self, text: str) -> None:
        self.event("progress", text=text)
        self.line(f"… {text}")

    # ── the engine's watcher ──

    def step_began(self, step: Step) -> None:
        self.event("step_began", step=step.id, title=step.title)
        self.line(f"══ {step.title}")

    def looked(self, step: Step, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self.event("finding", step=step.id, key=finding.key, level=str(finding.level), summary=finding.summary)
            self.line(f"[{finding.level}] {finding.key}: {finding.summary}")

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None:
        self.before_action()
        backup, lasting = None, isinstance(action, Write) and action.lasting
        if isinstance(action, Write | Remove) and not lasting:
            backup = self.back_up(action.path, before)
        belongs_to = (isinstance(action, Write | Remove) and action.step) or step.id
        self.own(owned_before(self.owned, belongs_to, action, before, backup))
        undo = [list(one.argv) for one in action.undo] if isinstance(action, Run) else []
        then = [{"argv": list(one.argv), "why": one.why, "impact": str(one.impact)} for one in action.then]
        sha = sha256(action.content) if isinstance(action, Write) and not lasting else None
        known: dict[str, Any] = {
            "change": change.as_json(),
            "backup": backup,
            "undo": undo,
            "then": then,
            "sha256": sha,
        }
        if belongs_to != step.id:
            known["belongs_to"] = belongs_to
        if isinstance(action, Write):
            known["keeps_attributes"] = action.keep_attributes
            known["lasting"] = lasting
        self.has_changed = True
        self.event("action_began", durable=True, step=step.id, **known)
        self.line(f"── {change.why}")
        if change.path:
            self.line(f"{change.kind} {change.path}")
            self.line(change.diff, "    ")

    def action_ended(self, step: Step, action: Action, output: Output) -> None:
        if output.ok:
            self.own(owned_after(self.owned, action))
        said = "" if output.ok else output.last_words
        self.event("action_ended", durable=True, step=step.id, ok=output.ok, code=output.code, said=said)
        if not output.ok and not isinstance(action, Run):
            self.line(f"failed: {output.last_words}")

    def step_ended(self, step: Step, status: Status, seconds: float) -> None:
        if status in (Status.OK, Status.CHANGED):
            # Only tidied up: on a full disk it may stay for the next run.
            with contextlib.suppress(SetupError):
                self.own(self.owned.after_step(step.id))
        self.event("step_ended", step=step.id, status=str(status), seconds=round(seconds, 3))
        self.line(f"══ {step.title}: {status}, {seconds:.2f} s")

    def tested(self, row: TestRow) -> None:
        self.event("test", id=row.id, ok=row.ok, detail=row.detail, ms=row.ms, remedy=None if row.ok else row.remedy)
        self.line(f"[{_sign(row.ok)}] {row.id}: {row.detail} ({row.ms:.0f} ms)")

    def own(self, owned: Owned) -> None:
        """Keeps what is ours from now on, where that is new."""
        if owned != self.owned:
            self.owned = owned
            self.keep_owned(owned)


def owned_before(owned: Owned, step: str, action: Action, before: FileState | None, backup: str | None) -> Owned:
    """What is ours, with what this action is about to touch."""
    match action:
        case Write(lasting=True):
            return owned
        case Write():
            told, edits = action.then, action.keep_attributes
            return owned.before_write(
                action.path, before, backup, step=step, writing=action.content, then=told, edits=edits
            )
        case Remove():
            return owned.before_write(action.path, before, backup, step=step, then=action.then)
        case Run():
            return owned.before_command(action.argv, tuple(one.argv for one in action.undo), step)
        case _:
            return owned


def owned_after(owned: Owned, action: Action) -> Owned:
    """What is ours, once this action is done."""
    match action:
        case Write(lasting=True):
            return owned
        case Write():
            attributes = None if action.keep_attributes else (action.mode, action.owner, action.group)
            return owned.after_write(action.path, action.content, attributes)
        case Remove():
            return owned.after_write(action.path, None)
        case Run():
            return owned.after_command(action.argv)
        case _:
            return owned


def _sign(ok: bool | None) -> str:
    return {True: "pass", False: "FAIL", None: "not tried"}[ok]
