"""A described server behind a gateway: looked at as a wizard does, set up in memory, followed by its events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.servers import scenario
from tests.servers.scenario import Scenario
from wizard.described import DescribedMachine
from wizard.draft import Draft
from wizard.engine import NoWatcher, Step, applied, walk
from wizard.facts import Facts
from wizard.gateway import Document, Opening, Seen, SeenStep, look_at
from wizard.mask import Mask
from wizard.model import Action, Change, Output, Report, Status, TestRow
from wizard.overlay import Overlay
from wizard.report import document_of, row_document
from wizard.server import FileState
from wizard.session import View, test_exit_code

RUN = "20261124T101500Z-1f3a"


class Told(NoWatcher):
    """The events that a journal would have."""

    def __init__(self) -> None:
        self.events: list[Document] = [{"event": "run", "run": RUN, "command": "apply"}]

    def event(self, kind: str, **data: Any) -> None:
        self.events.append({"at": time.time(), "event": kind, **data})

    def step_began(self, step: Step) -> None:
        self.event("step_began", step=step.id, title=step.title)

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None:
        self.event("action_began", step=step.id, change=change.as_json())

    def action_ended(self, step: Step, action: Action, output: Output) -> None:
        self.event("action_ended", step=step.id, ok=output.ok, code=output.code, said=output.last_words)

    def step_ended(self, step: Step, status: Status, seconds: float) -> None:
        self.event("step_ended", step=step.id, status=str(status), seconds=seconds)


@dataclass
class DescribedGateway:
    """`events`, where given, are what a run tells, in place of its own; a callable among them is waited for."""

    described: Scenario
    opening: Opening | None = None
    rows: tuple[TestRow, ...] = field(default_factory=lambda: scenario.load("finished").tested())
    events: Sequence[Document | Callable[[], bool]] = ()
    repaired: Scenario | None = None
    machine: type[DescribedMachine] = DescribedMachine
    is_demo: bool = False
    kept: list[Draft] = field(default_factory=list)
    settled: list[Draft] = field(default_factory=list)
    started: list[Draft] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    confirmed: int = 0
    looks: list[tuple[Draft, bool]] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    saved: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._session = self._described(self.described)
        self._events: Sequence[Document | Callable[[], bool]] = self.events
        self._report: Document = {}

    def open(self) -> Opening:
        draft = Draft.read(self.described.description.answers)
        return self.opening or Opening("gpu-01", "Ubuntu 24.04.3 LTS", draft)

    def _described(self, described: Scenario) -> View:
        """A view of it: what is done to it is seen from then on."""
        overlay = Overlay(Facts(self.machine(described.description)))
        return View(replace(described.look(), server=overlay))

    def _with(self, draft: Draft) -> View:
        self._session.look = replace(self._session.look, answers=draft.looked_with())
        return self._session

    def look(self, draft: Draft, tell: Callable[[SeenStep], None], *, again: bool = False) -> Seen:
        self.looks.append((draft, again))
        if again and self.repaired is not None:
            self._session = self._described(self.repaired)
        return look_at(self._with(draft), draft, tell)

    def prove(self, draft: Draft, tell: Callable[[Document], None]) -> list[Document]:
        rows = [row_document(row) for row in self.rows]
        for row in rows:
            tell(row)
        return rows

    def keep(self, draft: Draft) -> None:
        self.kept.append(draft)

    def settle(self, draft: Draft) -> None:
        self.settled.append(draft)

    def start(self, draft: Draft, seen: Seen) -> str:
        draft.answers()
        self.started.append(draft)
        session, told = self._with(draft), Told()
        results = walk([one.step for one in seen.steps], session.look, told)
        for row in self.rows:
            told.event("test", **row_document(row))
        code = test_exit_code(self.rows)
        told.event("end", exit_code=code)
        self._events = self.events or told.events
        endpoint = session.endpoint(self.rows)
        steps = applied(results)
        log = f"/var/log/vllm-https-setup/{RUN}.log"
        report = Report("apply", code, steps, self.rows, endpoint, run=RUN, changed=True, log_path=log)
        self._report = document_of(report, session.mask)
        return RUN

    def follow(self, run: str) -> Iterator[Document]:
        for event in self._events:
            if callable(event):
                until = time.monotonic() + 20
                while not event() and time.monotonic() < until:
                    time.sleep(0.001)
            else:
                yield event

    def stop(self, run: str) -> None:
        self.stopped.append(run)

    def confirm(self) -> None:
        self.confirmed += 1

    def report(self, run: str) -> Document:
        if not self._report:
            self._report = document_of(Report("apply", test_exit_code(self.rows), run=run, changed=True), Mask())
        return self._report

    def write(self, path: str, text: str) -> None:
        Path(path).write_text(text)
        self.saved.append((path, text))

    def note_defect(self, traceback: str) -> str:
        self.defects.append(traceback)
        return "/var/log/vllm-https-setup/wizard.log"

    def keep_summary(self, text: str) -> str:
        self.summaries.append(text)
        return "/var/lib/vllm-https-setup/clients.txt"

    def browse(self, directory: str) -> tuple[tuple[str, bool], ...]:
        return ()

    def export(self, draft: Draft) -> str:
        return "#!/bin/sh\n"

    def log(self, run: str) -> str:
        return ""

    def arrived(self, since: float) -> str:
        return ""
