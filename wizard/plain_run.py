"""A run as lines: followed, stopped, its firewall confirmed by a typed yes; then what came of it."""

from __future__ import annotations

import io
import queue
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from . import clients
from .draft import Draft
from .gateway import Gateway
from .plain_lines import Teller
from .progress import OPEN_ANOTHER, PROOF, Progress
from .report import Document, Text

LEVELS = {"ok": "ok", "info": "note", "warn": "warning", "drift": "to do", "blocked": "BLOCKED"}
ROWS = {True: "ok", False: "FAILED", None: "not tried"}
POLL_S = 0.1
GOES_ON = "The run goes on by itself. To see it again: sudo vllm-https-setup"


class Following:
    """One run, from its beginning to its end."""

    def __init__(self, gateway: Gateway, teller: Teller, run: str, draft: Draft) -> None:
        self._gateway = gateway
        self._draft = draft
        self._teller = teller
        self._run = run
        self._asked_to_stop = False
        self._is_testing = False
        self._said = io.StringIO()
        self._progress = Progress(self._said)
        self._proof_until: float | None = None
        self._is_doubt_told = False

    def follow(self) -> int:
        """Tells the events as they come, then the report. Returns the run's exit code; 0 where it was left to itself.

        Typed lines are read meanwhile. Ctrl-C asks; Ctrl-C again, q or a lost line leave the run to itself.
        """
        with counted_interrupts() as interrupts:
            for event in self._events():
                if event is not None:
                    self._tell(event)
                elif not self._goes_on(interrupts):
                    self._teller.say(GOES_ON)
                    return 0
            document = self._gateway.report(self._run)
            tell_result(self._teller, document, self._draft, with_rows=not self._is_testing)
        return int(document["exit_code"])

    def _events(self) -> Iterator[Document | None]:
        """The run's events; None in between, while there is none."""
        events: queue.SimpleQueue[Document | Exception | None] = queue.SimpleQueue()

        def read() -> None:
            try:
                for event in self._gateway.follow(self._run):
                    events.put(event)
                events.put(None)
            except Exception as error:
                events.put(error)

        threading.Thread(target=read, daemon=True).start()
        while True:
            try:
                event = events.get_nowait()
            except queue.Empty:
                yield None
                continue
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            yield event

    def _goes_on(self, interrupts: list[int]) -> bool:
        """Reads what is typed, for a moment. False where the run is left to itself."""
        if interrupts:
            interrupts.clear()
            if self._asked_to_stop:
                return False
            self._asked_to_stop = True
            self._teller.say(
                "Stop after the current action? What is done by then stays, the rest is not begun, and the next start "
                "completes it. An unproved firewall is put back. y and Enter = stop, Enter = no, q = leave it running"
            )
        try:
            words = self._teller.typed(POLL_S)
        except EOFError:
            return False
        if words is not None:
            return self._answer(words.lower())
        return True

    def _answer(self, words: str) -> bool:
        if words == "q":
            return False
        if self._asked_to_stop:
            self._asked_to_stop = False
            if words in ("y", "yes"):
                self._gateway.stop(self._run)
                self._teller.say("It stops after the action that it is at.")
            else:
                self._teller.say("It goes on.")
        elif words == "yes" and self._proof_until is not None:
            self._gateway.confirm()
            self._teller.say("Confirmed.")
        else:
            self._teller.say("The run is under way. Ctrl-C = stop it, q and Enter = leave it running.")
        return True

    def _tell(self, event: Document) -> None:
        self._tell_progress(event)
        match event.get("event"):
            case "action_began":
                change = event["change"]
                is_proof = change["kind"] == "wait" and str(change["for"]).startswith(PROOF)
                self._proof_until = float(event["at"]) + float(change["timeout_s"]) if is_proof else None
                self._is_doubt_told = False
            case "action_ended":
                self._proof_until = None
            case "progress" if OPEN_ANOTHER in str(event["text"]):
                self._tell_doubt()
            case "test":
                if not self._is_testing:
                    self._is_testing = True
                    self._teller.say("Final test")
                tell_row(self._teller, event)

    def _tell_progress(self, event: Document) -> None:
        self._progress.tell(event)
        for line in self._said.getvalue().splitlines():
            self._teller.say(line)
        self._said.seek(0)
        self._said.truncate()

    def _tell_doubt(self) -> None:
        """What a person can do while the firewall is not proved; nothing where that time is over."""
        left = 0 if self._proof_until is None else self._proof_until - time.time()
        if left > 0 and not self._is_doubt_told:
            self._is_doubt_told = True
            self._teller.say(
                f"It is not sure that new SSH connections get in. {OPEN_ANOTHER}. Without a proof everything is put "
                f"back in {left:.0f} seconds. Where you know that you get in: type yes and Enter here."
            )


@contextmanager
def counted_interrupts() -> Iterator[list[int]]:
    """Each Ctrl-C in this list, in place of an exception in the middle of something."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def tell_findings(teller: Teller, findings: Iterable[Document]) -> None:
    for finding in findings:
        teller.labelled(LEVELS[finding["level"]], finding["summary"], finding["remedy"])


def tell_row(teller: Teller, row: Document) -> None:
    """A row of the final test, its level as a word; what to do about it where it failed."""
    remedy = row.get("remedy") if row["ok"] is not True else None
    teller.labelled(ROWS[row["ok"]], f"{row['id']}: {row['detail']}", remedy)


def tell_result(teller: Teller, document: Document, draft: Draft, *, with_rows: bool) -> None:
    """What a run, or a test, came to: all that is not in order, and the summary."""
    teller.title("Result")
    for warning in document["warnings"]:
        teller.labelled(LEVELS["warn"], warning)
    for error in document["errors"]:
        teller.labelled("error", error["message"], error["expected"])
    for step in document["steps"]:
        findings = [one for one in step["findings"] if one["level"] not in ("ok", "info")]
        if findings and step["id"] != "https_test":
            teller.say(f"{step['title']}:")
            tell_findings(teller, findings)
    for row in document["tests"] if with_rows else ():
        tell_row(teller, row)
    closing = Text().closing(document)
    if document["tests"] and document["exit_code"] in (0, 5):
        teller.say(next(closing))
        teller.say()
        teller.show(clients.text(clients.summarize(document, draft.looked_with())))
    else:
        for line in closing:
            teller.say(line, under=" " * 10)
