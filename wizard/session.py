"""What every command begins with: the machine, the secrets' mask, the answers, and the operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import ahead, files, paths, render
from .endpoint import base_url
from .engine import Look, Step, StepResult, begin, planned, prove, proved, walk, walk_each
from .live import LiveServer
from .mask import Mask
from .model import Endpoint, Level, Report, Served, Status, TestRow
from .models import further
from .overlay import Overlay
from .owned import load_owned
from .server import Operator
from .steps import STEPS
from .system import Observer, RealMachine

if TYPE_CHECKING:
    from .answers import Answers
    from .archive import Archive


class View:
    """One command's view of a server, whichever that is."""

    def __init__(self, look: Look) -> None:
        self.began = time.monotonic()
        self.look = look
        self.mask = look.mask

    def plan(self, steps: tuple[Step, ...] = STEPS) -> tuple[StepResult, ...]:
        """What `apply` would do, on an overlay of this server."""
        begin(steps, self.look)
        return walk(steps, replace(self.look, server=Overlay(self.look.server)))

    def plan_each(self) -> Iterator[tuple[StepResult, Look]]:
        """The same a step at a time, each with the look that it had: what the step would make true is true in it."""
        begin(STEPS, self.look)
        look = replace(self.look, server=Overlay(self.look.server))
        return ((result, look) for result in walk_each(STEPS, look))

    def endpoint(self, rows: tuple[TestRow, ...] = ()) -> Endpoint:
        internal = self.look.answers.tls.mode == "internal"
        listed = {row.id: row.detail.removeprefix("200; lists ") for row in rows if row.ok}
        ca_file = paths.ROOT_CERTIFICATE if internal else None
        more = tuple(Served(base_url(one.look), listed.get(f"api.models.{one.name}")) for one in further(self.look))
        return Endpoint(base_url(self.look), listed.get("api.models"), ca_file, more)


class Session(View):
    """One command's view of this server. Nothing is read before it is asked for."""

    def __init__(
        self,
        answers: Answers,
        *,
        operator: Operator | None,
        observer: Observer | None = None,
        archive: Archive | None = None,
    ) -> None:
        self.server = ahead.take() if observer is None else LiveServer(RealMachine(Mask(), observer))
        self.machine = self.server.machine
        mask = self.machine.mask
        if (rendered := files.read(paths.RENDERED)) is not None and rendered.kind == "file":
            render.remember(rendered.text)
        if archive is None and files.read(paths.RESTORE) is not None:
            from .restored import load_pending

            archive = load_pending()
        super().__init__(Look(self.server, answers, operator, load_owned(files.read(paths.OWNED)), mask, archive))


@dataclass(frozen=True)
class Tested:
    results: tuple[StepResult, ...]
    rows: tuple[TestRow, ...]


def run_tests(
    session: View, results: tuple[StepResult, ...], tell: Callable[[TestRow], None] = lambda row: None
) -> Tested:
    """The final test, each row told as it comes; and the results with the testing step's own."""
    began = time.monotonic()
    rows = []
    for row in prove(STEPS, session.look):
        rows.append(row)
        tell(row)
    return Tested(proved(results, rows, time.monotonic() - began), tuple(rows))


def steps_named(only: Sequence[str]) -> tuple[Step, ...]:
    """These steps, or all where none is named."""
    return tuple(step for step in STEPS if not only or step.id in only)


def is_blocked(results: tuple[StepResult, ...]) -> bool:
    return any(result.status is Status.BLOCKED for result in results)


def has_actions(results: tuple[StepResult, ...]) -> bool:
    return any(result.actions for result in results)


def plan_exit_code(results: tuple[StepResult, ...]) -> int:
    if is_blocked(results):
        return 3
    return 1 if any(result.status is Status.FAILED for result in results) else 0


def test_exit_code(rows: tuple[TestRow, ...]) -> int:
    return 5 if any(row.ok is False for row in rows) else 0


def status_exit_code(results: tuple[StepResult, ...], rows: tuple[TestRow, ...]) -> int:
    wrong = (Level.DRIFT, Level.BLOCKED)
    drifted = any(finding.level in wrong for result in results for finding in result.seen)
    return 1 if drifted or test_exit_code(rows) else 0


def report_of_plan(session: View, command: str, results: tuple[StepResult, ...], exit_code: int) -> Report:
    return Report(
        command,
        exit_code,
        steps=planned(results),
        endpoint=session.endpoint(),
        changed=False,
        duration_s=time.monotonic() - session.began,
    )
