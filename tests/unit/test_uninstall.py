"""`uninstall` and `rollback`: what is taken back, and what stays because somebody has come to need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.servers import scenario
from tests.unit.test_laws import Book, apply
from wizard import book, paths, reversal, uninstall
from wizard.caddy_source import KEYRING, LIST
from wizard.described import NotDescribed
from wizard.engine import Look, NoWatcher, Step
from wizard.firewall_undo import ALLOW_ALL, DISABLE, guard
from wizard.model import (
    Action,
    Change,
    FileIs,
    FirewallIs,
    ListensOn,
    Output,
    PackageIs,
    Remove,
    Run,
    Status,
    UnitIs,
    Wait,
    Write,
)
from wizard.overlay import Overlay
from wizard.package_removal import find_departure
from wizard.parse.apt import Package, parse_simulation
from wizard.parse.netfilter import parse_ruleset
from wizard.reversal import Wish
from wizard.rules import LETS_IN, Rules, opening
from wizard.server import FileState, Firewall, Server
from wizard.undo import Performed, undo_actions

SCRIPT = "/opt/vllm/start-vllm.sh"
NO_CADDY = (UnitIs("caddy.service", active=False), ListensOn("caddy.service", ()))
CADDY_GONE = (
    PackageIs("caddy", False),
    *NO_CADDY,
    UnitIs("caddy.service", exists=False),
    FileIs("/usr/bin/caddy", None),
)
EVERYTHING = Wish(keep_data=False)


class Described(Overlay):
    """What no run asks of a described server is not there; apt would take away what it is told to, and no more,
    and a package that goes takes its unit and its program along."""

    def read(self, path: str) -> FileState | None:
        try:
            return super().read(path)
        except NotDescribed:
            return None

    def names(self, directory: str) -> tuple[str, ...]:
        try:
            return super().names(directory)
        except NotDescribed:
            return ()

    def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
        if tuple(argv[:2]) == ("apt-get", "-s"):
            names = argv[argv.index("--") + 1 :] if "--" in argv else ()
            return Output(0, "".join(f"Purg {name} [1]\n" for name in names))
        return super().query(argv, timeout_s, stdin)

    def perform(self, action: Action) -> Output:
        output = super().perform(action)
        if isinstance(action, Run) and action.argv[:2] == ("apt-get", "purge") and "caddy" in action.argv:
            for effect in (*CADDY_GONE, FileIs(paths.CADDYFILE, None)):
                self.make_true(effect)
        return output

    def differences_of_files(self) -> list[str]:
        return [what.removeprefix("file ") for what in self.differences() if what.startswith("file ")]


BACKUPS: dict[str, FileState] = {}


class Keeping(Book):
    """Keeps the old content of files, as a run's backups do."""

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None:
        owned = self.look.owned
        super().action_began(step, action, change, before)
        if before is not None and before.kind == "file" and isinstance(action, Write | Remove):
            backup = f"/backup/{len(BACKUPS)}"
            BACKUPS[backup] = before
            self.look = replace(self.look, owned=book.owned_before(owned, step.id, action, before, backup))


Secured = Callable[[str], tuple[Look, Described, list[Performed]]]
# Each as the first run finds it: nothing is ours yet.
SERVERS = ("exposed", "exposed-ipv6", "ufw-active-with-rules", "ufw-incoming-allow", "no-ufw", "vllm-hardened")


@pytest.fixture
def secured(monkeypatch: pytest.MonkeyPatch) -> Secured:
    """A described server after an apply, and what is ours on it."""

    monkeypatch.setattr(uninstall, "read_backup", BACKUPS.__getitem__)

    def one(name: str) -> tuple[Look, Described, list[Performed]]:
        look = scenario.load(name).look()
        server = Described(look.server)
        kept = Keeping(replace(look, server=server))
        apply(kept)
        return kept.look, server, kept.performed

    return one


def take_back(look: Look, wish: Wish) -> tuple[str, ...]:
    """Uninstalls it. Returns what stays."""
    planned = uninstall.plan_uninstall(look, wish)
    results = reversal.carry_out(planned.reversal, look, NoWatcher())
    assert [result.problem for result in results if result.status is Status.FAILED] == []
    return planned.reversal.left


