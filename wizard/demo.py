"""The wizard's gateway to a simulated server: no root, no change, no network, and nothing written."""

from __future__ import annotations

import json
import re
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import paths
from .book import Book
from .described import Description, Table, describe
from .draft import LEAST, Draft, default_of
from .engine import Look, fingerprints, walk
from .gateway import Document, Opening, Seen, SeenStep, look_at, prove_all
from .mask import Mask
from .model import CaddyRuns, FileIs, FirewallIs, SetupError
from .owned import Owned
from .server import FileState
from .session import View
from .simulated import Clock, SimulatedMachine, SimulatedServer
from .steps import STEPS
from .system import Nobody

HERE = Path(__file__).parent / "demo_servers"
ARRIVES_S = 8.0
RUN_APART_S = 60
# What somebody has added to the Caddyfile of the drifted server: a door to what the proxy is to keep shut.
EDIT_BEFORE = "\thandle {\n\t\terror 404\n"
EDIT = "\thandle /metrics {\n\t\treverse_proxy 127.0.0.1:8000\n\t}\n"


@dataclass(frozen=True)
class Scene:
    """A server to be shown: `about` is it in a few words, `then` what its description is once it was put right."""

    about: str
    description: str = "base"
    then: str = ""
    failing: int = 0
    drifted: bool = False


SCENES: Mapping[str, Scene] = {
    "fresh": Scene("vLLM is open to everybody, and the firewall is off"),
    "exposed": Scene("the firewall is on, and a rule lets everybody reach vLLM", "exposed"),
    "drifted": Scene("set up before; since then the firewall was switched off, and a file edited", drifted=True),
    "blocked": Scene("vLLM has no API key; once you check again, it has been given one", "blocked", then="base"),
    "broken": Scene("vLLM fails in the middle of the work, and the old state comes back", failing=1),
}


def read_tables(name: str) -> Table:
    """A described server: the base, with what its own file says in place of it."""
    tables = tomllib.loads((HERE / "base.toml").read_text())
    if name == "base":
        return tables
    for kind, rows in tomllib.loads((HERE / f"{name}.toml").read_text()).items():
        own = {row["path"]: row for row in rows}
        tables[kind] = [own.pop(row["path"], row) for row in tables[kind]] + list(own.values())
    return tables


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


