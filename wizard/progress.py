"""A run's events as lines of text, as they come."""

from __future__ import annotations

import shlex
from typing import Any, TextIO

from .mask import without_control

WORDS = {"ok": "in order", "changed": "changed", "failed": "FAILED", "blocked": "BLOCKED"}


# How the firewall's proof is told of, by safety.py in a run's events, and found there by whoever follows the run.
PROOF = "SSH proved from outside"
OPEN_ANOTHER = "Open a second SSH session now: it is noticed by itself"


class Progress:
    """Tells the events that a person follows: steps, actions, notes of a wait, and how each step ended. What is waited
    for is said once, however often it was looked at."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._told = ""

    def tell(self, event: dict[str, Any]) -> None:
        line = self._line(without_control(event))
        if not line or (event["event"] == "progress" and line == self._told):
            return
        self._told = line
        print(line, file=self._to, flush=True)

    def _line(self, event: dict[str, Any]) -> str:
        match event.get("event"):
            case "run":
                return f"Run {event['run']} goes on by itself, whatever happens to this connection."
            case "step_began":
                return f"{event['title']}"
            case "action_began":
                return f"  {change_words(event['change'])}"
            case "progress":
                return f"      {event['text']}"
            case "action_ended":
                return "" if event["ok"] else f"      failed: {event['said']}"
            case "step_ended":
                return f"  {WORDS.get(event['status'], event['status'])} ({event['seconds']:.1f} s)"
            case _:
                return ""


def change_words(change: dict[str, Any]) -> str:
    """What an action is, on one line."""
    match change["kind"]:
        case "run":
            return f"$ {shlex.join(change['argv'])}"
        case "wait":
            return f"… {change['for']}"
        case kind:
            return f"{kind} {change['path']}"