@pytest.mark.parametrize("name", SERVERS)
def test_uninstall_takes_back_what_the_law_of_undo_takes_back(secured: Secured, name: str) -> None:
    """From owned.json, which knows less than the run itself did: the same files, and the same commands."""
    look, server, performed = secured(name)
    written = {path for path, one in look.owned.files.items() if one.sha256}
    planned = uninstall.plan_uninstall(look, EVERYTHING).reversal
    by_law = {one.argv for one in undo_actions(performed) if isinstance(one, Run) and one.argv[0] == "ufw"}
    ours = {one.argv for _, actions in planned.steps for one in actions if isinstance(one, Run)}
    assert {argv for argv in ours if argv[0] == "ufw"} == by_law
    assert written & set(server.differences_of_files()) == written
    take_back(look, EVERYTHING)
    assert written & set(server.differences_of_files()) - {paths.CADDYFILE} == set()


def test_run_that_was_killed_before_it_wrote_down_what_it_did_is_taken_back_too(secured: Secured) -> None:
    """owned.json names the file and the command before they are touched."""
    look, server, _ = secured("exposed")
    owned = look.owned
    known = owned.files[SCRIPT]
    killed = replace(owned, files={**owned.files, SCRIPT: replace(known, writing=known.sha256, sha256=None)})
    take_back(replace(look, owned=killed), EVERYTHING)
    assert SCRIPT not in server.differences_of_files()


def test_edited_file_stays_and_is_named(secured: Secured) -> None:
    look, server, _ = secured("exposed")
    edited = Write(SCRIPT, b"#!/bin/sh\nexec vllm serve other --host 0.0.0.0\n", "by hand", keep_attributes=True)
    server.perform(edited)
    left = take_back(look, EVERYTHING)
    assert left == (f"{SCRIPT} was edited since: it stays as it is",)
    state = server.read(SCRIPT)
    assert state is not None and state.content == edited.content


def test_caddy_stays_for_an_edited_caddyfile_and_so_does_what_updates_it(secured: Secured) -> None:
    look, server, _ = secured("exposed")
    state = server.read(paths.CADDYFILE)
    assert state is not None
    server.perform(Write(paths.CADDYFILE, state.content + b":8080 {\n\trespond hello\n}\n", "by hand"))
    left = take_back(look, EVERYTHING)
    assert any("Caddy stays: /etc/caddy/Caddyfile was edited since" in line for line in left)
    assert server.packages("caddy")["caddy"].installed
    assert server.read(KEYRING) is not None and server.read(LIST) is not None


def test_what_opens_vllm_again_is_known_before(secured: Secured) -> None:
    look, server, _ = secured("exposed")
    assert uninstall.plan_uninstall(look, EVERYTHING).reversal.exposes
    kept = uninstall.plan_uninstall(look, Wish(keep_bind=True))
    assert not kept.reversal.exposes
    assert any("vLLM bound to 127.0.0.1" in line for line in kept.reversal.left)
    take_back(look, Wish(keep_bind=True))
    state = server.read(SCRIPT)
    assert state is not None and b"--host 127.0.0.1" in state.content


def test_caddys_ca_is_kept_unless_it_is_to_be_purged(secured: Secured) -> None:
    look, _, _ = secured("exposed")
    commands = {
        purge: [
            one.argv
            for _, actions in uninstall.plan_uninstall(look, Wish(keep_data=not purge)).reversal.steps
            for one in actions
            if isinstance(one, Run) and one.argv[0] == "apt-get"
        ]
        for purge in (False, True)
    }
    assert [(argv[1], argv[-1]) for argv in commands[False] if "caddy" in argv] == [("remove", "caddy")]
    assert [argv[1] for argv in commands[True] if "caddy" in argv] == ["purge"]


# ── packages ──


class Apt:
    """A server whose apt would remove these with those."""

    def __init__(self, along: dict[str, tuple[str, ...]], orphans: tuple[str, ...] = (), auto: tuple[str, ...] = ()):
        self._along, self._orphans, self._auto = along, orphans, auto

    def packages(self, *names: str) -> dict[str, Package]:
        return {name: Package(name, "ii", "1") for name in names}

    def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
        if "autoremove" in argv:
            removed: tuple[str, ...] = self._orphans
        else:
            named = tuple(argv[argv.index("--") + 1 :])
            removed = (*named, *(other for name in named for other in self._along.get(name, ())))
            removed += (*self._orphans, *self._auto) if "--auto-remove" in argv else ()
        return Output(0, "".join(f"Purg {name} [1.0]\n" for name in removed))


