"""The app: it holds what is known, walks from page to page, and leaves the terminal as it found it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import replace
from typing import Any

from textual.app import App
from textual.driver import Driver
from textual.theme import BUILTIN_THEMES
from textual.timer import Timer

from wizard import clients
from wizard.draft import Draft
from wizard.gateway import Gateway, Opening, Seen, SeenStep
from wizard.questions import Question

from . import desk
from .desk import Desk
from .dialogs import Ask, Show
from .frame import Frame
from .keyboard import TerminalDriver
from .page import Page
from .run_state import RunState

Document = dict[str, Any]

REDRAW_S = 0.2
SCROLLBAR = {
    **dict.fromkeys(("scrollbar", "scrollbar-hover", "scrollbar-active"), "ansi_bright_black"),
    **dict.fromkeys(("scrollbar-background", "scrollbar-background-hover"), "ansi_default"),
    **dict.fromkeys(("scrollbar-background-active", "scrollbar-corner-color"), "ansi_default"),
}
# The terminal's own colours: right on light and dark ones, few bytes, and nothing is lost without any.
THEME = replace(
    BUILTIN_THEMES["ansi-dark"],
    name="terminal",
    primary="ansi_cyan",
    secondary="ansi_cyan",
    accent="ansi_cyan",
    variables={**BUILTIN_THEMES["ansi-dark"].variables, **SCROLLBAR},
)


class WizardApp(App[int]):
    """Every page reads what is known from here; `opening` is None until the server has said who it is."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "vllm-https-setup"
    typing_pause_s = 0.4
    pause_before_start_s = 0.5

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway
        self.desk = Desk(gateway, self.post_message)
        self.opening: Opening | None = None
        self.draft = Draft()
        self.steps_seen: dict[str, SeenStep] = {}
        self.seen: Seen | None = None
        self.looking = 0
        self.run_id: str | None = None
        self.run_state = RunState()
        self.report: Document | None = None
        self.rows: list[Document] = []
        self.is_proved = False
        self.was_killed = False
        self.is_starting = False
        self.is_leaving = False
        self.kept_at = ""
        self.not_kept = ""
        self.last_words = ""
        self._redrawing: Timer | None = None
        self._typing: asyncio.TimerHandle | None = None
        self.register_theme(THEME)
        self.theme = "terminal"

    # ── life and death ──

    def get_driver_class(self) -> type[Driver]:
        return TerminalDriver

    async def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self.end_by, number)
        await self.push_screen(Frame())
        from .welcome import WelcomePage

        await self.frame.show(WelcomePage())
        self.set_interval(1, self._tick)
        self.desk.begin()

    @property
    def frame(self) -> Frame:
        return next(one for one in self.screen_stack if isinstance(one, Frame))

    @property
    def page(self) -> Page | None:
        return next((one.page for one in self.screen_stack if isinstance(one, Frame)), None)

    def _tick(self) -> None:
        if not self.is_leaving and self.page is not None:
            self.page.ticked()

    async def action_quit(self) -> None:
        self.leave()

    def action_help_quit(self) -> None:
        """Ctrl-C: in a run it asks about the run, elsewhere it leaves, as a shell's user expects."""
        from .progress import ProgressPage

        if isinstance(self.page, ProgressPage) and self.run_state.exit_code is None:
            self.page.ask_to_stop()
        else:
            self.leave()

    def end_by(self, number: int) -> None:
        """Ends as a signal asks, and gives the terminal back: Textual's own way would leave it as it is."""
        from .farewell import words_after

        self._keep_last()
        self.is_leaving, self.last_words = True, words_after(self)
        self.exit(128 + number, 128 + number)

    def leave(self) -> None:
        """Ends the wizard; what that leaves is said on the terminal after."""
        from .farewell import words_after

        self._keep_last()
        self.is_leaving, self.last_words = True, words_after(self)
        self.exit(self.code)

    @property
    def code(self) -> int:
        if self.report is not None:
            return int(self.report["exit_code"])
        if self.was_killed:
            return 1
        if self.is_proved:
            return 5 if any(row["ok"] is False for row in self.rows) else 0
        return 3 if self.seen is not None and self.seen.blocked is not None else 0

    def now(self) -> float:
        """Seconds since the epoch: what the journal's events are stamped with."""
        return time.time()

    # ── the way ──

    async def go(self, page: Page) -> None:
        # What comes late, when the screens are being taken down, has no place any more.
        if not self.is_leaving:
            await self.frame.show(page)

    def walk_to(self, page: Page) -> None:
        self.call_next(self.go, page)

    def show_help(self) -> None:
        if self.page is not None:
            self.push_screen(Show(self.page.title, self.page.help))

    def start_run(self) -> None:
        """The plan that was seen, and no other, is carried out."""
        assert self.seen is not None
        if not self.is_starting:
            self.is_starting = True
            self.report, self.run_state, self.rows, self.is_proved = None, RunState(), [], False
            self.was_killed = False
            self.desk.start(self.draft, self.seen)

    def start_test(self) -> None:
        self.rows, self.is_proved = [], False
        self.desk.prove(self.draft)

    def settle(self) -> None:
        """Nothing is to be done: the answers are those of this server."""
        draft = self.draft
        self.desk.order(lambda: self.gateway.settle(draft))

    def show_log(self) -> None:
        run = self.run_id
        if run is not None:
            self.desk.order(lambda: desk.Answered("show", self.gateway.log(run)), alone=False)

    # ── the end ──

    @property
    def document(self) -> Document:
        """The run's report; where nothing was to be done, the same of the look and the test."""
        if self.report is not None:
            return self.report
        assert self.seen is not None
        return self.seen.document(self.draft, self.rows)

    @property
    def summary(self) -> clients.Summary:
        return clients.summarize({**self.document, "tests": self.rows}, self.draft.looked_with())

    @property
    def checks(self) -> tuple[clients.Check, ...]:
        return clients.checks({**self.document, "tests": self.rows}, str(self.draft.value("tls.mode")))

    # ── answers ──

    def look(self, *, again: bool = False) -> None:
        self.looking = self.desk.look(self.draft, again=again)
        self._redraw()

    def answer(self, question: Question, value: Any, *, typed: bool) -> None:
        """The answer into the draft; a look follows at once, or when the typing pauses."""
        self.draft = self.draft.put(question.key, value)
        self.seen = None
        self._end_typing()
        if typed:
            self.looking = -1
            self._typing = asyncio.get_running_loop().call_later(self.typing_pause_s, self._answered)
            self._redraw()
        else:
            self._answered()

    def _answered(self) -> None:
        self._typing = None
        self.desk.keep(self.draft)
        self.look()

    def _keep_last(self) -> None:
        """What was typed a moment ago, too."""
        pending = self._end_typing()
        why = self.desk.keep_now(self.draft if pending else None)
        self.not_kept = why if pending or why else self.not_kept

    def settle_typing(self) -> None:
        """Looks at once at what was typed: Enter was pressed."""
        if self._end_typing():
            self._answered()

    def _end_typing(self) -> bool:
        """Waits no longer for a pause; whether one was waited for."""
        timer, self._typing = self._typing, None
        if timer is not None:
            timer.cancel()
        return timer is not None

    @property
    def is_looking(self) -> bool:
        return self.looking != 0

    def _redraw_soon(self) -> None:
        """At most a few times a second: apt says more than a slow line carries, and than anybody reads."""
        if self._redrawing is None:
            self._redrawing = self.set_timer(REDRAW_S, self._redraw)

    def _redraw(self) -> None:
        self._redrawing = None
        if not self.is_leaving and self.page is not None:
            self.page.seen()
            self.frame.redraw()

    # ── what the desk says ──

    async def on_opened(self, message: desk.Opened) -> None:
        self.opening = message.opening
        self.draft = message.opening.draft
        if message.opening.run is not None:
            await self.attach(message.opening.run)
            return
        if message.opening.was_set_up or message.opening.cut_off:
            from .state import StatePage

            await self.go(StatePage())
        self.look()

    async def attach(self, run: str) -> None:
        from .progress import ProgressPage

        self.run_id, self.run_state, self.is_starting = run, RunState(), False
        await self.go(ProgressPage())
        self.desk.follow(run)

    def on_step_seen(self, message: desk.StepSeen) -> None:
        if message.number == self.looking:
            self.steps_seen[message.seen.step.id] = message.seen
            self._redraw()

    def on_looked(self, message: desk.Looked) -> None:
        if message.number == self.looking:
            self.looking = 0
            self.seen = message.seen
            self._redraw()

    def on_row_came(self, message: desk.RowCame) -> None:
        self.rows.append(message.row)
        self._redraw()

    def on_proved(self, message: desk.Proved) -> None:
        self.rows, self.is_proved = message.rows, True
        self._redraw()

    async def on_started(self, message: desk.Started) -> None:
        await self.attach(message.run)

    async def on_happened(self, message: desk.Happened) -> None:
        self.run_state.take(message.event)
        if message.event.get("event") == "test":
            from .test import TestPage

            self.rows = self.run_state.rows
            if not isinstance(self.page, TestPage):
                await self.go(TestPage())
        self._redraw_soon()

    async def on_ended(self, message: desk.Ended) -> None:
        from .outcome import OutcomePage
        from .test import TestPage

        self.report, self.was_killed = message.report, message.report is None
        if self.opening is not None:
            self.opening = replace(self.opening, run=None, cut_off=self.run_id if self.was_killed else None)
        if message.report is not None and message.report["tests"]:
            self.rows, self.is_proved = message.report["tests"], True
            if not isinstance(self.page, TestPage):
                await self.go(TestPage())
        else:
            await self.go(OutcomePage())
        self._redraw()

    def on_answered(self, message: desk.Answered) -> None:
        from .summary import SummaryPage

        if message.order == "show":
            self.push_screen(Show("Log", message.text, end=True))
        elif message.order == "arrived" and isinstance(self.page, SummaryPage):
            self.page.take_arrival(message.text)
        elif message.order == "written":
            self.push_screen(Show("Written", message.text))

    def on_kept(self, message: desk.Kept) -> None:
        """What is wrong is said once, and beside what is being typed: it can be gone on with."""
        if message.why and not self.not_kept:
            self.notify(f"Your answers are not kept for a next start: {message.why}", severity="warning", markup=False)
        self.not_kept = message.why

    def on_browsed(self, message: desk.Browsed) -> None:
        from .picker import Picker

        if isinstance(self.screen, Picker):
            self.screen.show(message.directory, message.entries)

    def on_trouble(self, message: desk.Trouble) -> None:
        self.is_starting = False
        if message.look == self.looking:
            self.looking = 0
            self._redraw()
        if message.broken is not None:
            raise message.broken
        if (run := message.run) is not None:
            text = f"{message.message}.\n\nIt can be watched from here, as if it had been started here."
            self.push_screen(Ask("Another run is under way", text, lambda: self.call_next(self.attach, run)))
            return
        self.push_screen(Show("That did not work", f"{message.message}\n\n{message.remedy}"))

    # ── defects ──

    def _handle_exception(self, error: Exception) -> None:
        """A sentence on the terminal, and the traceback into a file: Textual's own would show locals, secrets too."""
        from .farewell import words_of_defect

        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self.last_words = words_of_defect(self, error)
        self._close_messages_no_wait()


def run_app(gateway: Gateway, *, mouse: bool = False) -> int:
    """The wizard on this terminal. Returns the exit code."""
    app = WizardApp(gateway)
    app.animation_level = "none"
    app.run(mouse=mouse)
    # After a hang-up there is nobody to read it.
    with contextlib.suppress(OSError):
        print(app.last_words, end="\n" if app.last_words else "", flush=True)
    return app.return_value if app.return_value is not None else app.return_code or 0
