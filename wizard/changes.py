"""What has changed between two looks at a server: pure, from what was told before and the documents of `status`.

A row of the final test that failed, and a finding that is drift or blocked, are troubles. What could not be tried, or
was not looked at, is taken for what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from .certificate_end import ENDED, LATE, Ending, remedy, words
from .model import Level, Status

WRONG = (Level.DRIFT, Level.BLOCKED)
# A step that ended otherwise was not looked at to its end.
WHOLE = (Status.OK, Status.CHANGED)
VERBS = {"failed": "failed", "drift": "has drifted", "blocked": "blocks"}
MOST_WAITING = 100


@dataclass(frozen=True)
class Trouble:
    """Of `step`, "" for a row of the final test. `kind` is failed, drift or blocked."""

    id: str
    kind: str
    summary: str
    step: str = ""
    remedy: str | None = None


@dataclass(frozen=True)
class Sight:
    """One look: its troubles by their ids; the rows that passed, the steps seen wholly, and all there is of both."""

    troubles: Mapping[str, Trouble]
    passed: Mapping[str, str]
    whole: frozenset[str]
    rows: frozenset[str]
    steps: frozenset[str]


@dataclass(frozen=True)
class Change:
    """What is told: `event` is failed, works, drift, blocked, in_order, certificate_ends or certificate_renewed."""

    event: str
    id: str
    text: str
    at: float
    remedy: str | None = None

    @property
    def is_bad(self) -> bool:
        return self.event not in ("works", "in_order", "certificate_renewed")

    def as_json(self, server: str, endpoint: str) -> dict[str, Any]:
        at = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        own = {"event": self.event, "id": self.id, "bad": self.is_bad, "text": self.text, "remedy": self.remedy}
        return {"schema_version": 1, **own, "server": server, "endpoint": endpoint, "at": at}


@dataclass(frozen=True)
class Memory:
    """What was told: troubles (id to kind and step), the certificate's stage; and what has yet to be delivered.

    `waiting` are the notices by their way, the oldest first; `refused` is why a way's last try failed.
    """

    troubles: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    certificate: tuple[str, str] = ("", "")
    waiting: Mapping[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> bytes:
        return (json.dumps({"version": 1, **vars(self)}) + "\n").encode()

    def with_waiting(self, way: str, notices: Iterable[dict[str, Any]]) -> Memory:
        kept = tuple(notices)[-MOST_WAITING:]
        return replace(self, waiting={**{name: one for name, one in self.waiting.items() if name != way}, way: kept})

    def with_refused(self, way: str, reason: str) -> Memory:
        others = {name: one for name, one in self.refused.items() if name != way}
        return replace(self, refused={**others, way: reason} if reason else others)


def read_memory(text: str) -> Memory:
    """What the file says; nothing told yet where it is not readable as ours: it is then told again."""
    try:
        data = json.loads(text)
        mode, stage = map(str, data["certificate"])
        return Memory(
            {str(name): (str(kind), str(step)) for name, (kind, step) in data["troubles"].items()},
            (mode, stage),
            {str(way): tuple(dict(one) for one in notices) for way, notices in data["waiting"].items()},
            {str(way): str(reason) for way, reason in data["refused"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Memory()


def sight_of(document: Mapping[str, Any]) -> Sight:
    """What a document of `status` shows."""
    rows = document["tests"]
    troubles = {row["id"]: Trouble(row["id"], "failed", row["detail"], "", row["remedy"]) for row in _failed(rows)}
    for step in document["steps"]:
        for finding in step["findings"]:
            known = troubles.get(finding["key"])
            if finding["level"] in WRONG and (known is None or known.kind == Level.DRIFT):
                told = (finding["level"], finding["summary"], step["id"], finding["remedy"])
                troubles[finding["key"]] = Trouble(finding["key"], *told)
    return Sight(
        troubles,
        {row["id"]: row["detail"] for row in rows if row["ok"]},
        frozenset(step["id"] for step in document["steps"] if step["status"] in WHOLE),
        frozenset(row["id"] for row in rows),
        frozenset(step["id"] for step in document["steps"]),
    )


def _failed(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (row for row in rows if row["ok"] is False)


def new_troubles(memory: Memory, sight: Sight) -> frozenset[str]:
    """What is wrong, or worse, and was not told."""
    return frozenset(
        name
        for name, trouble in sight.troubles.items()
        if name not in memory.troubles or (memory.troubles[name][0], trouble.kind) == (Level.DRIFT, Level.BLOCKED)
    )


def confirmed(memory: Memory, first: Sight, second: Sight) -> Sight:
    """The second look, without what is wrong for the first time: that may pass, and is looked for the next time."""
    once = new_troubles(memory, second) - new_troubles(memory, first)
    return replace(second, troubles={name: one for name, one in second.troubles.items() if name not in once})


def compare(memory: Memory, sight: Sight, now: float) -> tuple[tuple[Change, ...], Memory]:
    """What has changed since it was last told of, and what is told with it."""
    changes = [
        Change(one.kind, name, _line(f"{name} {VERBS[one.kind]}: {one.summary}"), now, one.remedy)
        for name, one in sight.troubles.items()
        if name in new_troubles(memory, sight)
    ]
    troubles = {**memory.troubles, **{name: (one.kind, one.step) for name, one in sight.troubles.items()}}
    for name, (_, step) in memory.troubles.items():
        if name in sight.troubles or not _is_over(name, step, sight):
            continue
        del troubles[name]
        if step:
            changes.append(Change("in_order", name, f"{name} is in order again", now))
        elif name in sight.passed:
            changes.append(Change("works", name, _line(f"{name} works again: {sight.passed[name]}"), now))
    return tuple(changes), replace(memory, troubles=troubles)


def _is_over(name: str, step: str, sight: Sight) -> bool:
    """A row passed, or belongs to no mode of now; a step was seen wholly, or is passed over."""
    if not step:
        return name in sight.passed or name not in sight.rows
    return step in sight.whole or step not in sight.steps


def compare_certificate(memory: Memory, ending: Ending | None, now: datetime) -> tuple[tuple[Change, ...], Memory]:
    """Whether the certificate has come nearer to its end than was told, or has been renewed since."""
    if ending is None:
        return (), memory
    before, told = memory.certificate
    stage, same = ending.stage(now), before == ending.id
    known = replace(memory, certificate=(ending.id, stage))
    if stage and (not same or stage != told):
        # A clock that was put back tells nothing twice.
        if same and told and _order(stage) > _order(told):
            return (), memory
        change = Change("certificate_ends", "certificate", words(ending, stage, now), now.timestamp(), remedy(ending))
        return (change,), known
    if told and not stage and not same:
        text = f"the certificate was renewed: until {ending.not_after:%Y-%m-%d}"
        return (Change("certificate_renewed", "certificate", text, now.timestamp()),), known
    return (), memory if same and told else known


def _order(stage: str) -> int:
    """How far the end is: the days, or what stands for them."""
    return {ENDED: 0, LATE: 1}.get(stage) or (int(stage) if stage.isdigit() else 0)


def _line(text: str) -> str:
    return " ".join(text.split())
