"""The engine: what it composes, how it walks; what it does where an action fails, a check blocks, a stop is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from tests.servers import scenario
from wizard.actions import compose, fingerprint, show
from wizard.engine import Look, NoWatcher, Step, accepted, proved, walk
from wizard.mask import DOTS, Mask
from wizard.model import (
    TIMED_OUT,
    Action,
    FileIs,
    Finding,
    Impact,
    Level,
    Output,
    Probe,
    Remove,
    Run,
    SetupError,
    Status,
    TestRow,
    Then,
    Wait,
    Write,
)
from wizard.overlay import Overlay
from wizard.server import FileState

RELOAD = Then(("systemctl", "reload", "a.service"), "a takes it up", Impact.RELOAD_CADDY)
RESTART = Then(("systemctl", "restart", "b.service"), "b takes it up", Impact.RESTART_VLLM)


def drift(key: str, *fix: Action) -> Finding:
    return Finding(key, Level.DRIFT, key, fix=fix)


def ok(key: str) -> Finding:
    return Finding(key, Level.OK, key)


def touch(path: str, *then: Then, otherwise: tuple[Action, ...] = ()) -> Write:
    return Write(path, b"new", "why", then=then, otherwise=otherwise)


class Breaking(Overlay):
    """An overlay on which the named commands and files fail."""

    def __init__(self, below: Overlay, failing: dict[str, Output | SetupError]) -> None:
        super().__init__(below)
        self.failing = failing

    def perform(self, action: Action) -> Output:
        name = action.argv[0] if isinstance(action, Run) else action.what if isinstance(action, Wait) else action.path
        output = self.failing.get(name)
        if isinstance(output, SetupError):
            raise output
        return super().perform(action) if output is None else output


ABSENT = ("/1", "/2", "/3", "/x", "/y", "/etc/new")


@pytest.fixture
def overlay() -> Overlay:
    return scenario.load("finished").without(*ABSENT).overlaid()[1]


@pytest.fixture
def look(overlay: Overlay) -> Look:
    return replace(scenario.load("finished").look(), server=overlay)


def wanting(path: str, *then: Then, **fields: tuple[Action, ...]) -> Callable[[Look], Iterator[Finding]]:
    """An inspect that wants this file to be there."""

    def inspect(look: Look) -> Iterator[Finding]:
        if look.server.read(path) is None:
            yield drift("a.file", touch(path, *then, **fields))
        else:
            yield ok("a.file")

    return inspect


def step(name: str, inspect: Callable[[Look], Iterable[Finding]]) -> Step:
    return Step(name, name.title(), inspect)


# ── compose ──


def test_each_service_is_told_once_after_the_last_action_that_asked() -> None:
    actions = compose(
        [drift("one", touch("/1", RELOAD), touch("/2", RESTART)), drift("two", touch("/3", RELOAD), touch("/4"))]
    )
    assert [getattr(one, "path", "") or getattr(one, "argv", ()) for one in actions] == [
        *("/1", "/2", RESTART.argv, "/3", RELOAD.argv, "/4")
    ]


def test_an_action_that_two_findings_ask_for_is_done_once() -> None:
    same = Run(("ufw", "allow", "443/tcp"), "HTTPS")
    assert compose([drift("one", same), drift("two", same)]) == (same,)


def test_what_tells_a_service_falls_back_as_the_action_that_asked() -> None:
    back = (Remove("/1", "put back"),)
    told = compose([drift("one", touch("/1", RELOAD, otherwise=back))])[1]
    assert isinstance(told, Run) and told.otherwise == back and told.impact is Impact.RELOAD_CADDY


def test_nothing_is_composed_of_findings_without_a_fix() -> None:
    assert compose([ok("one")]) == ()


# ── walk ──


def test_step_is_looked_at_put_right_and_looked_at_again(look: Look, overlay: Overlay) -> None:
    (result,) = walk([step("a", wanting("/etc/new"))], look)
    assert result.status is Status.CHANGED
    assert [finding.level for finding in (*result.seen, *result.after)] == [Level.DRIFT, Level.OK]
    assert [finding.level for finding in result.applied().findings] == [Level.OK]
    assert overlay.read("/etc/new") == FileState("file", b"new")


def test_what_was_taken_away_is_not_reported_as_if_it_were_still_there(look: Look, overlay: Overlay) -> None:
    def inspect(look: Look) -> Iterator[Finding]:
        if look.server.read("/x") is None:
            yield drift("a.left", touch("/x"))

    (result,) = walk([step("a", inspect)], look)
    assert (result.status, result.applied().findings) == (Status.CHANGED, ())
    assert [finding.key for finding in result.planned().findings] == ["a.left"]


def test_step_in_order_does_nothing(look: Look, overlay: Overlay) -> None:
    (result,) = walk([step("a", lambda _: [ok("a.one")])], look)
    assert (result.status, result.actions, overlay.performed) == (Status.OK, (), [])


def test_blocked_step_does_nothing_and_the_rest_is_skipped(look: Look, overlay: Overlay) -> None:
    blocked = Finding("a.no", Level.BLOCKED, "no", "do this or that")
    results = walk([step("a", lambda _: [drift("a.x", touch("/x")), blocked]), step("b", wanting("/y"))], look)
    assert [result.status for result in results] == [Status.BLOCKED, Status.SKIPPED]
    assert overlay.performed == []


def test_server_that_cannot_be_read_blocks(look: Look) -> None:
    def inspect(look: Look) -> Iterator[Finding]:
        if look.server.read("/x") is None:
            raise SetupError("the disk is gone", "plug it in again")
        yield ok("a.never")

    (result,) = walk([step("a", inspect)], look)
    assert (result.status, result.seen[0].key, result.seen[0].remedy) == (
        *(Status.BLOCKED, "a.unreadable", "plug it in again"),
    )


def test_drift_that_stays_after_all_was_done_is_a_failure(look: Look) -> None:
    results = walk([step("a", lambda _: [drift("a.stays", touch("/x"))]), step("b", wanting("/y"))], look)
    assert [result.status for result in results] == [Status.FAILED, Status.SKIPPED]
    assert "still so after all was done: a.stays" in results[0].problem


def test_what_only_shows_after_the_actions_is_put_right_too(look: Look, overlay: Overlay) -> None:
    """A package's script has left its service disabled, say."""

    def inspect(look: Look) -> Iterator[Finding]:
        yield from wanting("/x")(look)
        if look.server.read("/x") is not None:
            yield from wanting("/y")(look)

    (result,) = walk([step("a", inspect)], look)
    assert (result.status, [change.path for change in result.changes]) == (Status.CHANGED, ["/x", "/y"])
    assert [one.level for one in result.after] == [Level.OK, Level.OK]


