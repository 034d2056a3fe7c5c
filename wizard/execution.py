"""What a run's unit executes: the lock, the look, the actions, the test, the report."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import beside, checked, files, journal, new_key, paths, render, runs, shortage
from .book import Book
from .caddy_source import key_url, list_of
from .commands import save_answers
from .download import BEGINS_AFTER, Download
from .engine import Look, Step, StepResult, applied, walk
from .internal import CLIENTS_NEED_IT, NEW_EXPORT
from .model import Report, SetupError, Status, TestRow
from .own_places import refuse_foreign_places
from .paths import CADDY_SERVICE, CADDYFILE, SITE_FILE
from .report import Document, document_of
from .server import Operator, Response
from .session import Session, View, is_blocked, run_tests, steps_named, test_exit_code
from .system import Nobody

Results = tuple[StepResult, ...]


def execute(run_id: str) -> int:
    """The whole run. Returns the exit code."""
    refuse_foreign_places()
    directory = journal.run_directory(run_id)
    request = json.loads((directory / "request.json").read_bytes())
    text = (directory / "answers.yaml").read_bytes()
    command = str(request["command"])
    with runs.Lock(run_id, command):
        operator = Operator(**request["operator"]) if request["operator"] else None
        # What uninstall does is known without answers, and it is there for servers that have lost them, too.
        wanted = checked.load(text, request.get("checked")) if text else checked.defaults()
        session = Session(wanted, operator=operator)
        render.remember(request.get("rendered"))
        undoes = "undo" in request
        asks_nothing = undoes or command == new_key.COMMAND
        key = base64.b64decode(request.get("caddy_key") or "")
        download = Download(key, list_of(session.look), session.machine)
        session.server.download = download
        if key:
            session.server.fetched[key_url(session.look)] = Response(200, key)
        session.server.expect_reach()

        def before_actions() -> None:
            if not asks_nothing:
                save_answers(text, wanted, request.get("rendered"))
                if wanted.tls.mode != "internal":
                    beside.load("cryptography.x509")

        def after_step(step: Step, status: Status) -> None:
            if step.id == BEGINS_AFTER and status in (Status.OK, Status.CHANGED) and not undoes:
                download.begin()
                session.server.expect_reach()

        book = journal.Journal(run_id, session.mask, before_actions, after_step)
        session.machine.observer = book
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: runs.ask_to_stop(run_id))
        try:
            book.event("run", durable=True, run=book.run, command=command)
            book.line(f"vllm-https-setup {command}, run {book.run}")
            with download:
                report = (_take_back if undoes else carry_out)(session, book, request)
        except Exception as error:
            report = broken(session, book, command, error)
        try:
            if report.exit_code in (0, 5) and command != new_key.COMMAND and not request["only"]:
                files.remove(paths.RESTORE)
            return _end(session, book, request, report, directory)
        except SetupError as error:
            # A full disk: whoever follows sees that there is no report, and why.
            print(f"{error.message} {error.remedy}", file=sys.stderr)
            return 1


def broken(view: View, book: Book, command: str, error: Exception) -> Report:
    """A defect of this program, or a server that fails under it: a sentence for people, the traceback for the log."""
    import traceback

    with contextlib.suppress(MemoryError):
        book.line(traceback.format_exc())
    known = error if isinstance(error, SetupError) else shortage.of_error(error)
    message = known.message if known is not None else f"{type(error).__name__}: {error}"
    remedy = known.remedy if known is not None else "the traceback is in the log; the same command goes on"
    problem = {"line": None, "key": "", "message": view.mask.text(message), "expected": remedy}
    return Report(
        command, 1, errors=(problem,), run=book.run, log_path=journal.log_path(book.run), changed=book.has_changed
    )


def _take_back(session: Session, book: journal.Journal, request: dict[str, Any]) -> Report:
    """One run, or all that is ours. What uninstall removes at its very end is in its report, and done after it."""
    from .reversal import Wish, carry_out
    from .rollback import plan_rollback, read_done
    from .uninstall import plan_uninstall, with_directories

    undo = request["undo"]
    wish = Wish(bool(undo["keep_bind"]), bool(undo["keep_data"]))
    whole = None if undo["run"] else plan_uninstall(session.look, wish)
    planned = whole.reversal if whole else plan_rollback(str(undo["run"]), session.look, wish)
    results = carry_out(planned, session.look, book)
    failed = any(result.status is Status.FAILED for result in results)
    if undo["run"] and not failed:
        book.own(book.owned.without_commands(one.argv for one in read_done(str(undo["run"]))))
        journal.mark(str(undo["run"]), "rolled_back", book.run)
    if whole and not failed:
        results = with_directories(results, whole.kept, session.look)
    return Report(
        request["command"],
        1 if failed else 0,
        steps=applied(results),
        run=book.run,
        continued=request["continued"],
        changed=any(result.changes for result in results),
        warnings=planned.left,
        log_path=journal.log_path(book.run) if failed or undo["run"] else None,
    )


def carry_out(view: View, book: Book, request: dict[str, Any]) -> Report:
    """The steps walked, and where that went well the final test."""
    steps = steps_named(request["only"])
    if request["command"] == new_key.COMMAND:
        steps = new_key.steps(proved=bool(request["proved"]), unit=str(request.get("unit", "")))
    results = walk(steps, view.look, book, request.get("reviewed"))
    rows: tuple[TestRow, ...] = ()
    failed = any(result.status in (Status.FAILED, Status.BLOCKED) for result in results)
    if not failed and any(result.step.prove for result in results):
        tested = run_tests(view, results, book.tested)
        results, rows = tested.results, tested.rows
    return Report(
        request["command"],
        _exit_code(results, rows),
        steps=applied(results),
        tests=rows,
        endpoint=view.endpoint(rows),
        run=book.run,
        continued=request["continued"],
        changed=any(result.changes for result in results),
        warnings=(*said_first(results, view.look), *_for_clients(results)),
        log_path=journal.log_path(book.run),
    )


def _end(session: Session, book: journal.Journal, request: dict[str, Any], report: Report, directory: Path) -> int:
    """The report on disk, then the end: who follows sees the one after the other."""
    report = dataclasses.replace(report, duration_s=time.time() - float(request["began"]))
    document = document_of(report, session.mask)
    if request["command"] == "uninstall" and report.exit_code == 0:
        return _end_without_a_trace(session, book, document)
    # In ASCII: a name on this server may have bytes that are no text.
    text = json.dumps(document)
    files.write(str(directory / "report.json"), text.encode(), mode=0o600)
    if request["continued"]:
        journal.mark(request["continued"], "continued", book.run)
    book.event("end", durable=True, exit_code=report.exit_code)
    book.line(f"ended with exit code {report.exit_code} after {report.duration_s:.1f} s")
    book.close()
    journal.prune()
    return report.exit_code


def _end_without_a_trace(session: Session, book: journal.Journal, document: Document) -> int:
    """After an uninstall nothing is kept, the run's own directory neither: who follows has its journal open, as we."""
    from .uninstall import KEPT, removal

    session.machine.observer = Nobody()
    session.machine.command(removal(KEPT).argv, timeout_s=60)
    book.event("report", document=document)
    book.event("end", exit_code=0)
    book.close()
    return 0


