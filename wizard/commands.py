"""One function a command: each returns its report."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import answers as answers_file
from . import files, journal, paths, runs, script
from .answers import Answers
from .engine import Step, StepResult, walk
from .model import Report, SetupError, Status, TestRow
from .overlay import Overlay
from .report import Document, document_of
from .server import Operator
from .session import (
    Session,
    Tested,
    has_actions,
    is_blocked,
    plan_exit_code,
    report_of_plan,
    run_tests,
    status_exit_code,
    test_exit_code,
)
from .steps import STEPS
from .system import find_operator

Results = tuple[StepResult, ...]
Tell = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Sure:
    """What the caller has said in advance."""

    yes: bool = False
    expose: bool = False
    keep_bind: bool = False


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
    session = Session(answers_file.load(text), operator=find_operator())
    results = session.plan()
    code = plan_exit_code(results)
    if detailed and code == 0 and has_actions(results):
        code = 6
    report = report_of_plan(session, "plan", results, code)
    unfinished = journal.find_unfinished() if runs.find_holder() is None else None
    warnings = [f"run {unfinished.id} was cut off; apply completes its work"] if unfinished else []
    return document_of(dataclasses.replace(report, warnings=tuple(warnings)), session.mask)


def export(text: bytes) -> tuple[str, Document]:
    """The plan as a shell script, and its report; where the plan can't be carried out there is no script."""
    session = Session(answers_file.load(text), operator=find_operator())
    notes = script.Notes()
    results = walk(STEPS, dataclasses.replace(session.look, server=Overlay(session.server)), notes)
    code = plan_exit_code(results)
    document = document_of(report_of_plan(session, "plan", results, code), session.mask)
    if code:
        return "", document
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return script.write_script(session.look, results, notes, session.endpoint().base_url, at), document


def status() -> Document:
    """Findings and the final test. A server that was never set up is looked at with the answers' defaults."""
    warnings: tuple[str, ...] = ()
    try:
        wanted = answers_file.load(saved_answers())
    except NoAnswers as error:
        wanted = Answers.defaults()
        warnings = (f"{error.message}; {error.remedy}",)
    session = Session(wanted, operator=find_operator())
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
    session = Session(answers_file.load(saved_answers()), operator=find_operator())
    tested = run_tests(session, walk([step for step in STEPS if step.prove is not None], session.look))
    report = Report(
        "test",
        test_exit_code(tested.rows),
        steps=tuple(result.applied() for result in tested.results),
        tests=tested.rows,
        endpoint=session.endpoint(tested.rows),
        duration_s=time.monotonic() - session.began,
    )
    return document_of(report, session.mask)


def steps_named(only: Sequence[str]) -> tuple[Step, ...]:
    """These steps, or all where none is named."""
    return tuple(step for step in STEPS if not only or step.id in only)


def apply(command: str, text: bytes | None, tell: Tell, only: Sequence[str] = ()) -> Document:
    """Checks first; where nothing is to be done it tests and reports at once; else it starts the run and follows it."""
    if (holder := runs.find_holder()) is not None:
        raise runs.Busy(holder)
    unfinished = journal.find_unfinished()
    if text is None:
        text = _own_answers(unfinished.id) if unfinished else saved_answers()
    session = Session(answers_file.load(text), operator=find_operator())
    results = session.plan(steps_named(only))
    if is_blocked(results):
        return document_of(report_of_plan(session, command, results, 3), session.mask)
    if any(result.status is Status.FAILED for result in results):
        return document_of(report_of_plan(session, command, results, 1), session.mask)
    if not has_actions(results):
        return document_of(_nothing_to_do(session, command, text, results, unfinished), session.mask)
    run = journal.new_run_id(time.time())
    planned = report_of_plan(session, command, results, 0)
    request = {
        "command": command,
        "began": time.time(),
        "operator": dataclasses.asdict(session.look.operator) if session.look.operator else None,
        "continued": unfinished.id if unfinished else None,
        "only": list(only),
    }
    return _start(session, run, request, text, planned, tell)


def _start(session: Session, run: str, request: dict[str, Any], text: bytes, planned: Report, tell: Tell) -> Document:
    """The run's directory, its unit, its events, its report."""
    journal.prepare(run, request, text, {"steps": [[c.as_json() for c in step.changes] for step in planned.steps]})
    try:
        runs.start(session.machine, run)
    except SetupError:
        journal.forget(run)
        raise
    return _follow(session, str(request["command"]), run, tell)


