"""Where the screens hand in what takes time: threads that ask the gateway, and post its answers to the app.

The threads are daemons: a wizard that is left, or hung up on, never waits for them.
"""

from __future__ import annotations

import contextlib
import functools
import posixpath
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.message import Message

from wizard.draft import Draft
from wizard.gateway import Gateway, Opening, Seen, SeenStep

Document = dict[str, Any]
Post = Callable[[Message], object]


class Opened(Message):
    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self.opening = opening


class StepSeen(Message):
    """A step of the look that is under way."""

    def __init__(self, number: int, seen: SeenStep) -> None:
        super().__init__()
        self.number = number
        self.seen = seen


class Looked(Message):
    """The whole look, with the number that `Desk.look` gave it."""

    def __init__(self, number: int, seen: Seen) -> None:
        super().__init__()
        self.number = number
        self.seen = seen


class RowCame(Message):
    def __init__(self, row: Document) -> None:
        super().__init__()
        self.row = row


class Proved(Message):
    def __init__(self, rows: list[Document]) -> None:
        super().__init__()
        self.rows = rows


class Started(Message):
    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run


class Happened(Message):
    """An event of the run's journal."""

    def __init__(self, event: Document) -> None:
        super().__init__()
        self.event = event


class Ended(Message):
    """The run is over; without a report where it was killed."""

    def __init__(self, report: Document | None) -> None:
        super().__init__()
        self.report = report


class Kept(Message):
    """The answers are written down for the next start; or `why` they could not be, and nothing else is wrong."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class Answered(Message):
    """What a small order came to, in words for people; `text` where text was asked for."""

    def __init__(self, order: str, text: str) -> None:
        super().__init__()
        self.order = order
        self.text = text


class Browsed(Message):
    """What a directory holds; of the nearest one above where it could not be read."""

    def __init__(self, directory: str, entries: tuple[tuple[str, bool], ...]) -> None:
        super().__init__()
        self.directory = directory
        self.entries = entries


class Trouble(Message):
    """An order that failed: what happened, and what to do. `run` is another one that is in the way; `look` is the
    number of the look that failed, 0 for any other order."""

    def __init__(
        self,
        message: str,
        remedy: str,
        broken: BaseException | None = None,
        *,
        run: str | None = None,
    ) -> None:
        super().__init__()
        self.run = run
        self.look = 0
        self.message = message
        self.remedy = remedy
        self.broken = broken


class Superseded(Exception):
    """Another look has been asked for meanwhile."""


@dataclass
class Wanted:
    number: int
    draft: Draft
    again: bool


class Desk:
    """One thread that looks, so that a newer look takes the place of an older one; and others for all else."""

    def __init__(self, gateway: Gateway, post: Post) -> None:
        self._gateway = gateway
        self._post = post
        self._wanted: Wanted | None = None
        self._number = 0
        self._wake = threading.Condition()
        # A session's facts are kept between looks: one caller at a time.
        self._using = threading.Lock()
        self._unkept: Draft | None = None
        self._keeping = threading.Lock()

    def begin(self) -> None:
        threading.Thread(target=self._serve, name="looks", daemon=True).start()

    def look(self, draft: Draft, *, again: bool = False) -> int:
        """Has the server looked at with this draft; returns the look's number."""
        with self._wake:
            again = again or (self._wanted is not None and self._wanted.again)
            self._number += 1
            self._wanted = Wanted(self._number, draft, again)
            self._wake.notify()
            return self._number

    def order(self, work: Callable[[], Message | None], *, alone: bool = True) -> None:
        """Has something done in a thread of its own, and its message posted; `alone` is not beside a look."""

        def run() -> None:
            with self._using if alone else contextlib.nullcontext():
                self._guarded(work)

        threading.Thread(target=run, daemon=True).start()

    def keep(self, draft: Draft) -> None:
        """Has the answers kept for the next start: of several, the newest last."""
        self._unkept = draft
        self.order(lambda: Kept(self._keep_newest()), alone=False)

    def keep_now(self, draft: Draft | None) -> str:
        """The same, before all ends; and what is being kept just now. Returns why it can't be, "" where it can."""
        if draft is not None:
            self._unkept = draft
        return self._keep_newest()

    def _keep_newest(self) -> str:
        from wizard.model import SetupError

        with self._keeping:
            draft, self._unkept = self._unkept, None
            try:
                if draft is not None:
                    self._gateway.keep(draft)
            except SetupError as error:
                return error.message
            return ""

    def follow(self, run: str) -> None:
        """Posts the run's events, and its end."""

        def work() -> Message:
            for event in self._gateway.follow(run):
                self._post(Happened(event))
            from wizard.model import SetupError

            try:
                return Ended(self._gateway.report(run))
            except SetupError:
                return Ended(None)

        self.order(work, alone=False)

    def prove(self, draft: Draft) -> None:
        def tell(row: Document) -> None:
            self._post(RowCame(row))

        self.order(lambda: Proved(self._gateway.prove(draft, tell)))

    def start(self, draft: Draft, seen: Seen) -> None:
        self.order(lambda: Started(self._gateway.start(draft, seen)))

    def browse(self, directory: str) -> None:
        def work() -> Message:
            at = directory
            while not (found := self._gateway.browse(at)) and at != "/":
                at = posixpath.dirname(at)
            return Browsed(at, found)

        self.order(work, alone=False)

    def _guarded(self, work: Callable[[], Message | None], *, look: int = 0) -> None:
        """The work's message; or what went wrong, in words. The exception itself goes to the app's crash report."""
        from wizard.answers_file import AnswersError
        from wizard.model import SetupError
        from wizard.runs import UNKNOWN, Busy

        try:
            message = work()
        except Superseded:
            return
        except Busy as error:
            known = error.holder.run if error.holder != UNKNOWN and not error.holder.user else None
            message = Trouble(error.message, error.remedy, run=known)
        except SetupError as error:
            message = Trouble(error.message, error.remedy)
        except AnswersError as error:
            message = Trouble("the answers are not right yet", str(error))
        except Exception as error:
            message = Trouble("", "", error)
        if isinstance(message, Trouble):
            message.look = look
        if message is not None:
            self._post(message)

    def _serve(self) -> None:
        self._guarded(lambda: Opened(self._gateway.open()))
        while True:
            with self._wake:
                while self._wanted is None:
                    self._wake.wait()
                wanted, self._wanted = self._wanted, None
            with self._using:
                work = functools.partial(self._look, wanted)
                self._guarded(work, look=wanted.number)

    def _look(self, wanted: Wanted) -> Message:
        def tell(seen: SeenStep) -> None:
            if self._number != wanted.number:
                raise Superseded
            self._post(StepSeen(wanted.number, seen))

        return Looked(wanted.number, self._gateway.look(wanted.draft, tell, again=wanted.again))
