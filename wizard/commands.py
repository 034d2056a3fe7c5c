"""One function a command: each returns its report."""

from __future__ import annotations

import base64
import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import answers_file, checked, files, journal, paths, render, runs
from .engine import StepResult, applied, fingerprints, planned, walk
from .model import Report, SetupError, Status
from .overlay import Overlay
from .report import Document, document_of
from .session import (
    Session,
    Tested,
    View,
    has_actions,
    is_blocked,
    plan_exit_code,
    report_of_plan,
    run_tests,
    status_exit_code,
    steps_named,
    test_exit_code,
)
from .steps import STEPS
from .system import find_operator

if TYPE_CHECKING:
    from .answers import Answers
    from .reversal import Reversal

Results = tuple[StepResult, ...]
Tell = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Sure:
    """What the caller has said in advance; `plan` only shows, `purge` also takes Caddy's certificates and its CA."""

    yes: bool = False
    expose: bool = False
    keep_bind: bool = False
    plan: bool = False
    purge: bool = False


class NoAnswers(SetupError):
    """There are no saved answers, and the command needs some: exit code 2."""

    def __init__(self) -> None:
        super().__init__(
            "this server was never set up: there are no saved answers",
            "give some: --answers F; an annotated example: vllm-https-setup answers example",
        )


def saved_answers() -> bytes:
    state = files.read(paths.ANSWERS)
    if state is None or state.kind != "file":
        raise NoAnswers
    return state.content


def read_answers(path: str | None, sudo_uid: int | None) -> bytes:
    return saved_answers() if path is None else answers_file.read(path, sudo_uid=sudo_uid)


def plan(text: bytes, *, detailed: bool) -> Document:
    session = Session(checked.load_saved(text), operator=find_operator())
    results = session.plan()
    code = plan_exit_code(results)
    if detailed and code == 0 and has_actions(results):
        code = 6
    report = report_of_plan(session, "plan", results, code)
    unfinished = journal.find_unfinished() if runs.find_holder() is None else None
    warnings = [f"run {unfinished.id} was cut off; {journal.what_completes(unfinished)}"] if unfinished else []
    return document_of(dataclasses.replace(report, warnings=tuple(warnings)), session.mask)


def export(text: bytes) -> tuple[str, Document]:
    """The plan as a shell script, and its report; where the plan can't be carried out there is no script."""
    from .answers import load

    return export_of(Session(load(text), operator=find_operator()))


def export_of(view: View) -> tuple[str, Document]:
    from . import script

    notes = script.Notes()
    results = walk(STEPS, dataclasses.replace(view.look, server=Overlay(view.look.server)), notes)
    code = plan_exit_code(results)
    document = document_of(report_of_plan(view, "plan", results, code), view.mask)
    if code:
        return "", document
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return script.write_script(view.look, results, notes, view.endpoint().base_url, at), document


def status() -> Document:
    """Findings and the final test. A server that was never set up is looked at with the answers' defaults."""
    warnings: tuple[str, ...] = ()
    try:
        wanted = checked.load_saved(saved_answers())
    except NoAnswers as error:
        wanted = checked.defaults()
        warnings = (f"{error.message}; {error.remedy}",)
    session = Session(wanted, operator=find_operator())
    session.server.expect_reach()
    tested = run_tests(session, session.plan())
    code = 1 if warnings else status_exit_code(tested.results, tested.rows)
    report = report_of_plan(session, "status", tested.results, code)
    report = dataclasses.replace(
        report,
        tests=tested.rows,
        endpoint=session.endpoint(tested.rows),
        warnings=warnings,
        duration_s=time.monotonic() - session.began,
    )
    return document_of(report, session.mask)


def test() -> Document:
    session = Session(checked.load_saved(saved_answers()), operator=find_operator())
    session.server.expect_reach()
    tested = run_tests(session, walk([step for step in STEPS if step.prove is not None], session.look))
    report = Report(
        "test",
        test_exit_code(tested.rows),
        steps=applied(tested.results),
        tests=tested.rows,
        endpoint=session.endpoint(tested.rows),
        duration_s=time.monotonic() - session.began,
    )
    return document_of(report, session.mask)


def apply(command: str, text: bytes | None, tell: Tell, only: Sequence[str] = ()) -> Document:
    """Checks first; where nothing is to be done it tests and reports at once; else it starts the run and follows it."""
    runs.refuse_beside_another()
    unfinished = journal.find_unfinished()
    if text is None:
        # A run that had none to begin with: what it left undone is put right by those that are saved.
        text = (answers_of(unfinished.id) if unfinished else b"") or saved_answers()
    session = Session(checked.load_saved(text), operator=find_operator())
    if files.read(paths.ANSWERS) is not None:
        # It was set up before: most often nothing is left to be done, and it is tested at once.
        session.server.expect_reach()
    return carry_through(session, command, text, unfinished, tell, only=only)