def asked(apt: Apt) -> Server:
    return apt  # type: ignore[return-value]


def test_package_that_another_needs_stays_with_the_name_of_that_one() -> None:
    found = find_departure(asked(Apt({"curl": ("their-tool",)})), ("curl", "caddy"))
    assert (found.going, found.needed) == (("caddy",), (("curl", "their-tool"),))


def test_packages_that_need_each_other_go_together() -> None:
    found = find_departure(asked(Apt({"curl": ("caddy",)})), ("curl", "caddy"))
    assert (found.going, found.needed) == (("curl", "caddy"), ())


def test_what_came_along_goes_too_and_what_nobody_needed_before_stays() -> None:
    found = find_departure(asked(Apt({}, orphans=("old-library",), auto=("new-library",))), ("caddy",))
    assert found.brought == ("new-library",)


def test_apt_that_says_nothing_takes_nothing_along() -> None:
    class Silent(Apt):
        def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
            return Output(100, "", "E: broken")

    assert find_departure(asked(Silent({})), ("caddy",)).going == ("caddy",)


def test_simulation_is_read_as_apt_prints_it() -> None:
    text = (scenario.HERE.parent / "recorded/apt/apt-2.6.1-simulated-purge.txt").read_text()
    assert parse_simulation(text) == ("curl",)
    assert parse_simulation("Remv libx:i386 [1]\nInst y\nPurg\n") == ("libx",)


# ── the firewall ──


SSH, HTTPS = opening("22", "tcp", "SSH", ""), opening("443", "tcp", "HTTPS", "")
OFF = Run(DISABLE, "", makes=(FirewallIs(active=False),))
OPEN = Run(ALLOW_ALL, "", makes=(FirewallIs(incoming="allow"),))


def on(*rules: Run, incoming: str = "deny", name: str = "exposed") -> Look:
    """A server with ufw on, this default, and these rules."""
    look = scenario.load(name).look()
    server = Described(look.server)
    for rule in (*rules, Run(("ufw",), "", makes=(FirewallIs(active=True, incoming=incoming),))):
        server.perform(rule)
    return replace(look, server=server)


def commands(actions: Sequence[Action]) -> list[str]:
    return [" ".join(one.argv) for one in actions if isinstance(one, Run) and one.argv[0] == "ufw"]


def test_rule_of_ours_that_alone_lets_the_operator_in_stays_while_ufw_is_on() -> None:
    guarded = guard(on(SSH, HTTPS), [HTTPS.undo[0], SSH.undo[0]], keep_closed=False)
    assert commands(guarded.actions) == ["ufw delete allow 443/tcp"]
    assert "the rule that allows SSH (22/tcp) stays: without it nobody could log in" in guarded.left[0]


@pytest.mark.parametrize("way_in", ["a rule of theirs", "the default"])
def test_rule_of_ours_goes_where_the_operator_has_another_way_in(way_in: str) -> None:
    theirs = opening("22", "tcp", "", "", action="limit") if way_in == "a rule of theirs" else HTTPS
    look = on(SSH, theirs, incoming="deny" if way_in == "a rule of theirs" else "allow")
    assert commands(guard(look, SSH.undo, keep_closed=False).actions) == ["ufw delete allow 22/tcp"]


def test_firewall_is_taken_back_under_the_undo_that_lets_nobody_be_locked_out() -> None:
    actions = guard(on(SSH, HTTPS), [OFF, HTTPS.undo[0], SSH.undo[0]], keep_closed=False).actions
    written = [one.path for one in actions if isinstance(one, Write)]
    assert paths.UNCONFIRMED in written
    assert [one.argv for one in actions if isinstance(one, Run)][-1] != DISABLE
    waits = [number for number, one in enumerate(actions) if isinstance(one, Wait)]
    ufw = [number for number, one in enumerate(actions) if isinstance(one, Run) and one.argv[0] == "ufw"]
    assert len(waits) == 1 and max(ufw) < waits[0]