class Refused(SetupError):
    """The call lacks a word that says that this is meant: exit code 2, nothing changed."""


EXPOSES = "this would open vLLM to the network again"


def rollback(wanted: str | None, sure: Sure, tell: Tell, ask: Callable[[Document], bool]) -> Document:
    """Takes one run back. `ask` shows the plan to a person, where there is one, and returns the answer."""
    from . import rollback as room

    if (holder := runs.find_holder()) is not None:
        raise runs.Busy(holder)
    target = room.choose_run(wanted)
    text = _own_answers(target)
    session = Session(answers_file.load(text), operator=find_operator())
    if conflicts := room.find_conflicts(target):
        message = f"a later run touched the same: {', '.join(conflicts)}"
        problem = {"line": None, "key": "", "message": message, "expected": "take the later run back first"}
        return document_of(Report("rollback", 3, errors=(problem,)), session.mask)
    planned = room.plan_rollback(target, session.look, keep_bind=sure.keep_bind)
    report = report_of_plan(session, "rollback", planned.results(session.look), 0)
    warnings = (
        *((EXPOSES,) if planned.exposes else ()),
        *(f"left as it is, edited since: {path}" for path in planned.edited),
    )
    report = dataclasses.replace(report, warnings=warnings)
    if planned.exposes and not sure.expose:
        raise Refused(f"{EXPOSES}", "say --expose if that is meant, or --keep-bind to leave it closed")
    if not sure.yes and not ask(document_of(report, session.mask)):
        raise Refused("this asks first, and there is no terminal to ask on", "say --yes")
    request = {
        "command": "rollback",
        "began": time.time(),
        "operator": dataclasses.asdict(session.look.operator) if session.look.operator else None,
        "continued": None,
        "only": [],
        "rollback": {"run": target, "keep_bind": sure.keep_bind},
    }
    return _start(session, journal.new_run_id(time.time()), request, text, report, tell)


def _take_back(session: Session, book: journal.Journal, request: dict[str, Any]) -> Report:
    from . import rollback as room

    target = str(request["rollback"]["run"])
    planned = room.plan_rollback(target, session.look, keep_bind=bool(request["rollback"]["keep_bind"]))
    results = room.carry_out(planned, session.look, book)
    failed = any(result.status is Status.FAILED for result in results)
    if not failed:
        journal.mark(target, "rolled_back", book.run)
    return Report(
        "rollback",
        1 if failed else 0,
        steps=tuple(result.applied() for result in results),
        run=book.run,
        changed=any(result.changes for result in results),
        warnings=tuple(f"left as it is, edited since: {path}" for path in planned.edited),
        log_path=journal.log_path(book.run),
    )


def _own_answers(run: str) -> bytes:
    return (journal.run_directory(run) / "answers.yaml").read_bytes()


def _nothing_to_do(
    session: Session, command: str, text: bytes, results: Results, unfinished: journal.PastRun | None
) -> Report:
    tested = run_tests(session, results) if any(result.step.prove for result in results) else Tested(results, ())
    _save_answers(text)
    if unfinished:
        journal.mark(unfinished.id, "continued", "a run with nothing left to do")
    return Report(
        command,
        test_exit_code(tested.rows),
        steps=tuple(result.planned() for result in tested.results),
        tests=tested.rows,
        endpoint=session.endpoint(tested.rows),
        continued=unfinished.id if unfinished else None,
        duration_s=time.monotonic() - session.began,
    )