def carry_through(
    session: Session,
    command: str,
    text: bytes,
    unfinished: journal.PastRun | None,
    tell: Tell,
    *,
    only: Sequence[str] = (),
    agree: Callable[[Report], None] = lambda plan: None,
) -> Document:
    """The plan by these answers, carried out by a run once `agree` has not raised; and its report."""
    results = session.plan(steps_named(only))
    if is_blocked(results):
        return document_of(report_of_plan(session, command, results, 3), session.mask)
    if any(result.status is Status.FAILED for result in results):
        return document_of(report_of_plan(session, command, results, 1), session.mask)
    if not has_actions(results):
        return document_of(_nothing_to_do(session, command, text, results, unfinished), session.mask)
    agree(report_of_plan(session, command, results, 0))
    run = begin(session, command, text, results, unfinished, only=only)
    return follow(session, run, tell)


def begin(
    session: Session,
    command: str,
    text: bytes,
    results: Results,
    unfinished: journal.PastRun | None,
    *,
    only: Sequence[str] = (),
    reviewed: bool = False,
) -> str:
    """Starts the run that applies this plan, and returns its id. A plan that was `reviewed` is all that it will do.

    The text is that of the session's answers.
    """
    from .download import key_of_plan

    request = {
        **request_of(session, command, unfinished.id if unfinished else None),
        "checked": checked.keep(text, session.look.answers),
        "rendered": render.keep(),
        "only": list(only),
        "reviewed": fingerprints(results) if reviewed else None,
        "caddy_key": base64.b64encode(key_of_plan(results)).decode(),
    }
    return start_run(session, request, text, report_of_plan(session, command, results, 0))


def request_of(session: Session, command: str, continued: str | None) -> dict[str, Any]:
    """What every run is told: it is all of the plan's steps, where its command does not say otherwise."""
    operator = session.look.operator
    return {
        "command": command,
        "began": time.time(),
        "operator": dataclasses.asdict(operator) if operator else None,
        "continued": continued,
        "only": [],
    }


def start_run(session: Session, request: dict[str, Any], text: bytes, planned: Report) -> str:
    """The run's directory, and its unit. What it brings back lies beside it until a run has: see restored.py."""
    run = journal.new_run_id(time.time())
    kept = session.look.archive
    placed = kept is not None and files.read(paths.RESTORE) is None
    if kept is not None:
        files.make_directories(paths.STATE, 0o755)
        files.write(paths.RESTORE, kept.raw, mode=0o600)
    journal.prepare(run, request, text, {"steps": [[c.as_json() for c in step.changes] for step in planned.steps]})
    try:
        runs.start(session.machine, run)
    except SetupError:
        journal.forget(run)
        if placed:
            files.remove(paths.RESTORE)
        raise
    return run


class Refused(SetupError):
    """The call lacks a word that says that this is meant: exit code 2, nothing changed."""


EXPOSES = "this opens vLLM to the network again: other machines reach it without encryption, past Caddy"
Ask = Callable[[Document], bool]


def require_yes(sure: Sure, ask: Ask, shown: Document) -> None:
    """Raises Refused where nobody has agreed to what is shown."""
    if not sure.yes and not ask(shown):
        raise Refused("this asks first, and there was no yes", "without a terminal to ask on: --yes")


def rollback(wanted: str | None, sure: Sure, tell: Tell, ask: Ask) -> Document:
    """Takes one run back. `ask` shows the plan to a person, where there is one, and returns the answer."""
    from . import rollback as room
    from .reversal import Wish

    runs.refuse_beside_another()
    target = room.choose_run(wanted)
    text = answers_of(target)
    session = Session(checked.load_saved(text), operator=find_operator())
    if conflicts := room.find_conflicts(target):
        message = f"a later run touched the same: {', '.join(conflicts)}"
        problem = {"line": None, "key": "", "message": message, "expected": "take the later run back first"}
        return document_of(Report("rollback", 3, errors=(problem,)), session.mask)
    planned = room.plan_rollback(target, session.look, Wish(keep_bind=sure.keep_bind))
    undo = {"run": target, "keep_bind": sure.keep_bind, "keep_data": False}
    undoing = Undoing("rollback", text, planned, planned.results(session.look), undo)
    return _take_back(session, undoing, sure, tell, ask)