@pytest.mark.parametrize("opens", [OFF, OPEN])
def test_firewall_that_alone_keeps_others_from_vllm_is_said_to_open_it(opens: Run) -> None:
    """On this server vLLM still listens on every interface: what its script says does not matter."""
    assert guard(on(SSH), [opens], keep_closed=False).exposes
    kept = guard(on(SSH), [opens], keep_closed=True)
    assert (kept.exposes, commands(kept.actions)) == (False, [])
    assert "ufw stays on" in kept.left[0]


def test_what_is_so_already_is_not_done() -> None:
    look = scenario.load("exposed").look()
    look = replace(look, server=Described(look.server))
    assert guard(look, [OFF, HTTPS.undo[0]], keep_closed=False).actions == ()


class Stopping(Described):
    """ufw was killed while it was switched off: its file says so, its rules are gone, and its policy is not."""

    def firewall(self) -> Firewall:
        refuses = parse_ruleset("*filter\n:INPUT DROP [0:0]\nCOMMIT\n")
        return replace(super().firewall(), enabled=False, loaded=False, kernel4=refuses, kernel6=None)


@pytest.mark.parametrize("marked", [True, False])
def test_ufw_that_was_killed_while_it_was_switched_off_is_switched_off_again(marked: bool) -> None:
    """It lets nobody in. Without our mark a policy is another's, and not ours to open."""
    look = on(SSH, HTTPS, name="finished")
    server = Stopping(look.server)
    if marked:
        server.perform(Write(paths.UNCONFIRMED, b"", ""))
    actions = guard(replace(look, server=server), [OFF], keep_closed=False).actions
    assert commands(actions) == (["ufw --force disable"] if marked else [])
    assert any(isinstance(one, Wait) for one in actions) is marked


def test_undo_that_a_killed_run_has_left_armed_goes_too() -> None:
    look = scenario.load("exposed").look()
    server = Described(look.server)
    server.perform(Write(paths.UNCONFIRMED, b"", ""))
    actions = guard(replace(look, server=server), [], keep_closed=False).actions
    assert next(one.path for one in actions if isinstance(one, Remove)) == paths.UNCONFIRMED


def test_service_that_somebody_has_stopped_is_not_started_for_its_old_file(secured: Secured) -> None:
    look, server, _ = secured("exposed")
    server.perform(Run(("systemctl", "stop", "vllm.service"), "", makes=(UnitIs("vllm.service", active=False),)))
    planned = uninstall.plan_uninstall(look, EVERYTHING).reversal
    actions = [one for _, actions in planned.steps for one in actions]
    assert any(isinstance(one, Write) and one.path == SCRIPT for one in actions)
    assert not any(isinstance(one, Run) and "vllm.service" in one.argv for one in actions)


def test_package_that_was_rolled_back_is_not_ours_when_somebody_installs_it(secured: Secured) -> None:
    look, _, performed = secured("exposed")
    argvs = [one.argv for one, _ in performed if isinstance(one, Run)]
    assert any(known.argv[0] == "apt-get" for known in look.owned.commands)
    assert look.owned.without_commands(argvs).commands == ()


def way_in_at_every_instant(look: Look, actions: Sequence[Action]) -> list[bool]:
    """Whether SSH lets anybody in, before the first command and after each, as ufw's files and state have it."""

    def is_open() -> bool:
        firewall = look.server.firewall()
        rules = Rules(look, firewall)
        return not firewall.enabled or all(one.action in LETS_IN for one in rules.verdicts(22, "tcp"))

    seen = [is_open()]
    for one in actions:
        if isinstance(one, Run) and one.argv[0] == "ufw":
            look.server.perform(one)
            seen.append(is_open())
    return seen


@pytest.mark.parametrize("opens", [OFF, OPEN], ids=["ufw was off", "the default let all in"])
def test_what_opens_the_firewall_comes_before_the_rule_that_let_the_operator_in(opens: Run) -> None:
    """Theirs let them in at the first run, and went later: ours was made after the firewall was closed."""
    look = on(SSH, HTTPS)
    actions = guard(look, [SSH.undo[0], HTTPS.undo[0], opens], keep_closed=False).actions
    assert way_in_at_every_instant(look, actions) == [True] * 4