class DemoGateway:
    """A simulated server, by the name of its scene. `pace` scales all its times: 0 is at once.

    `proof=False`: no packet can prove the firewall, so that a person has to (`confirm`).
    """

    is_demo = True

    def __init__(self, scene: str = "fresh", pace: float = 1.0, *, proof: bool = True) -> None:
        if scene not in SCENES:
            raise SetupError(f"there is no demo called {scene}", f"one of these: {', '.join(SCENES)}")
        self._scene = SCENES[scene]
        self._pace = pace
        self._mask = Mask()
        self._owned = Owned()
        self._saved: Draft | None = None
        self._looks = 0
        self._books: dict[str, DemoBook] = {}
        tables = read_tables(self._scene.description)
        self._fingerprint: str = tables["repository"]["fingerprint"]
        self._description: Description = describe(tables)
        machine = SimulatedMachine(self._description, tables, Clock(pace))
        self._server = SimulatedServer(machine, proof=proof, failing=self._scene.failing)
        if self._scene.drifted:
            self._drift()

    def open(self) -> Opening:
        release = self._description.files["/usr/lib/os-release"]
        found = re.search(r'^PRETTY_NAME="(.*)"$', release.text if release else "", re.M)
        return Opening(
            self._description.host_names[0],
            found[1] if found else "",
            self._saved or Draft(LEAST),
            was_set_up=self._saved is not None,
            run=next((book.run for book in self._books.values() if book.report is None), None),
        )

    def _drift(self) -> None:
        """Sets the server up, at once; then does what somebody has done to it since."""
        self._saved = Draft(LEAST)
        machine = self._server.machine
        self._server.clock = machine.clock = Clock(0)
        view = self._view(self._saved)
        book = DemoBook("", self._mask, Owned(), lambda: None)
        walk(STEPS, view.look, book)
        self._owned = book.owned
        self._server.clock = machine.clock = Clock(self._pace)
        caddyfile = self._server.read(paths.CADDYFILE)
        edited = (caddyfile.text if caddyfile else "").replace(EDIT_BEFORE, EDIT + EDIT_BEFORE, 1)
        self._server.make_true(FileIs(paths.CADDYFILE, edited.encode()))
        self._server.make_true(CaddyRuns(paths.CADDYFILE))
        self._server.make_true(FirewallIs(active=False))

    def _view(self, draft: Draft) -> View:
        answers = draft.looked_with()
        self._server.machine.note(answers)
        if answers.caddy.key_fingerprint == default_of("caddy.key_fingerprint"):
            # The pinned key signs the real repository, not the simulated one: no answer, and so in no draft.
            caddy = answers.caddy.model_copy(update={"key_fingerprint": self._fingerprint})
            answers = answers.model_copy(update={"caddy": caddy})
        return View(Look(self._server, answers, self._description.operator, self._owned, self._mask))

    def look(self, draft: Draft, tell: Callable[[SeenStep], None], *, again: bool = False) -> Seen:
        if again and self._looks:
            self._server.look_again(describe(read_tables(self._scene.then)) if self._scene.then else None)
        self._looks += 1
        return look_at(self._view(draft), draft, tell)

    def prove(self, draft: Draft, tell: Callable[[Document], None]) -> list[Document]:
        return prove_all(self._view(draft), tell)

    def keep(self, draft: Draft) -> None:
        """Nothing is kept: the next demo begins anew."""

    def settle(self, draft: Draft) -> None:
        self._saved = draft

    def start(self, draft: Draft, seen: Seen) -> str:
        draft.answers()
        at = self._description.now + RUN_APART_S * len(self._books)
        run = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ-demo")
        book = DemoBook(run, self._mask, self._owned, lambda: self.settle(draft))
        self._books[run] = book
        request: dict[str, Any] = {
            "command": "apply",
            "only": [],
            "continued": None,
            "reviewed": fingerprints(seen.results),
        }
        threading.Thread(target=self._execute, args=(book, self._view(draft), request), daemon=True).start()
        return run

    def _execute(self, book: DemoBook, view: View, request: dict[str, Any]) -> None:
        from .execution import broken, carry_out
        from .report import document_of

        began = time.monotonic()
        self._server.observer = book
        book.event("run", durable=True, run=book.run, command=request["command"])
        book.line(f"vllm-https-setup {request['command']}, run {book.run}")
        try:
            report = carry_out(view, book, request)
        except Exception as error:
            report = broken(view, book, request["command"], error)
        self._server.observer = Nobody()
        self._owned = book.owned
        seconds = time.monotonic() - began
        book.report = document_of(replace(report, duration_s=seconds), self._mask)
        book.line(f"ended with exit code {report.exit_code} after {seconds:.1f} s")
        book.event("end", durable=True, exit_code=report.exit_code)

    def follow(self, run: str) -> Iterator[Document]:
        return self._book(run).follow()

    def _book(self, run: str) -> DemoBook:
        if run not in self._books:
            raise SetupError(f"there is no run {run}", "this is the demo: it knows its own runs alone")
        return self._books[run]

    def stop(self, run: str) -> None:
        self._book(run).stop.set()

    def confirm(self) -> None:
        self._server.make_true(FileIs(paths.CONFIRMED, f"{time.time()}\n".encode(), 0o600))

    def report(self, run: str) -> Document:
        report = self._book(run).report
        if report is None:
            raise SetupError(f"run {run} has not ended yet", "wait for its end")
        return report

    def write(self, path: str, text: str) -> None:
        raise SetupError("this is the demo: nothing is written", f"on a server it would now be in {path}")

    def export(self, draft: Draft) -> str:
        from .commands import export_of

        return export_of(self._view(draft))[0]

    def log(self, run: str) -> str:
        return "".join(self._book(run).log)

    def arrived(self, since: float) -> str:
        operator = self._description.operator
        if operator is None or time.time() - since < ARRIVES_S * self._pace:
            return ""
        return f"{operator.address} has used it: 200"
