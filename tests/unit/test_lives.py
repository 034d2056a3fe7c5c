"""Servers as they live: drift, applies, kills and undos in any order, on described servers, under the laws."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.servers import scenario
from tests.servers.recording import CANARY
from tests.unit.test_laws import NOT_BROUGHT_BACK, Book, Killed, applied, apply, has_fix
from tests.unit.test_uninstall import BACKUPS, CADDY_GONE, EVERYTHING, NO_CADDY, Described, Keeping
from wizard import paths, reversal, uninstall
from wizard.actions import show
from wizard.book import owned_after, owned_before
from wizard.engine import Look, walk
from wizard.model import (
    Action,
    Effect,
    FileIs,
    FirewallIs,
    ListensOn,
    RuleIs,
    Status,
    UnitIs,
)
from wizard.overlay import Overlay
from wizard.safety import KEPT_STATE
from wizard.server import FileState
from wizard.steps import STEPS
from wizard.surroundings import FORWARDING
from wizard.undo import Performed, undo_actions

SCRIPT = "/opt/vllm/start-vllm.sh"
LIST = "/etc/apt/sources.list.d/caddy-stable.list"
KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"
BY_HAND = b"# by hand\n"
STARTS = ("exposed", "killed-in-firewall", "ufw-active-with-rules")


def edited(path: str, new: bytes) -> Callable[[Overlay], tuple[Effect, ...]]:
    """Somebody has added a line to the file, where there is one."""

    def effects(overlay: Overlay) -> tuple[Effect, ...]:
        now = overlay.read(path)
        return (FileIs(path, now.content + new, now.mode, now.owner, now.group),) if now else ()

    return effects


def opened_again(overlay: Overlay) -> tuple[Effect, ...]:
    """Somebody has put the old launch script back, and restarted vLLM."""
    now = overlay.read(SCRIPT)
    assert now is not None
    content = now.content.replace(b"--host 127.0.0.1", b"--host 0.0.0.0")
    back = FileIs(SCRIPT, content, now.mode, now.owner, now.group)
    return (back, ListensOn("vllm.service", (("0.0.0.0", 8000),))) if content != now.content else ()


def always(*effects: Effect) -> Callable[[Overlay], tuple[Effect, ...]]:
    return lambda overlay: effects


ARMED = {f"file {KEPT_STATE}", *(f"unit {name}" for name in (paths.REVERT_SERVICE, paths.REVERT_TIMER))}
DRIFTS: dict[str, Callable[[Overlay], tuple[Effect, ...]]] = {
    "ufw off": always(FirewallIs(active=False)),
    "ufw's default allows": always(FirewallIs(incoming="allow")),
    "443 closed": always(RuleIs("443", "tcp", present=False)),
    "SSH's rule gone": always(RuleIs("22", "tcp", present=False)),
    "Caddy stopped": always(*NO_CADDY),
    "Caddy disabled": always(UnitIs("caddy.service", enabled=False)),
    "Caddy removed": always(*CADDY_GONE),
    "Caddyfile edited": edited(paths.CADDYFILE, b"\n# by hand\n"),
    "Caddyfile gone": always(FileIs(paths.CADDYFILE, None)),
    "list gone": always(FileIs(LIST, None)),
    "keyring gone": always(FileIs(KEYRING, None)),
    "root certificate gone": always(FileIs(paths.ROOT_CERTIFICATE, None)),
    "vLLM opened again": opened_again,
    "launch script edited": edited(SCRIPT, BY_HAND),
}


def described(name: str) -> scenario.Scenario:
    """The recorded server; what only one that drifted is asked, it is not recorded to say."""
    known = scenario.load(name)
    asked = ("/proc/net/udp", "/proc/net/udp6", *FORWARDING.values(), paths.CADDY_HOME)
    silent = dict.fromkeys(asked, FileState("file"))
    return replace(known, description=replace(known.description, files={**silent, **known.description.files}))


def state(overlay: Overlay) -> dict[str, Any]:
    """Where it differs from the recording, without the launch script; the rules, all of which let in, in any order.
    A copy of ufw's files without the undo's mark is nobody's: the next change of the firewall makes it anew."""
    nobodys = {f"file {SCRIPT}", f"file {KEPT_STATE}"}
    differences = {key: one for key, one in overlay.differences().items() if key not in nobodys}
    return {**differences, "rules": sorted(str(replace(one, comment="")) for one in overlay.firewall().rules)}