def test_step_that_always_finds_something_else_ends(look: Look, overlay: Overlay) -> None:
    def inspect(look: Look) -> Iterator[Finding]:
        yield drift("a.other", Run(("install", str(len(overlay.performed))), "why"))

    (result,) = walk([step("a", inspect)], look)
    assert (result.status, len(result.changes)) == (Status.FAILED, 3)


def test_what_only_shows_after_the_actions_is_not_done_where_a_plan_was_reviewed(look: Look) -> None:
    def inspect(look: Look) -> Iterator[Finding]:
        yield from wanting("/x")(look)
        if look.server.read("/x") is not None:
            yield from wanting("/y")(look)

    agreed = {"a": [fingerprint(touch("/x"))]}
    (result,) = walk([step("a", inspect)], look, reviewed=agreed)
    assert (result.status, [change.path for change in result.changes]) == (Status.FAILED, ["/x"])
    assert "still so after all was done: a.file" in result.problem


def test_failed_action_ends_the_step_and_falls_back(look: Look, overlay: Overlay) -> None:
    back = (Write("/etc/new", b"old", "put back", then=(RELOAD,)),)
    server = Breaking(overlay, {"systemctl": Output(1, "", "it said no"), "/never": Output(0)})
    inspect = wanting("/etc/new", RELOAD, otherwise=back)
    results = walk([step("a", inspect), step("b", wanting("/y"))], replace(look, server=server))
    assert [result.status for result in results] == [Status.FAILED, Status.SKIPPED]
    assert results[0].problem == "systemctl reload a.service: exit code 1: it said no. put back"
    kept = server.read("/etc/new")
    assert kept is not None and kept.content == b"old"
    assert [change.kind for change in results[0].changes] == ["write", "run", "write", "run"]
    assert results[0].after[0].key == "a.failed" and results[0].after[0].level is Level.WARN


