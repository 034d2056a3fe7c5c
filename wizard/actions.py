"""Actions, before they are done: put in their order, shown, and known again."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .mask import DOTS, Mask, strip_control
from .model import Action, Change, Finding, Remove, Run, Then, Wait, Write
from .server import FileState


def compose(findings: Iterable[Finding]) -> tuple[Action, ...]:
    """The findings' fixes in order, each once, and each service told after the last action that asked."""
    actions: list[Action] = []
    for finding in findings:
        actions.extend(action for action in finding.fix if action not in actions)
    last = {then.argv: number for number, action in enumerate(actions) for then in action.then}
    composed: list[Action] = []
    for number, action in enumerate(actions):
        composed.append(action)
        due = [last[then.argv] == number for then in action.then]
        # What an action has told first (systemd, that a unit has changed) is told before what follows it, each time.
        for at, then in enumerate(action.then):
            if any(due[at:]):
                composed.append(told(_for_all(then, actions[: number + 1]), action))
    return tuple(composed)


def _for_all(then: Then, actions: Sequence[Action]) -> Then:
    """With what it makes true for each of the actions that have asked for it, in their order."""
    asked = [one for action in actions for one in action.then if one.argv == then.argv]
    latest_first = dict.fromkeys(effect for one in reversed(asked) for effect in reversed(one.makes))
    return replace(then, makes=tuple(reversed(latest_first)))


def told(then: Then, action: Action) -> Run:
    return Run(
        then.argv,
        then.why,
        impact=then.impact,
        timeout_s=then.timeout_s,
        makes=then.makes,
        otherwise=action.otherwise,
        goes_on=action.goes_on,
    )


def show(action: Action, before: FileState | None, mask: Mask) -> Change:
    """The action as views show it: masked, with the diff of a file that is written or removed."""
    why, impact = action.why, str(action.impact)
    match action:
        case Run():
            return Change("run", why, impact, argv=tuple(mask.text(word) for word in action.argv))
        case Write() if action.private or action.binary:
            hidden = DOTS if action.private else f"(binary, {len(action.content)} bytes)"
            return Change("write", why, impact, path=action.path, diff=hidden)
        case Write():
            new = action.content.decode("utf-8", "replace")
            return Change("write", why, impact, path=action.path, diff=_diff(action.path, before, new, mask))
        case Remove():
            return Change("remove", why, impact, path=action.path, diff=_diff(action.path, before, "", mask))
        case Wait():
            return Change("wait", why, impact, wait_for=action.what, timeout_s=action.timeout_s)


def _diff(path: str, before: FileState | None, new: str, mask: Mask) -> str:
    old = before.text if before is not None and before.kind == "file" else ""
    # Both without what drives a terminal: what is the same in them is then no difference.
    old_lines, new_lines = (strip_control(text).splitlines() for text in (old, new))
    return mask.text("\n".join(difflib.unified_diff(old_lines, new_lines, path, path, lineterm="")))


def fingerprint(action: Action) -> str:
    """What makes an action the same one that was reviewed: its words, and the content that it writes."""
    match action:
        case Run():
            words: tuple[str, ...] = ("run", *action.argv)
        case Write():
            words = ("write", action.path, hashlib.sha256(action.content).hexdigest())
        case Remove():
            words = ("remove", action.path)
        case Wait():
            words = ("wait", action.what)
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()