def uninstall(sure: Sure, tell: Tell, ask: Ask) -> Document:
    """Takes all back that is ours. Answers that can't be read stop nothing: what is ours says what there is to do."""
    from . import uninstall as room
    from .reversal import Wish

    runs.refuse_beside_another()
    text, wanted = room.answers_or_defaults()
    session = Session(wanted, operator=find_operator())
    planned = room.plan_uninstall(session.look, Wish(keep_bind=sure.keep_bind, keep_data=not sure.purge))
    undo = {"run": None, "keep_bind": sure.keep_bind, "keep_data": not sure.purge}
    undoing = Undoing("uninstall", text, planned.reversal, planned.results(session.look), undo)
    return _take_back(session, undoing, sure, tell, ask)


@dataclasses.dataclass(frozen=True)
class Undoing:
    """What is taken back, as it is shown, and as the run is told of it (`undo`)."""

    command: str
    answers: bytes
    reversal: Reversal
    results: Results
    undo: dict[str, Any]


def _take_back(session: Session, undoing: Undoing, sure: Sure, tell: Tell, ask: Ask) -> Document:
    """Shown, agreed to, and done by a run of its own."""
    exposes = undoing.reversal.exposes
    warnings = (*((EXPOSES,) if exposes else ()), *undoing.reversal.left)
    report = report_of_plan(session, undoing.command, undoing.results, 0)
    shown = document_of(dataclasses.replace(report, warnings=warnings, endpoint=None), session.mask)
    unfinished = journal.find_unfinished()
    continued = unfinished.id if unfinished and unfinished.command == undoing.command else None
    if sure.plan:
        return shown
    if not any(result.changes for result in undoing.results):
        if continued and (target := undoing.undo["run"]):  # killed when all was taken back, before it was noted
            journal.mark(target, "rolled_back", continued)
            journal.mark(continued, "continued", "a rollback with nothing left to do")
            return shown | {"continued": continued}
        return shown
    if exposes and not sure.expose:
        raise Refused(EXPOSES, "say --expose if that is meant, or --keep-bind to leave it closed")
    require_yes(sure, ask, shown)
    request = {**request_of(session, undoing.command, continued), "undo": undoing.undo}
    return follow(session, start_run(session, request, undoing.answers, report), tell)


def answers_of(run: str) -> bytes:
    """The answers that a run was started with. Raises SetupError."""
    path = str(journal.run_directory(run) / "answers.yaml")
    state = files.read(path)
    if state is None or state.kind != "file":
        raise SetupError(f"{path} is not there: what run {run} was to do is not known", "give answers: --answers F")
    return state.content


def _nothing_to_do(
    session: Session, command: str, text: bytes, results: Results, unfinished: journal.PastRun | None
) -> Report:
    tested = run_tests(session, results) if any(result.step.prove for result in results) else Tested(results, ())
    save_answers(text, session.look.answers)
    if len(results) == len(STEPS):
        files.remove(paths.RESTORE)
    if unfinished:
        journal.mark(unfinished.id, "continued", "a run with nothing left to do")
    return Report(
        command,
        test_exit_code(tested.rows),
        steps=planned(tested.results),
        tests=tested.rows,
        endpoint=session.endpoint(tested.rows),
        continued=unfinished.id if unfinished else None,
        duration_s=time.monotonic() - session.began,
    )


def follow(session: Session, run: str, tell: Tell) -> Document:
    """The run's events told on, then its report. Ctrl-C and SIGTERM ask the run to stop after the current action.

    SIGHUP does not: a connection or terminal that is lost ends who looks on, and no run.
    """
    asked: list[int] = []
    stopping = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, frame: asked.append(number)) for one in stopping}
    reported: Document | None = None
    try:
        for event in runs.follow(session.machine, run, lambda: bool(asked)):
            reported = event["document"] if event.get("event") == "report" else reported
            tell(event)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return reported or journal.read_report(run)


def save_answers(text: bytes, answers: Answers, rendered: str | None = None) -> None:
    """The answers as those of this server. What a wizard was told before that is no longer gone on with.

    `rendered` are the texts that they lead to, where this process has not rendered them itself.
    """
    if _keep(paths.ANSWERS, text):
        from .draft import forget_draft

        forget_draft()
    _keep(paths.CHECKED, checked.keep(text, answers).encode())
    _keep(paths.RENDERED, (rendered or render.keep()).encode())


def _keep(path: str, content: bytes) -> bool:
    """Root's own file with this content. True if it was written: it had another one, or there was none."""
    state = files.read(path)
    if state is not None and state.content == content:
        return False
    files.write(path, content, mode=0o600)
    return True