class Life(RuleBasedStateMachine):
    """One server. `performed` is all that runs have done to it since it was last as it had been."""

    overlay: Described
    look: Look
    name: str

    @initialize(name=st.sampled_from(STARTS))
    def begin(self, name: str) -> None:
        self.name = name
        look = described(name).look()
        self.overlay = Described(look.server)
        self.look = replace(look, server=self.overlay)
        self.see()  # the questions in the order in which they were recorded
        self.performed: list[Performed] = []
        self.drifted = False
        self.set_up = False
        self.killed = False
        self.half_taken_back = False

    def has_caddy(self) -> bool:
        return self.overlay.packages("caddy")["caddy"].installed

    @precondition(lambda self: self.set_up and self.has_caddy())
    @rule(what=st.sampled_from(sorted(DRIFTS)))
    def drift(self, what: str) -> None:
        for effect in DRIFTS[what](self.overlay):
            self.overlay.make_true(effect)
            self.drifted = True

    @rule()
    def put_right(self) -> None:
        """Laws 2 and 3: nothing is left to do, a second apply does nothing, and it ends as if nothing had happened."""
        book = Keeping(self.look)
        results = apply(book)
        self.noted(book)
        assert {one.status for one in results} <= {Status.OK, Status.CHANGED, Status.SKIPPED}, [
            one.problem for one in results
        ]
        again = Book(self.look)
        assert not has_fix(apply(again)) and again.performed == []
        wanted = applied(self.name)[1]
        assert state(self.overlay) == state(wanted)
        now, asked = self.overlay.read(SCRIPT), wanted.read(SCRIPT)
        assert now is not None and asked is not None
        # A hand edit is never lost: it is all in which the script may differ.
        assert now.content.replace(BY_HAND, b"") == asked.content
        self.set_up = True

    @rule(at=st.integers(0, 30), when_done=st.booleans())
    def kill(self, at: int, when_done: bool) -> None:
        book = Keeping(self.look, at, when_done)
        try:
            walk(STEPS, book.look, book)
        except Killed:
            self.killed = True
            self.noted(book)
        else:
            self.noted(book)

    @precondition(lambda self: not self.half_taken_back)
    @rule(at=st.integers(0, 30))
    def kill_undo(self, at: int) -> None:
        """What is left of it the next apply has to put right, or an uninstall does."""
        owned = self.look.owned
        for action in undo_actions(self.performed)[:at]:
            owned = owned_before(owned, "preflight", action, None, None)
            self.overlay.perform(action)
            owned = owned_after(owned, action)
        self.look, self.half_taken_back = replace(self.look, owned=owned), True

    @rule(at=st.integers(0, 30), when_done=st.booleans())
    def uninstall(self, at: int, when_done: bool) -> None:
        """Law 4 from what is known to be ours alone; a kill in it is completed by the next."""
        book = Keeping(self.look, at, when_done)
        try:
            reversal.carry_out(uninstall.plan_uninstall(self.look, EVERYTHING).reversal, self.look, book)
        except Killed:
            self.look, self.half_taken_back = book.look, True
            return
        ours = {path for path, one in self.look.owned.files.items() if one.sha256}
        left = ours.difference(reversal.SAFETY) & set(self.overlay.differences_of_files())
        assert self.drifted or not left, left
        self.begin_again()

    @precondition(lambda self: not self.half_taken_back)
    @rule(kills=st.lists(st.integers(0, 30), max_size=2))
    def undo(self, kills: list[int]) -> None:
        """Law 4: where nobody else has touched it meanwhile, the server is as it was; also if the undo was killed."""
        for end in (*kills, None):
            for action in undo_actions(self.performed)[:end]:
                self.overlay.perform(action)
        left = set(self.overlay.differences())
        if not self.drifted:
            # What a killed run had armed fires by itself, or is cleared away by the next run.
            assert left <= NOT_BROUGHT_BACK.get(self.name, set()) | (ARMED if self.killed else set()), left
        self.begin_again()

    def begin_again(self) -> None:
        left = set(self.overlay.differences())
        self.look = replace(described(self.name).look(), server=self.overlay)
        self.performed, self.set_up, self.killed, self.half_taken_back = [], False, False, False
        # What an undo leaves is what the next life begins with.
        self.drifted = self.drifted or bool(left)

    @rule()
    def see(self) -> None:
        """Law 1: looking changes nothing."""
        before, number = self.overlay.differences(), len(self.overlay.performed)
        walk(STEPS, replace(self.look, server=Overlay(self.overlay)))
        for step in STEPS:
            tuple(step.inspect(self.look))
        assert self.overlay.differences() == before and len(self.overlay.performed) == number

    def noted(self, book: Book) -> None:
        self.performed += book.performed
        self.look = book.look
        shown = [self.shown(action) for action, _ in book.performed]
        shown += [json.dumps([one.summary, one.remedy, one.evidence], default=str) for _, one in book.findings]
        assert not any(CANARY in text for text in shown), "law 6"

    def shown(self, action: Action) -> str:
        return json.dumps(self.look.mask.value(show(action, None, self.look.mask).as_json()), ensure_ascii=False)

    @invariant()
    def operator_gets_in(self) -> None:
        """As far as an overlay can know: where ufw is on and denies by default, SSH has its rule, or never had one."""
        if not hasattr(self, "overlay") or self.drifted:
            return
        firewall = self.overlay.firewall()
        if firewall.enabled and firewall.defaults.input != "allow":
            assert any(one.covers(22, "tcp") and one.action in ("allow", "limit") for one in firewall.rules)


@pytest.mark.parametrize(
    "examples", [pytest.param(10, id="few"), pytest.param(50, id="many", marks=pytest.mark.thorough)]
)
def test_laws_hold_in_any_life_of_a_server(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uninstall, "read_backup", BACKUPS.__getitem__)
    run_state_machine_as_test(Life, settings=settings(max_examples=examples, stateful_step_count=12))


def test_every_drift_of_a_life_is_seen_and_put_right() -> None:
    """None of them is there in name alone."""
    for what in DRIFTS:
        life = Life()
        life.begin("exposed")
        life.put_right()
        before = life.overlay.differences()
        life.drift(what)
        assert life.overlay.differences() != before, what
        if what != "launch script edited":
            assert has_fix(walk(STEPS, replace(life.look, server=Overlay(life.overlay)))), what
        life.put_right()
