"""The seven laws of docs/architecture.md, for every step on every described server (tests/servers/*.toml)."""

from __future__ import annotations

import ast
import base64
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers import scenario
from tests.servers.recording import CANARY
from tests.servers.scenario import Scenario
from wizard import journal
from wizard.answers import Harden
from wizard.book import owned_after, owned_before
from wizard.described import DescribedMachine, NotDescribed, read_description
from wizard.engine import Look, NoWatcher, Step, StepResult, prove, proved, walk
from wizard.facts import Facts
from wizard.model import Action, Change, Endpoint, Finding, Level, Output, Report, Run, Status, Wait
from wizard.overlay import Overlay
from wizard.report import Text, document_of
from wizard.safety import KEPT_STATE
from wizard.server import FileState, Request, Target
from wizard.steps import STEPS
from wizard.undo import Performed, undo_actions

NAMES = scenario.names()
SOURCE = Path(scenario.__file__).parents[2] / "wizard"
RECORDED = [name for name in NAMES if "# Recorded from a booted server" in (scenario.HERE / f"{name}.toml").read_text()]

# Where the fast part of ./test tries every cut as well; the whole of it does on all.
SOON = ("exposed", "half-done", "killed-in-firewall", "ufw-active-with-rules", "caddyfile-edited")
THOROUGH = pytest.mark.thorough

# What an undo does not bring back, by server: each with its reason.
NOT_BROUGHT_BACK = {
    # It was still loading, and listened nowhere: after the undo it listens where it would have by then.
    "vllm-loading": {"listeners"},
    # What Caddy ran is in no file: once it has taken up what its file says, nobody knows it any more.
    "caddy-runs-older-config": {"listeners"},
    # What the killed run had left of the firewall's undo was cleared away, and nobody wants it back.
    "killed-in-firewall": {
        f"file {KEPT_STATE}",
        "unit vllm-https-setup-revert.service",
        "unit vllm-https-setup-revert.timer",
    },
    # vLLM ran with an older script than the one on disk: any restart takes the newer one up.
    "script-edited-not-restarted": {"listeners"},
    # The older version may be had nowhere any more, and the newer one does all that it did.
    "caddy-of-the-distribution": {
        "package caddy",
        "file /var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt",
    },
}


@pytest.fixture(params=NAMES)
def server(request: pytest.FixtureRequest) -> Scenario:
    return scenario.load(request.param)


class Killed(BaseException):
    """The process died between two actions: nothing of it runs any more."""


@dataclass
class Book(NoWatcher):
    """Notes what was performed as the journal does; dies before action number `dies_at`, or when it is just done."""

    look: Look
    dies_at: int | None = None
    when_done: bool = False
    performed: list[Performed] = field(default_factory=list)
    findings: list[tuple[str, Finding]] = field(default_factory=list)

    def looked(self, step: Step, findings: Sequence[Finding]) -> None:
        self.findings.extend((step.id, finding) for finding in findings)

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None:
        if len(self.performed) == self.dies_at and not self.when_done:
            raise Killed
        self.performed.append((action, before))
        self.look = replace(self.look, owned=owned_before(self.look.owned, step.id, action, before, None))

    def action_ended(self, step: Step, action: Action, output: Output) -> None:
        if len(self.performed) - 1 == self.dies_at:
            raise Killed
        if output.ok:
            self.look = replace(self.look, owned=owned_after(self.look.owned, action))

    @property
    def actions(self) -> list[Action]:
        return [action for action, _ in self.performed]


def apply(book: Book) -> tuple[StepResult, ...]:
    """As the command does: where the plan finds a check that blocks, nothing is done."""
    results = walk(STEPS, replace(book.look, server=Overlay(book.look.server)))
    if any(result.status is Status.BLOCKED for result in results):
        return results
    return walk(STEPS, book.look, book)


def has_fix(results: Sequence[StepResult]) -> bool:
    return any(result.actions for result in results)


