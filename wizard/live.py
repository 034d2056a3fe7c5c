"""The real server: facts of the real machine, and actions really done."""

from __future__ import annotations

import time

from . import files
from .facts import Facts
from .model import TIMED_OUT, Action, Output, Remove, Run, SetupError, Wait, Write
from .system import RealMachine

MOST_BETWEEN_LOOKS_S = 1.0


class LiveServer(Facts):
    machine: RealMachine

    def __init__(self, machine: RealMachine) -> None:
        super().__init__(machine)

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
        """The command, again while `retry` says that its failure is one that passes (a lock that another holds)."""
        until = time.monotonic() + action.retry_s
        while True:
            output = self.machine.command(action.argv, timeout_s=action.timeout_s, environment=dict(action.environment))
            passing = None if output.ok or action.retry is None else action.retry(output)
            if passing is None:
                return output
            if time.monotonic() > until:
                return Output(output.code, output.out, f"{output.err}\n{passing}")
            self.machine.observer.progress(passing)
            time.sleep(1)

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
        self.refresh()
        until = time.monotonic() + action.timeout_s
        interval, said = action.interval_s, ""
        while True:
            probe = action.until(self)
            if probe.words != said:
                said = probe.words
                self.machine.observer.progress(said)
            if probe.done:
                return Output(0, probe.detail)
            left = until - time.monotonic()
            if probe.done is False or left <= 0:
                if probe.done is False:
                    return Output(1, "", f"{action.what}: {probe.detail}")
                late = f"not within {action.timeout_s:.0f} s: {probe.detail}. {action.late}"
                return Output(TIMED_OUT, "", f"{action.what}: {late}".strip())
            time.sleep(min(interval, left))
            interval = min(interval * 1.2, MOST_BETWEEN_LOOKS_S)
            self.refresh()