UP = Wait("it answers", "it loads", 1, lambda _: Probe(None))


def trying(*failing: str, goes_on: bool = True) -> tuple[Breaking, Callable[[Look], Iterator[Finding]]]:
    """An inspect that writes /etc/new and waits, and does without it where that fails; these fail, each time."""
    overlay = scenario.load("finished").without(*ABSENT).overlaid()[1]
    without = replace(UP, what="it answers without", otherwise=(touch("/3"),))
    back = (Remove("/etc/new", "it does not go with it"), without)

    def inspect(look: Look) -> Iterator[Finding]:
        if look.server.read("/x") is None:
            wait = replace(UP, otherwise=back, goes_on=goes_on)
            yield drift("a.file", touch("/x"), touch("/etc/new"), wait)
        yield from wanting("/y")(look)

    return Breaking(overlay, {name: Output(1, "", "no.") for name in failing}), inspect


def test_step_goes_on_where_it_has_made_up_for_what_was_tried(look: Look) -> None:
    server, inspect = trying("it answers")
    (one, two) = walk([step("a", inspect), step("b", wanting("/1"))], replace(look, server=server))
    assert (one.status, two.status, one.problem) == (Status.CHANGED, Status.CHANGED, "")
    assert [change.path or change.wait_for for change in one.changes] == [
        *("/x", "/etc/new", "it answers", "/etc/new", "it answers without", "/y")
    ]
    assert server.read("/etc/new") is None and server.read("/y") is not None


def test_step_ends_where_that_fails_too_and_what_makes_up_for_it_is_done(look: Look) -> None:
    server, inspect = trying("it answers", "it answers without")
    (one, two) = walk([step("a", inspect), step("b", wanting("/1"))], replace(look, server=server))
    assert (one.status, two.status) == (Status.FAILED, Status.SKIPPED)
    assert one.problem == "no. it does not go with it. no. why"
    assert server.read("/3") is not None and server.read("/y") is None


def test_step_ends_where_nothing_says_that_it_goes_on(look: Look) -> None:
    server, inspect = trying("it answers", goes_on=False)
    (one,) = walk([step("a", inspect)], replace(look, server=server))
    assert (one.status, one.problem) == (Status.FAILED, "no. it does not go with it")


def test_service_that_is_told_once_makes_true_what_each_has_asked_for_the_latest_last() -> None:
    a, b, c = (FileIs(path, b"") for path in ("/a", "/b", "/c"))
    first, second = replace(RELOAD, makes=(a, b)), replace(RELOAD, makes=(c, a))
    actions = compose([drift("one", touch("/1", first), touch("/2", second))])
    assert [one.makes for one in actions if isinstance(one, Run)] == [(b, c, a)]


def test_what_was_agreed_to_may_be_done_by_a_later_step_and_by_no_earlier_one(look: Look) -> None:
    both = [step("a", wanting("/x")), step("b", wanting("/y"))]
    for agreed, statuses in (
        ({"a": [fingerprint(touch("/x")), fingerprint(touch("/y"))]}, [Status.CHANGED, Status.CHANGED]),
        ({"b": [fingerprint(touch("/x")), fingerprint(touch("/y"))]}, [Status.FAILED, Status.SKIPPED]),
    ):
        server = scenario.load("finished").without(*ABSENT).overlaid()[1]
        assert [one.status for one in walk(both, replace(look, server=server), reviewed=agreed)] == statuses