@cache
def applied(name: str) -> tuple[Book, Overlay, tuple[StepResult, ...]]:
    """The server after an apply. Read alone: shared by the tests."""
    look, overlay = scenario.load(name).overlaid()
    book = Book(look)
    results = apply(book)
    return book, overlay, results


def test_there_are_enough_described_servers() -> None:
    assert len(NAMES) >= 14
    assert len(RECORDED) >= 10


def test_described_server_is_seen_as_its_file_says(server: Scenario) -> None:
    assert scenario.expectation(server.planned(), server.tested()) == server.expected


def test_plan_names_the_actions_that_apply_performs(server: Scenario) -> None:
    planned = [change for result in server.planned() for change in result.changes]
    book, _, results = applied(server.name)
    done = [change for result in results for change in result.changes]
    blocked = any(result.status is Status.BLOCKED for result in results)
    assert [change.as_json() for change in done] == [change.as_json() for change in planned]
    assert len(book.performed) == (0 if blocked else len(done))


# ── 1 ──


def test_inspect_changes_nothing(server: Scenario) -> None:
    """The doors are shut (conftest.py), and `perform` of what is only looked at is an error."""
    look, overlay = server.overlaid()
    files = dict(server.description.files)
    for seen in (server.look(), look):
        for step in STEPS:
            tuple(step.inspect(seen))
        tuple(prove(STEPS, seen))
    assert overlay.performed == []
    assert overlay.differences() == {}
    assert server.description.files == files


# ── 2 ──


def test_after_apply_nothing_is_left_to_do(server: Scenario) -> None:
    book, overlay, results = applied(server.name)
    if server.expected["blocked"]:
        assert book.performed == [] and overlay.differences() == {}
        return
    assert [result.problem for result in results if result.status is Status.FAILED] == []
    number = len(overlay.performed)
    again = walk(STEPS, book.look)
    assert [finding.key for result in again for finding in result.seen if finding.fix] == []
    assert {result.status for result in again} == {Status.OK, Status.SKIPPED}
    assert len(overlay.performed) == number


# ── 3 ──


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in SOON else THOROUGH) for one in NAMES])
def test_apply_again_after_a_kill_anywhere_ends_in_the_same_state(name: str) -> None:
    server = scenario.load(name)
    book, whole, _ = applied(server.name)
    wanted = whole.differences()
    # Done and not yet noted is another case than not begun: owned.json tells of files, and of what was taken back.
    # In the middle of a file there is the old one, and another beside it that nobody reads (test_files.py).
    cuts = [(number, when_done) for number in range(len(book.performed)) for when_done in (False, True)]
    for number, when_done in cuts:
        overlay = Overlay(whole.below)
        cut = Book(replace(server.look(), server=overlay), number, when_done)
        with pytest.raises(Killed):
            walk(STEPS, cut.look, cut)
        resumed = Book(cut.look)
        results = walk(STEPS, resumed.look, resumed)
        where = f"killed {'after' if when_done else 'before'} {book.actions[number]}"
        assert {result.status for result in results} <= {Status.OK, Status.CHANGED, Status.SKIPPED}, where
        assert overlay.differences() == wanted, where
        assert not has_fix(walk(STEPS, resumed.look)), where


# ── 4 ──


def undo(overlay: Overlay, performed: Sequence[Performed]) -> dict[str, Any]:
    """What still differs from the server as it was, after all was taken back."""
    for action in undo_actions(performed):
        overlay.perform(action)
    return overlay.differences()


def test_undo_after_apply_gives_back_the_state_before(server: Scenario) -> None:
    look, overlay = server.overlaid()
    book = Book(look)
    apply(book)
    left = undo(overlay, book.performed)
    assert set(left) == NOT_BROUGHT_BACK.get(server.name, set())


