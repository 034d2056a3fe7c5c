"""A run as its events tell it: pure, so that a run that is attached to late looks like one that was watched."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from wizard.progress import PROOF, change_words

from .drawing import clean

Document = dict[str, Any]
TAIL = 200


@dataclass
class StepLine:
    title: str
    status: str = "running"
    seconds: float = 0.0
    summary: str = ""


@dataclass
class RunState:
    """What is known of the run by now."""

    steps: dict[str, StepLine] = field(default_factory=dict)
    began: float = 0.0
    latest: float = 0.0
    ended: float = 0.0
    command: str = ""
    said: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    rows: list[Document] = field(default_factory=list)
    waiting: str = ""
    waits_until: float = 0.0
    exit_code: int | None = None

    @property
    def is_unproved(self) -> bool:
        """The firewall waits for its proof, and what was seen so far is not enough."""
        return self.waiting.startswith(PROOF) and bool(self.said)

    def take(self, event: Document) -> None:
        self.latest = event.get("at", self.latest)
        self.began = self.began or self.latest
        match event.get("event"):
            case "step_began":
                self.steps[event["step"]] = StepLine(event["title"])
            case "step_ended":
                line = self.steps.setdefault(event["step"], StepLine(event["step"]))
                line.status, line.seconds = event["status"], event["seconds"]
                self.command = self.waiting = self.said = ""
            case "action_began":
                self._began(event)
            case "output":
                self.tail.extend(clean(line) for line in event["text"].splitlines() if line.strip())
            case "progress":
                self.said = clean(event["text"])
            case "action_ended":
                self._ended(event)
            case "test":
                self.rows.append({name: event.get(name) for name in ("id", "ok", "detail", "ms", "remedy")})
            case "end":
                self.exit_code, self.ended = event["exit_code"], event.get("at", 0.0)

    def _began(self, event: Document) -> None:
        change = event["change"]
        self.command = clean(change_words(change))
        self.tail.clear()
        self.said = ""
        self.waiting = change["for"] if change["kind"] == "wait" else ""
        self.waits_until = event.get("at", 0.0) + change.get("timeout_s", 0)

    def _ended(self, event: Document) -> None:
        if event["ok"] and self.waiting and (line := list(self.steps.values())[-1:]):
            line[0].summary = self.said or self.waiting
        self.waiting = self.said = ""

    def elapsed(self, now: float) -> str:
        seconds = int(max((self.ended or now) - self.began, 0)) if self.began else 0
        return f"{seconds // 60}:{seconds % 60:02}"
