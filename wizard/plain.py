"""The wizard line by line: for dumb terminals, serial consoles and screen readers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from .draft import LEAST, Draft
from .engine import Step
from .gateway import Gateway, Opening, Seen, SeenStep
from .model import SetupError
from .plain_files import offer_export, offer_save
from .plain_lines import Back, Console, Lines, Quit, Teller
from .plain_questions import Asking, explain_step
from .plain_run import Following, tell_findings, tell_result, tell_row
from .plain_words import KEYS, REVIEW_HELP, WELCOME, in_short, total_impact
from .questions import Question
from .report import Document, Text
from .runs import UNKNOWN, Busy
from .steps import STEPS

PAGES = tuple(step for step in STEPS if step.prove is None)
OPENING, REVIEW = 0, len(PAGES) + 1
STUCK = ("blocked", "failed")


class Ended(Exception):
    """The wizard is over, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run_plain(gateway: Gateway) -> int:
    """The wizard on standard input and output. Returns its exit code."""
    return Plain(gateway, Console(sys.stdin, sys.stdout)).run()


class Plain:
    """The pages in their order: the opening, a page a step, the review; then the run."""

    def __init__(self, gateway: Gateway, lines: Lines) -> None:
        self._gateway = gateway
        self._teller = Teller(lines)
        self._draft = Draft()
        self._seen = Seen()
        self._at_step: Step | None = None
        self._not_kept = ""

    def run(self) -> int:
        """Asks, shows, and where that is wanted sets up. Returns the exit code."""
        try:
            self._walk(self._gateway.open())
        except Ended as ended:
            return ended.code
        except Quit:
            self._tell_left()
            return 3 if self._at_step is not None and self._status(self._at_step) == "blocked" else 0
        except KeyboardInterrupt:
            self._tell_left()
            raise
        except SetupError as error:
            self._teller.say(error.message)
            self._teller.say(error.remedy, "  ")
            return 4 if isinstance(error, Busy) else 1

    def _walk(self, opening: Opening) -> NoReturn:
        """Ends by an exception alone."""
        demo = " DEMO: a simulated server; nothing real is changed." if self._gateway.is_demo else ""
        self._teller.say(f"vllm-https-setup on {opening.host}, {opening.system}.{demo}")
        if opening.run is not None:
            self._teller.say(f"Run {opening.run} is under way. This is what it has done so far, and does:")
            raise Ended(self._follow(opening.run))
        self._draft = opening.draft
        at = OPENING
        while True:
            self._at_step = None
            try:
                if at == OPENING:
                    at = self._open(opening)
                elif at == REVIEW:
                    at = self._review()
                else:
                    at = self._step(at)
            except Back:
                at = max(at - 1, OPENING)

    def _keep(self) -> None:
        """Keeps the answers; where that fails it is said once, and can be gone on with."""
        before, self._not_kept = self._not_kept, ""
        try:
            self._gateway.keep(self._draft)
        except SetupError as error:
            self._not_kept = error.message
            if not before:
                self._teller.say(f"Your answers are not kept for a next start: {error.message}")

    # ── looking ──

    def _look(self, *, again: bool = False) -> None:
        self._seen = self._gateway.look(self._draft, lambda step: None, again=again)

    def _status(self, step: Step) -> str:
        seen = self._seen.step(step.id)
        return "" if seen is None else str(seen.report["status"])

    def _stuck_at(self) -> int | None:
        """The page of the first step that does not let the others begin."""
        stuck = (number for number, step in enumerate(PAGES, 1) if self._status(step) in STUCK)
        return next(stuck, None)

    def _lacks(self, step: Step) -> bool:
        """True where the step's own answers are not complete: what was looked at is then something else."""
        keys = {question.key.partition(".")[0] for question in self._questions(step)}
        return any(problem.key.partition(".")[0] in keys for problem in self._seen.problems)

    def _questions(self, step: Step) -> Sequence[Question]:
        seen = self._seen.step(step.id)
        return () if seen is None else seen.questions

    # ── the opening ──

    def _open(self, opening: Opening) -> int:
        """The state of the server; the page to go on with."""
        explain = self._explain_opening
        self._teller.say("Looking at this server. That takes some seconds.")
        self._look()
        if opening.cut_off is not None:
            self._teller.say(f"Run {opening.cut_off} was cut off before its end. What it left undone is done now.")
        elif not opening.was_set_up:
            self._teller.say()
            self._teller.say(WELCOME.format(steps=len(PAGES)))
            self._teller.say(KEYS)
            if self._draft != Draft(LEAST):
                self._teller.say("The answers given earlier are filled in.")
            self._teller.ask("Enter = begin", explain)
            return 1
        if self._stuck_at() is None and not self._seen.changes and not self._seen.problems:
            if opening.cut_off is not None:
                self._gateway.settle(self._draft)
            return self._open_healthy()
        self._teller.say()
        if opening.was_set_up and opening.cut_off is None:
            self._teller.say("This server is not as its saved answers say:")
        for one in self._seen.steps:
            self._tell_wrong(one)
        self._teller.say(KEYS)
        words = self._teller.ask("Enter = see what puts that right, c = go through the questions", explain)
        return 1 if words == "c" else REVIEW

    def _open_healthy(self) -> int:
        self._teller.say("All is in order: nothing is to be done.")
        code = self._prove()
        try:
            words = self._teller.ask("Enter = leave, c = change the answers", self._explain_opening)
        except Quit:
            raise Ended(code) from None
        if words != "c":
            raise Ended(code)
        return 1

    def _tell_wrong(self, seen: SeenStep) -> None:
        wrong = [one for one in seen.report["findings"] if one["level"] in ("drift", "blocked")]
        if wrong:
            self._teller.say(f"{seen.step.title}:")
            tell_findings(self._teller, wrong)

    def _explain_opening(self) -> None:
        self._teller.say()
        self._teller.say(WELCOME.format(steps=len(PAGES)))
        self._teller.say(f"{KEYS} Answers are kept when you leave.")

    # ── a step ──

    def _step(self, number: int) -> int:
        """Shows the step, asks its questions; the page to go on with."""
        stuck = self._stuck_at()
        if stuck is not None and stuck < number:
            return stuck
        step = self._at_step = PAGES[number - 1]
        demo = " (demo)" if self._gateway.is_demo else ""
        self._teller.title(f"Step {number} of {len(PAGES)}: {step.title}{demo}")
        self._teller.say(step.about)
        told = self._tell_findings(step, [])
        done: list[str] = []
        while True:
            question = next((one for one in self._questions(step) if one.key not in done), None)
            try:
                if question is None:
                    if self._stuck_at() != number:
                        return self._end_step(number, step)
                    told = self._check_again(step, told, asked=bool(done))
                    continue
                before = self._draft
                self._draft = Asking(self._teller, step, question).ask(self._draft)
                done.append(question.key)
            except Back:
                if not done:
                    raise
                done.pop()
                continue
            if self._draft != before:
                self._keep()
                self._teller.say("Looking again.")
                self._look()
                told = self._tell_findings(step, told)

    def _tell_findings(self, step: Step, told: list[Document]) -> list[Document]:
        """Tells those of the step's findings that were not told yet. Returns them all."""
        seen = self._seen.step(step.id)
        if seen is None or self._lacks(step):
            return []
        found = list(seen.report["findings"])
        tell_findings(self._teller, [one for one in found if one not in told])
        return found

    def _check_again(self, step: Step, told: list[Document], *, asked: bool) -> list[Document]:
        """Waits until what stands in the way is said to be put right. Returns what was told by then."""
        if self._status(step) == "failed":
            self._teller.say(f"{step.title} FAILED: what it would do leads nowhere. See: sudo vllm-https-setup plan")
        else:
            self._teller.say(f"{step.title} is BLOCKED: what is marked so has to be put right first.")
        back = ", b = the questions above" if asked else ""
        self._teller.ask(f"Enter = check again{back}", lambda: explain_step(self._teller, step))
        self._teller.say("Looking again.")
        self._look(again=True)
        return self._tell_findings(step, [one for one in told if one["level"] != "blocked"])

    def _end_step(self, number: int, step: Step) -> int:
        """Says what the step will do. The page to go on with."""
        if (stuck := self._stuck_at()) is not None and stuck < number:
            return stuck
        seen = self._seen.step(step.id)
        assert seen is not None
        changes = seen.report["changes"]
        self._teller.say(f"Will do: {in_short(changes)}." if changes else "Nothing is to be done here.")
        more = ", w = see them" if changes else ""
        while True:
            words = self._teller.ask(f"Enter = go on{more}", lambda: explain_step(self._teller, step))
            if words != "w" or not changes:
                return number + 1
            self._tell_changes(changes)

    def _tell_changes(self, changes: Sequence[Document]) -> None:
        for change in changes:
            for line in Text().change(change):
                self._teller.say(line)

    # ── the review ──

    def _review(self) -> int:
        """The whole plan; starts what it says. The page to go on with."""
        if (stuck := self._stuck_at()) is not None:
            return stuck
        if self._seen.problems:
            return self._take_out_problems()
        self._teller.title("Review (demo)" if self._gateway.is_demo else "Review")
        if not self._seen.changes:
            self._teller.say("All is as the answers say: nothing is to be done.")
            self._ask_review("Enter = try the endpoint")
            self._gateway.settle(self._draft)
            raise Ended(self._prove())
        self._teller.say("Nothing has been changed yet. This is all that will be:")
        for one in self._seen.steps:
            if one.report["changes"]:
                self._teller.say(f"{one.step.title}: {in_short(one.report['changes'])}.")
                self._tell_changes(one.report["changes"])
        self._teller.say()
        self._teller.say(total_impact(self._seen.changes))
        self._ask_review("Enter or yes = start")
        try:
            run = self._gateway.start(self._draft, self._seen)
        except Busy as busy:
            if busy.holder == UNKNOWN or busy.holder.user:
                raise
            self._teller.say(f"{busy.message}. This is it:")
            run = busy.holder.run
        raise Ended(self._follow(run))

    def _ask_review(self, forward: str) -> None:
        """Returns where the person goes forward."""
        while True:
            prompt = f"{forward}, s = save the answers, x = export as a script"
            words = self._teller.ask_anew(prompt, self._explain_review)
            match words.lower():
                case "" | "y" | "yes":
                    return
                case "n" | "no":
                    raise Quit
                case "s" | "x" as letter:
                    try:
                        offer = offer_save if letter == "s" else offer_export
                        offer(self._teller, self._gateway, self._draft)
                    except Back:
                        continue
                case _:
                    self._explain_review()

    def _explain_review(self) -> None:
        self._teller.say()
        self._teller.say(REVIEW_HELP)

    def _take_out_problems(self) -> int:
        """Answers that are wrong and that no question asks for came from a file: without them the defaults hold."""
        self._teller.title("Review")
        self._teller.say("These answers are not right:")
        for problem in self._seen.problems:
            right = f" (right would be: {problem.expected})" if problem.expected else ""
            self._teller.say(f"{problem.key}: {problem.message}{right}", "  ")
        asked = {question.key: number for number, step in enumerate(PAGES, 1) for question in self._questions(step)}
        for problem in self._seen.problems:
            if problem.key in asked:
                self._teller.ask("Enter = answer again", self._explain_review)
                return asked[problem.key]
        self._teller.ask("Enter = take them out, so that the defaults hold", self._explain_review)
        draft = self._draft.without_problems()
        self._draft = draft if draft != self._draft else Draft(LEAST)
        self._keep()
        self._look()
        return REVIEW

    # ── after it ──

    def _follow(self, run: str) -> int:
        self._teller.title("Working")
        return Following(self._gateway, self._teller, run, self._draft).follow()

    def _prove(self) -> int:
        """Tries the endpoint, and says what it comes to. Returns the exit code."""
        self._teller.say()
        self._teller.say("Final test")
        rows = self._gateway.prove(self._draft, lambda row: tell_row(self._teller, row))
        code = 5 if any(row["ok"] is False for row in rows) else 0
        document: Document = {
            "command": "apply",
            "exit_code": code,
            "changed": False,
            "continued": None,
            "warnings": [],
            "errors": [],
            "tests": rows,
            **self._seen.document(self._draft, rows),
        }
        tell_result(self._teller, document, self._draft, with_rows=False)
        return code

    def _tell_left(self) -> None:
        self._teller.say()
        left = f"could not be kept: {self._not_kept}" if self._not_kept else "are kept for the next start."
        self._teller.say(f"Nothing was changed. Your answers {left}")