def test_undo_tells_each_service_once_and_after_its_files(server: Scenario) -> None:
    book, _, _ = applied(server.name)
    actions = undo_actions(book.performed)
    told = [then.argv for action in actions for then in action.then]
    for argv in set(told):
        numbers = [number for number, action in enumerate(actions) if isinstance(action, Run) and action.argv == argv]
        last = max(number for number, action in enumerate(actions) if argv in [then.argv for then in action.then])
        assert len(numbers) == 1 and numbers[0] > last


# ── 5 ──


@cache
def all_findings() -> tuple[tuple[str, str, Finding], ...]:
    """Every finding on every server: before, while and after an apply, as (server, step, finding)."""
    found = []
    for name in NAMES:
        book, _, results = applied(name)
        found += [(name, result.step.id, finding) for result in results for finding in (*result.seen, *result.after)]
        found += [(name, step, finding) for step, finding in book.findings]
    return tuple(found)


def test_drift_has_a_fix_and_warn_and_blocked_have_a_remedy() -> None:
    levels = set()
    for name, _, finding in all_findings():
        levels.add(finding.level)
        assert bool(finding.fix) == (finding.level is Level.DRIFT), (name, finding)
        needs_remedy = finding.level in (Level.WARN, Level.BLOCKED)
        assert (finding.remedy is not None) == needs_remedy, (name, finding)
        assert not needs_remedy or len(str(finding.remedy).split()) > 2, (name, finding)
        assert finding.summary
        assert all(action.why for action in finding.fix), (name, finding)
    assert levels >= {Level.OK, Level.WARN, Level.DRIFT, Level.BLOCKED}


def test_key_belongs_to_one_step_and_names_it() -> None:
    for name, step, finding in all_findings():
        assert re.fullmatch(rf"{step}\.[a-z0-9_]+", finding.key), (name, finding.key)


def test_two_findings_of_a_look_with_one_key_are_about_two_things(server: Scenario) -> None:
    for result in server.planned():
        about: dict[str, list[Finding]] = defaultdict(list)
        for finding in result.seen:
            about[finding.key].append(finding)
        for key, findings in about.items():
            assert len({finding.summary for finding in findings}) == len(findings), key


def keys_in_source() -> Iterator[tuple[str, str]]:
    """(key, file) for each finding in the program's source whose key is written out."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Finding"), args=[ast.Constant(value=str(key)), *_]) if "." in key:
                    yield key, path.name


def test_file_speaks_for_one_step_alone() -> None:
    """A reader who searches for a key lands among the findings of its step."""
    steps: dict[str, set[str]] = defaultdict(set)
    for key, file in keys_in_source():
        steps[file].add(key.split(".")[0])
    assert {file: names for file, names in steps.items() if len(names) > 1} == {}
    assert all(
        names == {file.removesuffix(".py")} for file, names in steps.items() if (SOURCE / "steps" / file).exists()
    )
    assert set().union(*steps.values()) == {step.id for step in STEPS} - {"https_test"}


def subject(action: Action) -> str:
    """What an action is about: a file, or a command's program and verb."""
    if isinstance(action, Run):
        return " ".join(action.argv[:2])
    return action.what if isinstance(action, Wait) else action.path


def test_fixes_of_one_key_are_about_one_thing() -> None:
    """On whichever server a key is drift, the same thing is put right."""
    common: dict[str, set[str]] = {}
    for _, _, finding in all_findings():
        if finding.fix:
            subjects = {subject(action) for action in finding.fix}
            common[finding.key] = common.get(finding.key, subjects) & subjects
    assert [key for key, subjects in common.items() if not subjects] == []


# ── 6 ──


def forms(secret: str) -> set[bytes]:
    """The forms in which a secret may get out: as it is, quoted for URLs, shells and JSON, in base64."""
    texts = {secret, quote(secret), quote(secret, safe=""), shlex.quote(secret), json.dumps(secret)[1:-1]}
    coded = {base64.b64encode(text.encode()) for text in (secret, f"Bearer {secret}", f":{secret}")}
    return {text.encode() for text in texts} | {code.rstrip(b"=") for code in coded}


def leaks(data: bytes) -> bool:
    return any(form in data for form in forms(CANARY))


