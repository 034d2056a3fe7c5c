"""Look, plan, apply, look again. Knows no step by name, and not whether its server is real or an overlay."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from .actions import compose, fingerprint, show
from .mask import Mask
from .model import (
    TIMED_OUT,
    Action,
    Change,
    Finding,
    Level,
    Output,
    Remove,
    Run,
    SetupError,
    Status,
    StepReport,
    TestRow,
    Wait,
    Write,
)
from .owned import Owned
from .questions import Question
from .server import FileState, Operator, Server

if TYPE_CHECKING:
    from .answers import Answers
    from .archive import Archive


# After its actions a step looks again, and does what only then showed; what still shows after that is a failure.
MOST_LOOKS = 3


@dataclass(frozen=True)
class Look:
    """What a step is given: the server, the answers, where the operator sits, what is ours, and the secrets' mask.

    `prefix` is what a client's paths begin with, before /v1, where the answers are those of a further service.
    `archive` is what a restore brings back, where one is under way, or was cut off.
    """

    server: Server
    answers: Answers
    operator: Operator | None = None
    owned: Owned = field(default_factory=Owned)
    mask: Mask = field(default_factory=Mask)
    archive: Archive | None = None
    prefix: str = ""


def no_questions(look: Look, seen: Sequence[Finding]) -> Iterator[Question]:
    yield from ()


def always(look: Look) -> bool:
    return True


def begin_nothing(look: Look) -> None: ...


@dataclass(frozen=True)
class Step:
    """One step. `inspect` looks and yields findings; `prove`, where there is one, tries the finished thing.

    `ask` are its questions to a person, given what was seen; `about` is what it is for in one sentence, `help` more.
    Where nothing that it `concerns` is asked for, or there, it is passed over, and no report speaks of it. `begin` has
    what this one will ask of the network be under way before the first one of a plan looks.
    """

    id: str
    title: str
    inspect: Callable[[Look], Iterable[Finding]]
    prove: Callable[[Look], Iterator[TestRow]] | None = None
    ask: Callable[[Look, Sequence[Finding]], Iterator[Question]] = no_questions
    concerns: Callable[[Look], bool] = always
    begin: Callable[[Look], None] = begin_nothing
    about: str = ""
    help: str = ""


class Watcher(Protocol):
    """Who follows a walk: the journal of a run, or nobody."""

    def step_began(self, step: Step) -> None: ...

    def looked(self, step: Step, findings: Sequence[Finding]) -> None: ...

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None: ...

    def action_ended(self, step: Step, action: Action, output: Output) -> None: ...

    def step_ended(self, step: Step, status: Status, seconds: float) -> None: ...

    def is_stop_asked(self) -> bool: ...


class NoWatcher:
    def step_began(self, step: Step) -> None: ...

    def looked(self, step: Step, findings: Sequence[Finding]) -> None: ...

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None: ...

    def action_ended(self, step: Step, action: Action, output: Output) -> None: ...

    def step_ended(self, step: Step, status: Status, seconds: float) -> None: ...

    def is_stop_asked(self) -> bool:
        return False


@dataclass(frozen=True)
class StepResult:
    """How a step went: what was seen before, what after, and what was done (or would be, on an overlay)."""

    step: Step
    status: Status
    seen: tuple[Finding, ...] = ()
    after: tuple[Finding, ...] = ()
    changes: tuple[Change, ...] = ()
    actions: tuple[Action, ...] = ()
    seconds: float = 0.0
    problem: str = ""
    concerned: bool = True

    def planned(self) -> StepReport:
        """As a plan shows it: what was seen, and what would be done about it."""
        return StepReport(self.step.id, self.step.title, self.status, self.seconds, self.seen, self.changes)

    def applied(self) -> StepReport:
        """As a run shows it: what is so now, and what was done for that. Of what was only to be taken away nothing is
        left to be seen."""
        now = self.after if self.status is Status.CHANGED else self.after or self.seen
        return replace(self.planned(), findings=now)


def planned(results: Iterable[StepResult]) -> tuple[StepReport, ...]:
    """As a plan tells of the steps that are concerned."""
    return tuple(result.planned() for result in results if result.concerned or result.changes)


def applied(results: Iterable[StepResult]) -> tuple[StepReport, ...]:
    """As a run tells of them."""
    return tuple(result.applied() for result in results if result.concerned or result.changes)


def accepted(findings: Iterable[Finding], accept: Sequence[str]) -> tuple[Finding, ...]:
    """The findings, those blocked ones that `preflight.accept` names turned into warnings."""
    return tuple(
        replace(finding, level=Level.WARN, summary=f"{finding.summary} (accepted by preflight.accept)")
        if finding.level is Level.BLOCKED and finding.key in accept
        else finding
        for finding in findings
    )


Reviewed = Mapping[str, Sequence[str]]


def walk(
    steps: Sequence[Step], look: Look, watcher: Watcher | None = None, reviewed: Reviewed | None = None
) -> tuple[StepResult, ...]:
    """Each step looked at, put right, looked at again; after one that is blocked or fails the rest is skipped."""
    return tuple(walk_each(steps, look, watcher, reviewed))


def walk_each(
    steps: Sequence[Step], look: Look, watcher: Watcher | None = None, reviewed: Reviewed | None = None
) -> Iterator[StepResult]:
    """The same, a step at a time. `reviewed` are the actions (`fingerprint`) by step that a person has agreed to: a
    step that finds anything more to do than it, or one before it, was to do fails before it does any of it."""
    watcher = watcher or NoWatcher()
    going_on = True
    agreed: list[str] | None = None if reviewed is None else []
    for step in steps:
        if not step.concerns(look):
            yield StepResult(step, Status.OK, concerned=False)
            continue
        if not going_on or step.prove is not None:
            yield StepResult(step, Status.SKIPPED)
            continue
        began = time.monotonic()
        watcher.step_began(step)
        if reviewed is not None and agreed is not None:
            agreed += reviewed.get(step.id, ())
        result = replace(_walk_step(step, look, watcher, agreed), seconds=time.monotonic() - began)
        watcher.step_ended(step, result.status, result.seconds)
        yield result
        going_on = result.status in (Status.OK, Status.CHANGED)


def begin(steps: Sequence[Step], look: Look) -> None:
    """What these steps will ask of the network, under way before the first of them looks."""
    for step in steps:
        # What can't be begun is asked in its turn, and told there.
        with contextlib.suppress(SetupError):
            step.begin(look)


def fingerprints(results: Iterable[StepResult]) -> dict[str, list[str]]:
    """The plan that a person reviews, as `walk` compares it with what a step finds to do."""
    return {result.step.id: [fingerprint(action) for action in result.actions] for result in results}


def _not_reviewed(actions: Sequence[Action], agreed: Sequence[str] | None, look: Look) -> str:
    """What a step would do that nobody has agreed to, in words; "" where there is no such thing."""
    doing = [action for action in actions if not isinstance(action, Wait)]  # a wait changes nothing
    more = [] if agreed is None else [action for action in doing if fingerprint(action) not in agreed]
    if not more:
        return ""
    shown = (show(action, None, look.mask) for action in more[:3])
    named = "; ".join(" ".join(one.argv) or one.path or one.wait_for for one in shown)
    return f"this server has changed since the plan was reviewed, and nothing of this step was done. New: {named}"


def _findings(step: Step, look: Look) -> tuple[Finding, ...]:
    try:
        return accepted(step.inspect(look), look.answers.preflight.accept)
    except SetupError as error:
        remedy = error.remedy or "vllm-https-setup log"
        return (Finding(f"{step.id}.unreadable", Level.BLOCKED, error.message, remedy),)


def _walk_step(step: Step, look: Look, watcher: Watcher, agreed: Sequence[str] | None) -> StepResult:
    seen = _findings(step, look)
    watcher.looked(step, seen)
    if any(finding.level is Level.BLOCKED for finding in seen):
        return StepResult(step, Status.BLOCKED, seen)
    actions = compose(seen)
    if not actions:
        return StepResult(step, Status.OK, seen)
    if problem := _not_reviewed(actions, agreed, look):
        return StepResult(step, Status.FAILED, seen, (_failure(step, problem), *seen), (), actions, 0, problem)
    changes: tuple[Change, ...] = ()
    more, looks = actions, 0
    while more:
        done, problem = _perform_each(step, more, look, watcher)
        changes += done
        if problem:
            return StepResult(step, Status.FAILED, seen, _after(step, look, problem), changes, actions, 0, problem)
        look.server.refresh()
        after = _findings(step, look)
        watcher.looked(step, after)
        looks += 1
        left_over = [finding for finding in after if finding.level in (Level.DRIFT, Level.BLOCKED)]
        # A package's script, say, has left its service disabled: that shows only now, and is put right at once.
        more = tuple(action for action in compose(left_over) if action not in actions)
        blocked = any(finding.level is Level.BLOCKED for finding in left_over)
        if blocked or looks == MOST_LOOKS or _not_reviewed(more, agreed, look):
            break
        actions += more
    problem = "; ".join(f"still so after all was done: {finding.summary}" for finding in left_over)
    status = Status.FAILED if left_over else Status.CHANGED
    return StepResult(step, status, seen, after, changes, actions, 0, problem)


def _perform_each(
    step: Step, actions: Sequence[Action], look: Look, watcher: Watcher
) -> tuple[tuple[Change, ...], str]:
    """The actions done one after the other, as they are shown; and what went wrong, or "", with what was done then."""
    changes: list[Change] = []
    for done, action in enumerate(actions):
        if watcher.is_stop_asked():
            left = len(actions) - done
            return tuple(changes), f"stopped as asked; {done} of this step's actions were done, {left} were not"
        change, problem, late = _perform(step, action, look, watcher)
        changes.extend([change] if change else [])
        if problem:
            fallen, worse = _fall_back(step, action, look, watcher, late=late)
            changes.extend(fallen)
            if fallen and action.goes_on and not worse:
                continue
            if fallen and not (late and isinstance(action, Wait) and action.late):
                problem = ". ".join([problem.rstrip("."), fallen[0].why, *([worse] if action.goes_on else [])])
            return tuple(changes), problem
    return tuple(changes), ""


def perform_all(step: Step, actions: Sequence[Action], look: Look, watcher: Watcher) -> StepResult:
    """These actions of a step, without a look before or after: what a rollback does."""
    began = time.monotonic()
    watcher.step_began(step)
    changes, problem = _perform_each(step, actions, look, watcher)
    status = Status.FAILED if problem else Status.CHANGED
    seconds = time.monotonic() - began
    watcher.step_ended(step, status, seconds)
    findings = (_failure(step, problem),) if problem else ()
    return StepResult(step, status, findings, (), changes, tuple(actions), seconds, problem)


def _failure(step: Step, problem: str) -> Finding:
    remedy = "read what was said: sudo vllm-https-setup log; then run the same command again"
    return Finding(f"{step.id}.failed", Level.WARN, problem, remedy)


def _after(step: Step, look: Look, problem: str) -> tuple[Finding, ...]:
    """What is so after a failure: the failure itself, then what the step still sees."""
    look.server.refresh()
    return (_failure(step, problem), *_findings(step, look))


def _perform(step: Step, action: Action, look: Look, watcher: Watcher) -> tuple[Change | None, str, bool]:
    """The action done, and as it is shown, None where it was not begun; with what went wrong, or "", and whether that
    is only its time."""
    path = action.path if isinstance(action, Write | Remove) else None
    try:
        before = look.server.read(path) if path else None
        change = show(action, before, look.mask)
        watcher.action_began(step, action, change, before)
    except SetupError as error:
        # What can't be noted, and so not be taken back, is not done.
        return None, look.mask.text(f"not begun: {error.message} {error.remedy}".strip()), False
    try:
        output = look.server.perform(action)
    except SetupError as error:
        output = Output(1, "", f"{error.message} {error.remedy}".strip())
    try:
        watcher.action_ended(step, action, output)
    except SetupError as error:
        output = Output(output.code or 1, "", f"done, and not noted: {error.message} {error.remedy}".strip())
    late = output.code == TIMED_OUT
    if output.ok:
        return change, "", late
    if isinstance(action, Run):
        return (
            change,
            look.mask.text(f"{' '.join(action.argv)}: {output.outcome}"),
            late,
        )
    return change, look.mask.text(output.last_words), late


def _fall_back(
    step: Step, action: Action, look: Look, watcher: Watcher, *, late: bool
) -> tuple[tuple[Change, ...], str]:
    """What the action says to do where it fails, as far as that goes, and what went wrong with that, or "". What of it
    has to be made up for by itself ends it."""
    if not action.otherwise or (late and isinstance(action, Wait) and not action.fall_back_when_late):
        return (), ""
    changes: list[Change] = []
    wrong = ""
    for one in compose([Finding("fallback", Level.DRIFT, "", fix=action.otherwise)]):
        change, problem, too_late = _perform(step, one, look, watcher)
        changes.extend([change] if change else [])
        wrong = problem or wrong
        if problem and one.otherwise:
            fallen, worse = _fall_back(step, one, look, watcher, late=too_late)
            whys = [*(change.why for change in fallen[:1]), *([worse] if worse else [])]
            return (*changes, *fallen), ". ".join([problem.rstrip("."), *whys])
    return tuple(changes), wrong


def prove(steps: Sequence[Step], look: Look) -> Iterator[TestRow]:
    """The rows of the final test, as they come."""
    for step in steps:
        if step.prove is not None:
            yield from step.prove(look)


def proved(results: Sequence[StepResult], rows: Sequence[TestRow], seconds: float) -> tuple[StepResult, ...]:
    """The results with the proving step's own: failed where a row failed, with a finding for each such row."""
    failing = [row for row in rows if row.ok is False]
    findings = tuple(
        Finding(
            f"https_test.{row.id}",
            Level.WARN,
            f"{row.id}: {row.detail}",
            row.remedy or "sudo vllm-https-setup status",
        )
        for row in failing
    )
    status = Status.FAILED if failing else Status.OK
    return tuple(
        StepResult(result.step, status, findings, seconds=seconds) if result.step.prove is not None else result
        for result in results
    )