def test_default_that_somebody_has_set_since_is_theirs() -> None:
    look = on(SSH, HTTPS, incoming="reject")
    assert commands(guard(look, [OPEN, HTTPS.undo[0]], keep_closed=False).actions) == ["ufw delete allow 443/tcp"]


PURGE = Run(("apt-get", "purge", "--", "ufw"), "")


def test_ufw_stays_with_the_rules_that_its_operator_has_added() -> None:
    theirs = opening("9100", "tcp", "node exporter", "")
    undo = [OFF, HTTPS.undo[0], SSH.undo[0], PURGE]
    guarded = guard(on(SSH, HTTPS, theirs), undo, keep_closed=False)
    assert PURGE not in guarded.actions
    assert guarded.left == ("the package ufw stays, switched off: it has rules of your own (allow 9100/tcp)",)
    assert guard(on(SSH, HTTPS), undo, keep_closed=False).actions[-1] == PURGE


def test_ufw_stays_that_its_operator_has_switched_on() -> None:
    """The run was killed between the package and its first rule: that ufw is on is none of ours."""
    guarded = guard(on(SSH), [PURGE], keep_closed=False)
    assert (guarded.actions, guarded.left) == ((), ("the package ufw stays: the firewall is on",))


def test_ufw_that_was_killed_while_it_was_switched_off_is_switched_off_to_its_end() -> None:
    """Its file says so before its rules go: they are loaded still."""

    class HalfOff(Described):
        def firewall(self) -> Firewall:
            return replace(super().firewall(), enabled=False, loaded=True)

    look = on(SSH, HTTPS)
    look = replace(look, server=HalfOff(look.server))
    assert commands(guard(look, [OFF, HTTPS.undo[0]], keep_closed=False).actions)[0] == "ufw --force disable"


def test_undo_of_the_firewall_is_gone_before_the_package_that_it_needs() -> None:
    look = replace(on(), server=Described(scenario.load("exposed").look().server))
    look.server.perform(Write(paths.UNCONFIRMED, b"", ""))
    actions = guard(look, [PURGE], keep_closed=False).actions
    assert (actions[0], actions[-1]) == (Remove(paths.UNCONFIRMED, "the firewall is as it was before"), PURGE)


def unproved(server: Described) -> None:
    """The firewall's own undo, as its unit does it: all that an apply had made true is true again."""
    for one in (SSH, HTTPS, Run(("ufw",), "", makes=(FirewallIs(active=True, incoming="deny"),))):
        server.perform(one)


def test_what_the_undo_brings_back_within_an_uninstall_is_taken_back_by_the_next(secured: Secured) -> None:
    """No proof came, or the power went: the rules are there again, and ours still."""
    look, server, _ = secured("exposed")
    planned = uninstall.plan_uninstall(look, EVERYTHING).reversal
    firewall = next(actions for step, actions in planned.steps if step.id == "firewall")
    owned = look.owned
    for one in firewall:
        if isinstance(one, Wait):
            break
        server.perform(one)
        owned = book.owned_after(book.owned_before(owned, "firewall", one, None, None), one)
    unproved(server)
    server.perform(Remove(paths.UNCONFIRMED, ""))
    again = uninstall.plan_uninstall(replace(look, owned=owned), EVERYTHING).reversal
    argvs = [one.argv for step, actions in again.steps for one in actions if isinstance(one, Run)]
    assert [argv for argv in argvs if argv[0] == "ufw"] == [
        DISABLE,
        ("ufw", "delete", "allow", "443/tcp"),
        ("ufw", "delete", "allow", "22/tcp"),
    ]


def test_caddyfile_of_a_caddy_that_a_killed_uninstall_has_purged_is_not_written_again(secured: Secured) -> None:
    look, server, _ = secured("exposed")
    owned = look.owned
    for step, actions in uninstall.plan_uninstall(look, EVERYTHING).reversal.steps[:2]:
        for one in actions:
            owned = book.owned_before(owned, step.id, one, server.read(getattr(one, "path", SCRIPT)), None)
            server.perform(one)
            owned = book.owned_after(owned, one)
    assert not server.packages("caddy")["caddy"].installed
    take_back(replace(look, owned=owned), EVERYTHING)
    assert server.read(paths.CADDYFILE) is None
