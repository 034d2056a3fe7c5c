"""What a wizard asks of a server, and orders. The real server here, the simulated one in demo.py; neither shows
anything. All that comes from a gateway is masked: a step as the report has it, a run as its journal has it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from . import files, journal, paths, runs
from .draft import LEAST, STAND_INS, Draft, forget_draft, load_draft, save_draft
from .mask import Mask
from .model import Impact, SetupError

if TYPE_CHECKING:
    from .answers import AnswerProblem
    from .engine import Step, StepResult
    from .questions import Question
    from .session import Session, View

Document = dict[str, Any]


@dataclass(frozen=True)
class Opening:
    """What the first screen needs to know. `run` is under way; `cut_off` was, and never ended."""

    host: str
    system: str
    draft: Draft
    was_set_up: bool = False
    run: str | None = None
    cut_off: str | None = None


@dataclass(frozen=True)
class SeenStep:
    """A step as a person sees it: the report's part, masked, and what it asks."""

    step: Step
    report: Document
    questions: tuple[Question, ...] = ()

    @property
    def is_blocked(self) -> bool:
        return bool(self.report["status"] == "blocked")


@dataclass(frozen=True)
class Seen:
    """The server looked at with a draft: what each step found and would do, and what the answers still lack.

    `more` are further services that would be served: the name of each, and its base URL.
    """

    steps: tuple[SeenStep, ...] = ()
    problems: tuple[AnswerProblem, ...] = ()
    base_url: str = ""
    more: tuple[tuple[str, str], ...] = ()
    results: tuple[StepResult, ...] = field(default=(), repr=False)

    def step(self, name: str) -> SeenStep | None:
        return next((one for one in self.steps if one.step.id == name), None)

    @property
    def blocked(self) -> SeenStep | None:
        return next((one for one in self.steps if one.is_blocked), None)

    @property
    def changes(self) -> list[Document]:
        return [change for one in self.steps for change in one.report["changes"]]

    @property
    def impact(self) -> Impact:
        impacts = [Impact(change["impact"]) for change in self.changes]
        return max(impacts, key=lambda impact: impact.rank, default=Impact.NONE)

    def document(self, draft: Draft, rows: list[Document]) -> Document:
        """What a report says of the endpoint and the steps, where no run was needed."""
        listed = {row["id"]: row["detail"].removeprefix("200; lists ") for row in rows}
        more = [{"base_url": url, "model": listed.get(f"api.models.{name}")} for name, url in self.more]
        internal = draft.value("tls.mode") == "internal"
        return {
            "steps": [one.report for one in self.steps],
            "endpoint": {
                "base_url": self.base_url,
                "model": listed.get("api.models"),
                "ca_file": paths.ROOT_CERTIFICATE if internal else None,
                **({"more": more} if more else {}),
            },
            "log_path": None,
        }

    @property
    def can_start(self) -> bool:
        return not self.problems and self.blocked is None


class Gateway(Protocol):
    """Every call may take its time: none is made where a screen is drawn."""

    is_demo: bool

    def open(self) -> Opening: ...

    def look(self, draft: Draft, tell: Callable[[SeenStep], None], *, again: bool = False) -> Seen:
        """Looks with these answers; each step is told as it is seen. `again`: nothing from an earlier look is kept."""

    def prove(self, draft: Draft, tell: Callable[[Document], None]) -> list[Document]:
        """The final test's rows, each told as it comes."""

    def keep(self, draft: Draft) -> None:
        """Keeps a draft for the next start, should this one be cut off."""

    def settle(self, draft: Draft) -> None:
        """Where nothing is to be done: these are this server's answers."""

    def start(self, draft: Draft, seen: Seen) -> str:
        """Starts the run that does what was seen, and nothing else; its id. Raises SetupError."""

    def follow(self, run: str) -> Iterator[Document]:
        """The run's events from its beginning on, until it ends or is gone."""

    def stop(self, run: str) -> None:
        """Asks the run to stop after the action that it is at."""

    def confirm(self) -> None:
        """The operator says that SSH lets new connections in."""

    def report(self, run: str) -> Document: ...

    def write(self, path: str, text: str) -> None:
        """Writes a file that the operator asked for, readable by root alone. Raises SetupError."""

    def keep_summary(self, text: str) -> str:
        """Keeps what a client needs; where that is, "" where nothing is kept."""

    def browse(self, directory: str) -> tuple[tuple[str, bool], ...]:
        """The names in a directory of this server, each with whether it is one too; () where it can't be read."""

    def export(self, draft: Draft) -> str:
        """The plan as a shell script."""

    def log(self, run: str) -> str: ...

    def note_defect(self, traceback: str) -> str:
        """Keeps it where root alone reads it, without secrets; where that is, "" where it could not be kept."""

    def arrived(self, since: float) -> str:
        """Who has used the endpoint since then, from elsewhere, in words; "" where nobody has."""


