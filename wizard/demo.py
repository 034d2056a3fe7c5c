"""The wizard's gateway to a simulated server: no root, no change, no network, and nothing written."""

from __future__ import annotations

import re
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import paths
from .described import Description, Table, describe
from .draft import LEAST, Draft
from .gateway import Document, Opening, Seen, SeenStep, look_at, prove_all
from .model import FileIs, SetupError

if TYPE_CHECKING:
    from .demo_stage import DemoBook, Stage

HERE = Path(__file__).parent / "demo_servers"
ARRIVES_S = 8.0


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


class DemoGateway:
    """A simulated server, by the name of its scene. `pace` scales all its times: 0 is at once.

    `proof=False`: no packet can prove the firewall, so that a person has to (`confirm`).
    """

    is_demo = True

    def __init__(self, scene: str = "fresh", pace: float = 1.0, *, proof: bool = True) -> None:
        if scene not in SCENES:
            raise SetupError(f"there is no demo called {scene}", f"one of these: {', '.join(SCENES)}")
        self._scene = SCENES[scene]
        self._pace, self._proof = pace, proof
        self._saved = Draft(LEAST) if self._scene.drifted else None
        self._tables: Table = read_tables(self._scene.description)
        self._description: Description = describe(self._tables)
        self._looks = 0
        self._lock = threading.Lock()
        self._made: Stage | None = None

    @property
    def _stage(self) -> Stage:
        """The server, made when it is first looked at: the first screen needs none of it."""
        from .demo_stage import Stage

        with self._lock:
            if self._made is None:
                scene = self._scene
                made = Stage(self._tables, self._pace, self.settle, proof=self._proof, failing=scene.failing)
                if scene.drifted:
                    made.drift()
                self._made = made
            return self._made

    def open(self) -> Opening:
        release = self._description.files["/usr/lib/os-release"]
        found = re.search(r'^PRETTY_NAME="(.*)"$', release.text if release else "", re.M)
        books = self._made.books.values() if self._made is not None else ()
        return Opening(
            self._description.host_names[0],
            found[1] if found else "",
            self._saved or Draft(LEAST),
            was_set_up=self._saved is not None,
            run=next((book.run for book in books if book.report is None), None),
        )

    def look(self, draft: Draft, tell: Callable[[SeenStep], None], *, again: bool = False) -> Seen:
        if again and self._looks:
            self._stage.server.look_again(describe(read_tables(self._scene.then)) if self._scene.then else None)
        self._looks += 1
        return look_at(self._stage.view(draft), draft, tell)

    def prove(self, draft: Draft, tell: Callable[[Document], None]) -> list[Document]:
        return prove_all(self._stage.view(draft), tell)

    def keep(self, draft: Draft) -> None:
        """Nothing is kept: the next demo begins anew."""

    def settle(self, draft: Draft) -> None:
        self._saved = draft

    def start(self, draft: Draft, seen: Seen) -> str:
        draft.answers()
        return self._stage.start(draft, seen)

    def follow(self, run: str) -> Iterator[Document]:
        return self._book(run).follow()

    def _book(self, run: str) -> DemoBook:
        books = self._stage.books
        if run not in books:
            raise SetupError(f"there is no run {run}", "this is the demo: it knows its own runs alone")
        return books[run]

    def stop(self, run: str) -> None:
        self._book(run).stop.set()

    def confirm(self) -> None:
        self._stage.server.make_true(FileIs(paths.CONFIRMED, f"{time.time()}\n".encode(), 0o600))

    def report(self, run: str) -> Document:
        report = self._book(run).report
        if report is None:
            raise SetupError(f"run {run} has not ended yet", "wait for its end")
        return report

    def write(self, path: str, text: str) -> None:
        raise SetupError("this is the demo: nothing is written", f"on a server it would now be in {path}")

    def note_defect(self, traceback: str) -> str:
        return ""

    def keep_summary(self, text: str) -> str:
        return ""

    def browse(self, directory: str) -> tuple[tuple[str, bool], ...]:
        return self._stage.server.machine.browse(directory)

    def export(self, draft: Draft) -> str:
        from .commands import export_of

        return export_of(self._stage.view(draft))[0]

    def log(self, run: str) -> str:
        return "".join(self._book(run).log)

    def arrived(self, since: float) -> str:
        operator = self._description.operator
        if operator is None or time.time() - since < ARRIVES_S * self._pace:
            return ""
        return f"{operator.address} has used it: 200"
