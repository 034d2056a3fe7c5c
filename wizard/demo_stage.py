"""The demo's server as its scene has it, and the runs on it: what only a look or a run needs is loaded here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from . import paths
from .book import Book
from .described import Description, Table, describe
from .draft import LEAST, Draft, default_of
from .engine import Look, fingerprints, walk
from .execution import broken, carry_out
from .gateway import Document, Seen
from .mask import Mask
from .model import CaddyRuns, FileIs, FirewallIs
from .owned import Owned
from .report import document_of
from .server import FileState
from .session import View
from .simulated import Clock, SimulatedMachine, SimulatedServer
from .steps import STEPS
from .system import Nobody

RUN_APART_S = 60
# What somebody has added to the Caddyfile of the drifted server: a door to what the proxy is to keep shut.
EDIT_BEFORE = "\thandle {\n\t\terror 404\n"
EDIT = "\thandle /metrics {\n\t\treverse_proxy 127.0.0.1:8000\n\t}\n"


class DemoBook(Book):
    """A run's events and log, in memory."""

    def __init__(self, run: str, mask: Mask, owned: Owned, begun: Callable[[], None]) -> None:
        super().__init__(run, mask, owned)
        self.events: list[Document] = []
        self.log: list[str] = []
        self.report: Document | None = None
        self.news = threading.Condition()
        self.stop = threading.Event()
        self._begun = begun
        self._backups = 0

    def write_event(self, line: str, *, durable: bool) -> None:
        with self.news:
            self.events.append(json.loads(line))
            self.news.notify_all()

    def write_line(self, text: str) -> None:
        self.log.append(text)

    def before_action(self) -> None:
        self._begun()

    def back_up(self, path: str, before: FileState | None) -> str | None:
        if before is None or before.kind != "file":
            return None
        self._backups += 1
        return f"{paths.RUNS}/{self.run}/backup/{self._backups:03}{path.replace('/', '_')}"

    def keep_owned(self, owned: Owned) -> None: ...

    def is_stop_asked(self) -> bool:
        return self.stop.is_set()

    def follow(self) -> Iterator[Document]:
        """Every event, from the first on, as they come."""
        place, ended = 0, False
        while not ended:
            with self.news:
                while len(self.events) == place:
                    self.news.wait()
                events = self.events[place:]
            place += len(events)
            ended = events[-1]["event"] == "end"
            yield from events


class Stage:
    """A simulated server, and its runs by their names. `settle` is told of the answers that a run has begun with."""

    def __init__(
        self, tables: Table, pace: float, settle: Callable[[Draft], None], *, proof: bool, failing: int
    ) -> None:
        self.description: Description = describe(tables)
        self.fingerprint: str = tables["repository"]["fingerprint"]
        self.books: dict[str, DemoBook] = {}
        self._pace = pace
        self._settle = settle
        self._mask = Mask()
        self._owned = Owned()
        machine = SimulatedMachine(self.description, tables, Clock(pace))
        self.server = SimulatedServer(machine, proof=proof, failing=failing)

    def drift(self) -> None:
        """Sets the server up, at once; then does what somebody has done to it since."""
        machine = self.server.machine
        self.server.clock = machine.clock = Clock(0)
        view = self.view(Draft(LEAST))
        book = DemoBook("", self._mask, Owned(), lambda: None)
        walk(STEPS, view.look, book)
        self._owned = book.owned
        self.server.clock = machine.clock = Clock(self._pace)
        caddyfile = self.server.read(paths.CADDYFILE)
        edited = (caddyfile.text if caddyfile else "").replace(EDIT_BEFORE, EDIT + EDIT_BEFORE, 1)
        self.server.make_true(FileIs(paths.CADDYFILE, edited.encode()))
        self.server.make_true(CaddyRuns(paths.CADDYFILE))
        self.server.make_true(FirewallIs(active=False))

    def view(self, draft: Draft) -> View:
        """What a command sees of it with these answers."""
        answers = draft.looked_with()
        self.server.machine.note(answers)
        if answers.caddy.key_fingerprint == default_of("caddy.key_fingerprint"):
            # The pinned key signs the real repository, not the simulated one: no answer, and so in no draft.
            caddy = answers.caddy.model_copy(update={"key_fingerprint": self.fingerprint})
            answers = answers.model_copy(update={"caddy": caddy})
        return View(Look(self.server, answers, self.description.operator, self._owned, self._mask))

    def start(self, draft: Draft, seen: Seen) -> str:
        """Begins to do what was seen; the run's name."""
        at = self.description.now + RUN_APART_S * len(self.books)
        run = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ-demo")
        book = DemoBook(run, self._mask, self._owned, lambda: self._settle(draft))
        self.books[run] = book
        request: dict[str, Any] = {
            "command": "apply",
            "only": [],
            "continued": None,
            "reviewed": fingerprints(seen.results),
        }
        threading.Thread(target=self._execute, args=(book, self.view(draft), request), daemon=True).start()
        return run

    def _execute(self, book: DemoBook, view: View, request: dict[str, Any]) -> None:
        began = time.monotonic()
        self.server.observer = book
        book.event("run", durable=True, run=book.run, command=request["command"])
        book.line(f"vllm-https-setup {request['command']}, run {book.run}")
        try:
            report = carry_out(view, book, request)
        except Exception as error:
            report = broken(view, book, request["command"], error)
        self.server.observer = Nobody()
        self._owned = book.owned
        seconds = time.monotonic() - began
        book.report = document_of(replace(report, duration_s=seconds), self._mask)
        book.line(f"ended with exit code {report.exit_code} after {seconds:.1f} s")
        book.event("end", durable=True, exit_code=report.exit_code)