def _follow(session: Session, command: str, run: str, tell: Tell) -> Document:
    """The run's events told on, then its report. Ctrl-C asks the run to stop after the current action."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        for event in runs.follow(session.machine, run, lambda: bool(asked)):
            tell(event)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        found: Document = json.loads((journal.run_directory(run) / "report.json").read_bytes())
    except (OSError, ValueError):
        raise SetupError(
            f"run {run} was killed before its end",
            f"sudo vllm-https-setup {command} goes on from where it was; its log: {journal.log_path(run)}",
        ) from None
    return found


def run(run_id: str) -> int:
    """What the unit executes: the lock, the look, the actions, the test, the report. Returns the exit code."""
    directory = journal.run_directory(run_id)
    request = json.loads((directory / "request.json").read_bytes())
    text = (directory / "answers.yaml").read_bytes()
    command = str(request["command"])
    with runs.Lock(run_id, command):
        operator = Operator(**request["operator"]) if request["operator"] else None
        session = Session(answers_file.load(text), operator=operator)
        keep = (lambda: None) if "rollback" in request else (lambda: _save_answers(text))
        book = journal.Journal(run_id, session.mask, keep)
        session.machine.observer = book
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: runs.ask_to_stop(run_id))
        book.event("run", durable=True, run=book.run, command=command)
        book.line(f"vllm-https-setup {command}, run {book.run}")
        try:
            report = (_take_back if "rollback" in request else _walk)(session, book, request)
        except Exception as error:
            report = _broken(session, book, command, error)
        return _end(session, book, request, report, directory)


def _save_answers(text: bytes) -> None:
    state = files.read(paths.ANSWERS)
    if state is None or state.content != text:
        files.write(paths.ANSWERS, text, mode=0o600)


def _broken(session: Session, book: journal.Journal, command: str, error: Exception) -> Report:
    """A defect of this program, or a server that fails under it: a sentence for people, the traceback for the log."""
    book.line(traceback.format_exc())
    message = error.message if isinstance(error, SetupError) else f"{type(error).__name__}: {error}"
    remedy = error.remedy if isinstance(error, SetupError) else "the traceback is in the log; the same command goes on"
    problem = {"line": None, "key": "", "message": session.mask.text(message), "expected": remedy}
    return Report(command, 1, errors=(problem,), run=book.run, log_path=journal.log_path(book.run), changed=True)


def _walk(session: Session, book: journal.Journal, request: dict[str, Any]) -> Report:
    results = walk(steps_named(request["only"]), session.look, book)
    rows: tuple[TestRow, ...] = ()
    failed = any(result.status in (Status.FAILED, Status.BLOCKED) for result in results)
    if not failed and any(result.step.prove for result in results):
        tested = run_tests(session, results)
        results, rows = tested.results, tested.rows
        for row in rows:
            book.tested(row)
    return Report(
        request["command"],
        _exit_code(results, rows),
        steps=tuple(result.applied() for result in results),
        tests=rows,
        endpoint=session.endpoint(rows),
        run=book.run,
        continued=request["continued"],
        changed=any(result.changes for result in results),
        warnings=_warnings(results),
        log_path=journal.log_path(book.run),
    )


def _end(session: Session, book: journal.Journal, request: dict[str, Any], report: Report, directory: Path) -> int:
    """The report on disk, then the end: who follows sees the one after the other."""
    report = dataclasses.replace(report, duration_s=time.time() - float(request["began"]))
    text = json.dumps(document_of(report, session.mask), ensure_ascii=False)
    files.write(str(directory / "report.json"), text.encode(), mode=0o600)
    if request["continued"]:
        journal.mark(request["continued"], "continued", book.run)
    book.event("end", durable=True, exit_code=report.exit_code)
    book.line(f"ended with exit code {report.exit_code} after {report.duration_s:.1f} s")
    book.close()
    journal.prune()
    return report.exit_code


def _exit_code(results: Results, rows: tuple[TestRow, ...]) -> int:
    """3 where a check blocked before anything was changed; 1 where anything else did not succeed."""
    if is_blocked(results) and not any(result.changes for result in results):
        return 3
    if any(result.status in (Status.FAILED, Status.BLOCKED) and result.step.prove is None for result in results):
        return 1
    return test_exit_code(rows)


def _warnings(results: Results) -> tuple[str, ...]:
    """Said first: what a failure leaves half done."""
    bound = any(result.step.id == "bind" and result.status in (Status.OK, Status.CHANGED) for result in results)
    failed = next((result for result in results if result.status in (Status.FAILED, Status.BLOCKED)), None)
    if failed is None or not bound or failed.step.prove is not None:
        return ()
    said = (
        f"the API is local only now: vLLM is bound to 127.0.0.1, and {failed.step.title} did not succeed. "
        "Run the same command again when its cause is put right; `vllm-https-setup rollback` brings the old state back"
    )
    return (said,)