def test_action_that_raises_is_a_failure_with_its_words(look: Look, overlay: Overlay) -> None:
    server = Breaking(overlay, {"/etc/new": SetupError("the disk is full", "df -h")})
    (result,) = walk([step("a", wanting("/etc/new"))], replace(look, server=server))
    assert result.status is Status.FAILED and "the disk is full" in result.problem


@pytest.mark.parametrize(("code", "falls_back"), [(TIMED_OUT, False), (1, True)])
def test_wait_that_is_only_late_falls_back_only_where_it_says_so(
    look: Look, overlay: Overlay, code: int, falls_back: bool
) -> None:
    back = (Remove("/etc/new", "put back"),)
    wait = Wait("it answers", "it loads", 1, lambda _: Probe(None), otherwise=back, fall_back_when_late=False)
    server = Breaking(overlay, {"it answers": Output(code, "", "not yet")})
    (result,) = walk([step("a", lambda _: [drift("a.wait", wait)])], replace(look, server=server))
    assert result.status is Status.FAILED
    assert (back[0] in server.performed) == falls_back


@dataclass
class StopAfter(NoWatcher):
    left: int
    ended: list[Status] = field(default_factory=list)

    def is_stop_asked(self) -> bool:
        self.left -= 1
        return self.left < 0

    def step_ended(self, step: Step, status: Status, seconds: float) -> None:
        self.ended.append(status)


def test_stop_ends_after_the_current_action_and_says_what_is_left(look: Look, overlay: Overlay) -> None:
    three = drift("a.x", touch("/1"), touch("/2"), touch("/3"))
    watcher = StopAfter(1)
    results = walk([step("a", lambda _: [three]), step("b", wanting("/y"))], look, watcher)
    assert len(overlay.performed) == 1
    assert "1 of this step's actions were done, 2 were not" in results[0].problem
    assert [result.status for result in results] == [Status.FAILED, Status.SKIPPED]
    assert watcher.ended == [Status.FAILED]


def test_stop_counts_the_actions_of_the_plan_and_not_what_made_up_for_one(look: Look) -> None:
    server, inspect = trying("it answers")
    (result,) = walk([step("a", inspect)], replace(look, server=server), StopAfter(3))
    assert len(result.changes) == 5
    assert "3 of this step's actions were done, 1 were not" in result.problem


def test_proving_step_is_not_walked(look: Look) -> None:
    def prove(look: Look) -> Iterator[TestRow]:
        yield TestRow("a.row", True, "", 0)

    (result,) = walk([Step("a", "A", lambda _: [], prove)], look)
    assert result.status is Status.SKIPPED
    (failed,) = proved([result], [TestRow("a.row", False, "no", 1, "look at it now")], 0.5)
    assert failed.status is Status.FAILED and failed.seen[0].key == "https_test.a.row"
    (passed,) = proved([result], [TestRow("a.row", None, "not tried", 1)], 0.5)
    assert passed.status is Status.OK


# ── what is shown ──


def test_accepted_blocks_become_warnings_and_say_so() -> None:
    blocked = Finding("a.no", Level.BLOCKED, "no", "do this")
    warned, kept = accepted([blocked, replace(blocked, key="a.other")], ["a.no"])
    assert (warned.level, kept.level) == (Level.WARN, Level.BLOCKED)
    assert "accepted by preflight.accept" in warned.summary


def test_shown_actions_are_masked_and_secrets_are_no_diff() -> None:
    mask = Mask()
    mask.add("top/secret+1=")
    before = FileState("file", b"key: top/secret+1=\n")
    assert show(Run(("x", "top/secret+1="), "why"), None, mask).argv == ("x", DOTS)
    diff = show(Write("/etc/f", b"key: other\n", "why"), before, mask).diff
    assert "top/secret" not in diff and f"-key: {DOTS}" in diff and "+key: other" in diff
    assert show(Write("/etc/f", b"abc", "why", private=True), before, mask).diff == DOTS
    assert show(Write("/etc/f", b"\x99", "why", binary=True), before, mask).diff == "(binary, 1 bytes)"
    assert show(Remove("/etc/f", "why"), before, mask).diff.endswith(f"-key: {DOTS}")