class RealGateway:
    """This server. Used by one thread at a time."""

    is_demo = False

    def __init__(self, answers: bytes | None = None) -> None:
        self._given = answers
        self._session: Session | None = None

    def open(self) -> Opening:
        holder, saved = runs.find_holder(), files.read(paths.ANSWERS)
        unfinished = None if holder else journal.find_unfinished()
        if self._given is not None:
            draft: Draft | None = Draft.read(self._given)
        elif holder is not None:
            draft = draft_of(holder.run)
        else:
            draft = load_draft() or (draft_of(unfinished.id) if unfinished is not None else None)
        if draft is None and saved is not None:
            draft = Draft.read(saved.content)
        host, system = describe_host()
        return Opening(
            host,
            system,
            draft or Draft(LEAST),
            was_set_up=saved is not None,
            run=holder.run if holder else None,
            cut_off=unfinished.id if unfinished else None,
        )

    def _session_with(self, draft: Draft, *, again: bool = False) -> Session:
        """The session whose facts are kept from look to look, with these answers."""
        from .session import Session
        from .system import find_operator

        answers = draft.looked_with()
        if self._session is None:
            self._session = Session(answers, operator=find_operator())
        elif again:
            self._session.server.refresh()
        self._session.look = dataclasses.replace(self._session.look, answers=answers)
        return self._session

    def look(self, draft: Draft, tell: Callable[[SeenStep], None], *, again: bool = False) -> Seen:
        return look_at(self._session_with(draft, again=again), draft, tell)

    def prove(self, draft: Draft, tell: Callable[[Document], None]) -> list[Document]:
        session = self._session_with(draft, again=True)
        return prove_all(session, tell)

    def keep(self, draft: Draft) -> None:
        save_draft(draft)

    def settle(self, draft: Draft) -> None:
        from .commands import save_answers

        save_answers(draft.dump(), draft.answers())
        if runs.find_holder() is None and (unfinished := journal.find_unfinished()) is not None:
            journal.mark(unfinished.id, "continued", "a run with nothing left to do")
        forget_draft()

    def start(self, draft: Draft, seen: Seen) -> str:
        from .commands import begin

        runs.refuse_beside_another()
        draft.answers()
        session = self._session_with(draft)
        run = begin(session, "apply", draft.dump(), seen.results, journal.find_unfinished(), reviewed=True)
        forget_draft()
        return run

    def follow(self, run: str) -> Iterator[Document]:
        from .system import RealMachine

        return runs.follow(RealMachine(Mask()), run, lambda: False)

    def stop(self, run: str) -> None:
        runs.ask_to_stop(run)

    def confirm(self) -> None:
        files.write(paths.CONFIRMED, f"{time.time()}\n".encode(), mode=0o600)

    def report(self, run: str) -> Document:
        return journal.read_report(run)

    def write(self, path: str, text: str) -> None:
        there = files.read(path)
        if there is not None and there.kind != "file":
            # A rename would put the file in the place of a device, or of a link such as /dev/stdout.
            raise SetupError(f"{path} is no file: nothing was written", "name a file, or a name that is not there yet")
        files.write(path, text.encode(), mode=0o600)

    def keep_summary(self, text: str) -> str:
        try:
            files.write(paths.CLIENTS, text.encode(), mode=0o600)
        except SetupError:
            return ""
        return paths.CLIENTS

    def browse(self, directory: str) -> tuple[tuple[str, bool], ...]:
        return files.browse(directory)

    def export(self, draft: Draft) -> str:
        from .commands import export

        return export(draft.dump())[0]

    def log(self, run: str) -> str:
        state = files.read(journal.log_path(run))
        return state.text if state else ""

    def note_defect(self, traceback: str) -> str:
        mask = self._session.mask if self._session else Mask()
        path = f"{paths.LOG}/wizard.log"
        try:
            files.make_directories(paths.LOG, 0o750)
            files.write(path, mask.text(traceback).encode(), mode=0o600)
        except SetupError:
            return ""
        return path

    def arrived(self, since: float) -> str:
        from .access_log import arrived
        from .system import RealMachine

        machine = self._session.machine if self._session else RealMachine(Mask())
        return arrived([one.address for one in machine.addresses()], since)


def draft_of(run: str) -> Draft | None:
    """The answers of a run; None where they are lost."""
    from .commands import answers_of

    try:
        return Draft.read(answers_of(run))
    except SetupError:
        return None


def look_at(session: View, draft: Draft, tell: Callable[[SeenStep], None]) -> Seen:
    """The walk of a plan, each step told with its questions as soon as it is over."""
    from .report import step_document

    seen: list[SeenStep] = []
    results = []
    answered, problems = draft.asked_with(), draft.problems()
    for result, look in session.plan_each():
        document = session.mask.value(step_document(result.planned()))
        asked: tuple[Question, ...] = ()
        if document["status"] != "skipped":
            asked = tuple(result.step.ask(dataclasses.replace(look, answers=answered), result.seen))
        wrong = {
            question.key
            for problem in problems
            for question in asked
            if question.needed and problem.concerns(question.key)
        }
        if wrong:
            # It was looked at with other answers than those that are being given: for what it would do, at least.
            document |= {"status": "skipped", "changes": []}
        if wrong - {f"tls.{key}" for key in STAND_INS}:
            document["findings"] = []
        results.append(result)
        seen.append(SeenStep(result.step, document, asked))
        tell(seen[-1])
    from .models import further

    endpoint, names = session.endpoint(), [one.name for one in further(session.look)]
    more = tuple(zip(names, (one.base_url for one in endpoint.more), strict=True))
    return Seen(tuple(seen), problems, endpoint.base_url, more, tuple(results))


def prove_all(session: View, tell: Callable[[Document], None]) -> list[Document]:
    from .engine import prove
    from .report import row_document
    from .steps import STEPS

    rows = []
    for row in prove(STEPS, session.look):
        rows.append(session.mask.value(row_document(row)))
        tell(rows[-1])
    return rows


def describe_host() -> tuple[str, str]:
    """The host's name, and its system's, for the top line."""
    import re
    import socket

    state = files.read("/usr/lib/os-release") or files.read("/etc/os-release")
    found = re.search(r'^PRETTY_NAME="?(.*?)"?$', state.text if state else "", re.M)
    return socket.gethostname().partition(".")[0], found[1] if found else ""
