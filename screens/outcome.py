"""A run that ended without a test: it failed, was stopped, was killed, or took another one back."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content

from .block import Block
from .drawing import stacked, wrapped
from .page import Key, Page

KILLED = (
    "What it had done by then stays, and no file is half written. A firewall that was not proved yet puts itself back."
)


class OutcomePage(Page):
    at = "work"
    title = "This did not succeed"
    help = (
        "What was done is done, and what was not is not: nothing is half written. Put the cause right and try again: "
        "the next run looks first, and does only what is left. l shows every command with its output."
    )

    def compose(self) -> ComposeResult:
        report = self.wizard.report
        if report is not None and report["exit_code"] == 0:
            self.title, self.about = "Done", "The run has ended, and did what it should."
        yield from self.head()
        yield Block(self._words, classes="fill")

    def _words(self, width: int, height: int) -> Content:
        return stacked(self._each(width), height)

    def _each(self, width: int) -> Iterator[Content]:
        report = self.wizard.report
        if report is None:
            yield from wrapped("The run was killed before its end. Trying again completes it.", width, "bold")
            yield Content("")
            yield from wrapped(KILLED, width)
            yield from wrapped(f"Log: sudo vllm-https-setup log {self.wizard.run_id}", width, "dim")
            return
        for warning in report["warnings"]:
            yield Content.assemble(("! ", "bold $warning"))
            yield from wrapped(warning, width, "bold", "  ")
        for error in report["errors"]:
            yield from wrapped(error["message"], width, "bold")
            yield from wrapped(error["expected"] or "", width, indent="  ")
        for step in report["steps"]:
            if step["status"] not in ("failed", "blocked"):
                continue
            for finding in step["findings"]:
                if finding["level"] in ("blocked", "warn", "drift"):
                    yield Content.assemble(("✗ ", "bold $error"), (step["title"], "bold"))
                    yield from wrapped(finding["summary"], width, indent="  ")
                    yield from wrapped(finding["remedy"] or "", width, "dim", "  ")
                    break
        if report["exit_code"] == 0:
            return
        yield Content("")
        done = ", ".join(step["title"] for step in report["steps"] if step["status"] == "changed")
        back = f"Done: {done}. It can be taken back: sudo vllm-https-setup rollback"
        yield from wrapped(back if done else "No step was completed.", width)
        if report["log_path"]:
            yield from wrapped(f"Log: {report['log_path']}", width, "dim")

    def keys(self) -> list[Key]:
        log = Key(("l",), "l", "Log", self.wizard.show_log)
        if self.wizard.report is not None and self.wizard.report["exit_code"] == 0:
            return [Key(("enter", "q"), "Enter", "Finish", self.wizard.leave, main=True), log]
        return [Key(("enter",), "Enter", "Try again", self.forward, main=True), log]

    def forward(self) -> None:
        from .state import StatePage

        # What was seen before the run is not so any more.
        self.wizard.seen = None
        self.wizard.look(again=True)
        self.wizard.walk_to(StatePage())