class LoudOverlay(Overlay):
    """Says, as commands would, the secret in what they put out; through the journal as the machine's observer."""

    book: journal.Journal

    def perform(self, action: Action) -> Output:
        if isinstance(action, Run):
            self.book.command(shlex.join(action.argv))
            self.book.output(f"VLLM_API_KEY={CANARY}\nAuthorization: Bearer {CANARY}\n{quote(CANARY, safe='')}\n")
            self.book.note(f"--api-key {CANARY}")
            self.book.ended(0, 0.1)
        return super().perform(action)


def test_no_secret_reaches_journal_log_report_or_arguments(server: Scenario, own_paths: Path) -> None:
    look = server.look()
    overlay = LoudOverlay(look.server)
    look = replace(look, server=overlay)
    results = walk(STEPS, replace(look, server=Overlay(look.server)))
    run = journal.new_run_id(look.server.now())
    plan = [[change.as_json() for change in result.changes] for result in results]
    journal.prepare(run, {"command": "apply", "began": 0.0}, server.description.answers, {"steps": plan})
    overlay.book = journal.Journal(run, look.mask)
    if not server.expected["blocked"]:
        results = walk(STEPS, look, overlay.book)
    rows = tuple(prove(STEPS, server.look()))
    for row in rows:
        overlay.book.tested(row)
    overlay.book.event("end", exit_code=0)
    overlay.book.close()
    steps = tuple(result.applied() for result in proved(results, rows, 0.1))
    report = Report("apply", 0, steps=steps, tests=rows, endpoint=Endpoint("https://llm/v1", None, None), run=run)
    document = document_of(report, look.mask)
    shown = [json.dumps(document, ensure_ascii=False), *Text().lines(document)]
    argv = [word for action in overlay.performed if isinstance(action, Run) for word in action.argv]
    assert not leaks("\n".join([*shown, *argv]).encode())
    written = [path for path in own_paths.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"journal.jsonl", f"{run}.log", "plan.json"}
    assert [str(path) for path in written if leaks(path.read_bytes())] == []


def test_the_search_for_the_secret_finds_it() -> None:
    """The law above would pass on a server without a key, or with a search that finds nothing."""
    keyed = [name for name in NAMES if leaks((scenario.HERE / f"{name}.toml").read_bytes())]
    assert set(NAMES) - set(keyed) == {"no-key"}
    assert {"/", "+", "="} <= set(CANARY)


# ── 7 ──


def test_what_is_not_described_fails() -> None:
    machine = DescribedMachine(scenario.load("exposed").description)
    asked = (
        lambda: machine.command(("systemctl", "status")),
        lambda: machine.command(("nvidia-smi", "-L"), stdin=b"more"),
        lambda: machine.read("/etc/passwd"),
        lambda: machine.names("/etc"),
        lambda: machine.exchange(Request("127.0.0.1", 1)),
        lambda: machine.fetch("https://example.com/", 1),
        lambda: machine.reach([Target("10.91.1.2", 1)]),
        lambda: machine.connections((1,)),
        lambda: machine.resolve("llm.example.com", "A"),
    )
    for ask in asked:
        with pytest.raises(NotDescribed):
            ask()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.id)
def test_no_step_takes_an_undescribed_answer_for_a_fact(step: Step) -> None:
    """A step that met an unknown command and went on would make the described servers worth nothing."""
    described = scenario.load("finished").description
    looked = Facts(DescribedMachine(replace(described, commands={})))
    known = scenario.load("finished").look()
    hardened = known.answers.model_copy(update={"harden": Harden(recommended=True)})
    look = replace(known, server=looked, answers=hardened)
    if step.prove is not None:
        with pytest.raises(NotDescribed):
            tuple(step.prove(look))
    else:
        with pytest.raises(NotDescribed):
            tuple(step.inspect(look))


def test_description_without_its_parts_is_refused() -> None:
    with pytest.raises(KeyError):
        read_description("")