def _exit_code(results: Results, rows: tuple[TestRow, ...]) -> int:
    """3 where a check blocked before anything was changed; 1 where anything else did not succeed."""
    if is_blocked(results) and not any(result.changes for result in results):
        return 3
    if any(result.status in (Status.FAILED, Status.BLOCKED) and result.step.prove is None for result in results):
        return 1
    return test_exit_code(rows)


def said_first(results: Results, look: Look) -> tuple[str, ...]:
    """What a failure leaves half done."""
    bound = any(result.step.id == "bind" and result.status in (Status.OK, Status.CHANGED) for result in results)
    failed = next((result for result in results if result.status in (Status.FAILED, Status.BLOCKED)), None)
    if failed is None or not bound or failed.step.prove is not None:
        return ()
    sites = (CADDYFILE, SITE_FILE)
    changed = {change.path for result in results for change in result.changes}
    untouched = changed.isdisjoint(sites) and any(map(look.owned.is_written, sites))
    if untouched and any(one.unit == CADDY_SERVICE and one.port == 443 for one in look.server.listeners()):
        return ()  # an earlier run's endpoint is served on as before
    said = (
        f"the API is local only now: vLLM is bound to 127.0.0.1, and {failed.step.title} did not succeed. "
        "Run the same command again when its cause is put right; `vllm-https-setup rollback` brings the old state back"
    )
    return (said,)


def _for_clients(results: Results) -> tuple[str, ...]:
    """What clients have to do, whatever else the run has come to."""
    exported = any(change.why == NEW_EXPORT for result in results for change in result.changes)
    new = new_key.for_clients(finding for result in results for finding in result.after)
    return (*((CLIENTS_NEED_IT,) if exported else ()), *new)
