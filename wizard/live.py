"""The real server: facts of the real machine, and actions really done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from . import beside, files, packets
from .facts import Facts
from .model import Action, Output, Remove, Run, SetupError, Wait, Write
from .parse.error_line import line_of_error
from .process import Process
from .queries import LISTENERS, show_units
from .server import Listener, Reach, Response, Target
from .starting import LIMIT_S, REFUSED, started_by
from .system import RealMachine
from .ufw_files import complaint
from .unit_log import SYNC, said_by, said_of
from .waiting import wait

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .download import Download

LONGEST_REASON = 500


class LiveServer(Facts):
    machine: RealMachine

    def __init__(self, machine: RealMachine, begun: Mapping[Sequence[str], Process] | None = None) -> None:
        super().__init__(machine)
        self._begun = {tuple(argv): process for argv, process in (begun or {}).items()}
        self.download: Download | None = None
        # What the plan has fetched, and checked: its run need not fetch it again.
        self.fetched: dict[str, Response] = {}
        self._fetching: dict[str, Future[Response]] = {}
        self._probe: Process | None = None

    def expect(self, queries: Sequence[Sequence[str]], units: Sequence[str] = ()) -> None:
        """Starts them all at the same time. Each is waited for, and told of, where its answer is needed."""
        unknown = [name for name in units if name not in self._units]
        for argv in map(tuple, [*([show_units(*unknown)] if unknown else []), *queries]):
            known = "listeners" if argv == LISTENERS else ("query", argv, b"")
            if argv not in self._begun and known not in self._kept:
                # What can't be started is asked again in its turn, and told there.
                with contextlib.suppress(OSError):
                    self._begun[argv] = self.machine.start(argv)

    def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
        begun = None if stdin else self._begun.pop(tuple(argv), None)
        return self._once(
            ("query", tuple(argv), stdin),
            lambda: self.machine.command(tuple(argv), timeout_s=timeout_s, stdin=stdin, begun=begun),
        )

    def listeners(self) -> tuple[Listener, ...]:
        return self._once("listeners", lambda: self.machine.listeners(self._begun.pop(LISTENERS, None)))

    def expect_fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> None:
        if url not in self.fetched:
            self._fetching[url] = beside.begin(lambda: self.machine.fetch(url, timeout_s, ca_file))

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        if (begun := self._fetching.pop(url, None)) is not None:
            return self._once(("fetch", url), begun.result)
        return self.fetched.get(url) or super().fetch(url, timeout_s, ca_file)

    def expect_reach(self) -> None:
        """Packets will be sent: their namespace, and the program in it, are made while the rest is looked at."""
        with contextlib.suppress(OSError):
            self._probe = self._probe or packets.begin()

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]:
        begun, self._probe = self._probe, None
        return self.machine.reach(targets, begun)

    def refresh(self) -> None:
        super().refresh()
        self._fetching.clear()
        while self._begun:
            # What it says may be of before.
            with self._begun.popitem()[1]:
                pass

    def perform(self, action: Action) -> Output:
        """Does it. Exit code 0 is success, 124 a time that ran out, with the last words. Raises SetupError."""
        try:
            match action:
                case Run():
                    return self._run(action)
                case Write():
                    self._write(action)
                case Remove():
                    files.remove(action.path)
                case Wait():
                    return self._wait(action)
            return Output(0)
        finally:
            self.refresh()

    def _run(self, action: Run) -> Output:
        """The command, again while its failure is one that passes: `retry` says so (a lock that another holds), or
        systemd does."""
        if self.download is not None and (done := self.download.hand_over(action.argv)) is not None:
            return done
        until = time.monotonic() + (action.retry_s if action.retry else LIMIT_S)
        while True:
            began = int(self.now())
            output = self.machine.command(action.argv, timeout_s=action.timeout_s, environment=dict(action.environment))
            if output.ok:
                return self._look_after(action, output)
            passing = action.retry(output) if action.retry else self._started_too_often(action, began)
            if passing is None:
                return self._with_reason(action, output, began)
            if time.monotonic() > until:
                return self._with_reason(action, replace(output, err=f"{output.err}\n{passing}"), began)
            self.machine.observer.progress(passing)
            time.sleep(1)

    def _started_too_often(self, action: Run, since: int) -> str | None:
        """Of a start that failed: whether systemd refused it for those before it. The unit's program is no worse for
        that, and was not even tried; systemctl tells of its last failure instead, where there was one."""
        unit = started_by(action.argv)
        if not unit or REFUSED not in self._in_journal(said_of(unit, since)):
            return None
        at_once = f"at once after: sudo systemctl reset-failed {unit}"
        return f"{unit} was started too often just now: systemd starts it again in a moment, or {at_once}"

    def _in_journal(self, argv: Sequence[str]) -> str:
        self.machine.command(SYNC, timeout_s=10)
        return self.machine.command(argv, timeout_s=10).out

    def _look_after(self, action: Run, output: Output) -> Output:
        """ufw's exit code is 0 where a full disk has cut off what it wrote: who believed it would be locked out by a
        boot."""
        if action.argv[0] != "ufw":
            return output
        self.refresh()
        if not self.cut_off():
            return output
        return replace(output, code=1, out="", err=complaint(self.firewall()))

    def _with_reason(self, action: Run, output: Output, began: int) -> Output:
        """systemctl only says where to read on: what the unit itself has said is added."""
        unit = started_by(action.argv)
        if not unit:
            return output
        reason = line_of_error(self._in_journal(said_by(unit, f"--since=@{began}")))
        return replace(output, err=f"{output.err}\n{reason[:LONGEST_REASON]}") if reason else output

    def _write(self, action: Write) -> None:
        def validate(copy: str) -> None:
            argv = tuple(word.replace("{path}", copy) for word in action.validate)
            output = self.machine.command(argv, timeout_s=60)
            if not output.ok:
                raise SetupError(
                    f"{action.path} was not replaced: the new content is refused: {output.last_words}",
                    "what was there goes on unchanged",
                )

        files.write(
            action.path,
            action.content,
            mode=action.mode,
            owner=action.owner,
            group=action.group,
            validate=validate if action.validate else None,
            attributes_of=action.path if action.keep_attributes and self.read(action.path) else None,
        )

    def _wait(self, action: Wait) -> Output:
        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            self.refresh()

        self.refresh()
        return wait(self, action, clock=time.monotonic, sleep=sleep, tell=self.machine.observer.progress)
