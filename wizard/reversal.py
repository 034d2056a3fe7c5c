"""What is taken back, by `rollback` and by `uninstall`: how it is planned, and carried out.

Both know what was done, the one from a run's journal and the other from owned.json. What was edited since stays, and
is named; what others have come to need stays; and nobody is locked out, or let in, on the way.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from . import files
from .actions import show
from .admin_socket import DROP_IN as ADMIN_DROP_IN
from .apt import CADDY, installed_by
from .caddy_removal import CaddyRemoval, find_caddy_removal
from .caddy_service import RESTART, is_moved
from .caddyfile import HEADING, is_packaged
from .drop_in import emptied_by, without_directory
from .engine import Look, Step, StepResult, Watcher, perform_all
from .existing import IMPORT, lines_of, without_import
from .firewall_undo import guard
from .model import Action, Remove, Run, SetupError, Status, Wait, Write
from .models import models
from .owned import sha256
from .package_removal import Departure, find_departure, take_away
from .parse.caddy_admin import admin_address
from .parse.launch import bind_to
from .paths import ADMIN_SOCKET, CADDY_SERVICE, CADDYFILE, SITE_FILE, UNCONFIRMED, UNITS
from .rate_limit import can_read
from .safety import SERVICE_PATH, TIMER_PATH
from .server import FileState
from .steps import STEPS
from .undo import Performed, undo_actions
from .vllm import Readiness

BIND, FIREWALL, HARDEN = "bind", "firewall", "harden"
# The firewall's own undo is taken away as it always is.
SAFETY = (SERVICE_PATH, TIMER_PATH, UNCONFIRMED)


@dataclass(frozen=True)
class Done:
    """Something that a run did. The content of a `Write` is only known by its hash, which stands in its place."""

    step: str
    action: Action
    before: FileState | None

    @property
    def path(self) -> str:
        return self.action.path if isinstance(self.action, Write | Remove) else ""

    @property
    def argv(self) -> tuple[str, ...]:
        return self.action.argv if isinstance(self.action, Run) else ()


@dataclass(frozen=True)
class Reversal:
    """What is to be done, step by step, the last step first; `left` says what stays as it is, and why."""

    steps: tuple[tuple[Step, tuple[Action, ...]], ...]
    left: tuple[str, ...] = ()
    exposes: bool = False

    def results(self, look: Look) -> tuple[StepResult, ...]:
        """As a plan shows it."""
        by_id = {step.id: actions for step, actions in self.steps}
        return tuple(_planned(step, by_id.get(step.id, ()), look) for step in STEPS)


def _planned(step: Step, actions: Sequence[Action], look: Look) -> StepResult:
    changes = tuple(show(action, _before(action, look), look.mask) for action in actions)
    return StepResult(step, Status.CHANGED if actions else Status.OK, changes=changes, actions=tuple(actions))


def _before(action: Action, look: Look) -> FileState | None:
    return look.server.read(action.path) if isinstance(action, Write | Remove) else None


@dataclass(frozen=True)
class Wish:
    """How far it is to go. `keep_bind`: vLLM stays closed. `keep_data`: Caddy's certificates and its CA stay."""

    keep_bind: bool = False
    keep_data: bool = False


def plan_reversal(done: Sequence[Done], look: Look, wish: Wish) -> Reversal:
    """The actions that take this back, as the server is now."""
    gone = (*SAFETY, CADDYFILE) if _went_with_its_package(done, look) else SAFETY
    done, edited = without_edited([one for one in done if one.path not in gone], look)
    done, unreadable = without_unreadable(done, look)
    left = [f"{path} was edited since: it stays as it is" for path in edited]
    left += [
        f"{path} stays as it is: it limited requests before, and Caddy has no module for that" for path in unreadable
    ]
    commands = [one.argv for one in done]
    caddy = find_caddy_removal(look, commands, _caddyfile(done, look), edited, keep_data=wish.keep_data)
    left += caddy.left
    opened = [one for one in done if _opens(one)]
    if wish.keep_bind and opened:
        left += [f"{one.path} stays as it is, and vLLM bound to 127.0.0.1" for one in opened]
        done = [one for one in done if one.step != BIND]
    steps: list[tuple[Step, tuple[Action, ...]]] = []
    exposes = bool(opened) and not wish.keep_bind
    moved = is_moved(look, admin_address(_caddyfile(done, look)))
    for step in reversed(STEPS):
        kept = [one for one in done if one.step == step.id and caddy.takes_back(one.argv, one.path)]
        actions, words = _actions(step, kept, look, caddy, moved=moved)
        if step.id == FIREWALL:
            guarded = guard(look, actions, keep_closed=wish.keep_bind)
            actions, exposes = guarded.actions, exposes or guarded.exposes
            words = (*words, *guarded.left)
        if actions:
            steps.append((step, actions))
        left += words
    return Reversal(tuple(_each_restart_once(steps)), tuple(dict.fromkeys(left)), exposes)


def _each_restart_once(
    steps: Sequence[tuple[Step, tuple[Action, ...]]],
) -> Iterator[tuple[Step, tuple[Action, ...]]]:
    """vLLM, whose start takes minutes, is restarted by the last step that asks for it; the same for any service."""
    for number, (step, actions) in enumerate(steps):
        later = {one.argv for _, more in steps[number + 1 :] for one in more if isinstance(one, Run) and _restarts(one)}
        dropped = [one for one in actions if isinstance(one, Run) and one.argv in later]
        waits = {one.what for _, more in steps[number + 1 :] for one in more if isinstance(one, Wait)}
        kept = [
            one
            for one in actions
            if one not in dropped and not (dropped and isinstance(one, Wait) and one.what in waits)
        ]
        if kept:
            yield step, tuple(kept)


def _restarts(action: Run) -> bool:
    return action.argv[:2] == ("systemctl", "restart")


def _went_with_its_package(done: Sequence[Done], look: Look) -> bool:
    """True where a reversal that was killed has purged Caddy already: its own Caddyfile was no file of before."""
    before = next((one.before for one in done if one.path == CADDYFILE), None)
    if before is None or not is_packaged(before.text) or look.server.read(CADDYFILE) is not None:
        return False
    return not look.server.packages(CADDY)[CADDY].installed


def _caddyfile(done: Sequence[Done], look: Look) -> str:
    """What the Caddyfile says when all is taken back."""
    touched = [one.before for one in done if one.path == CADDYFILE]
    after = touched[0] if touched else look.server.read(CADDYFILE)
    return after.text if after is not None else ""


def _actions(
    step: Step, done: Sequence[Done], look: Look, caddy: CaddyRemoval, *, moved: bool
) -> tuple[tuple[Action, ...], tuple[str, ...]]:
    """What takes the part of a step back; and what of it stays."""
    packages = list(dict.fromkeys(name for one in done for name in installed_by(one.argv)))
    performed: list[Performed] = [
        (_told(one.action, caddy, look, moved=moved), one.before) for one in done if not installed_by(one.argv)
    ]
    undone = list(undo_actions(performed))
    if any(isinstance(one, Write | Remove) and one.path.startswith(UNITS) for one in undone) and step.id != BIND:
        undone.append(Run(("systemctl", "daemon-reload"), "systemd forgets the unit files that are gone"))
    undone += _emptied(undone)
    undone += _waits(undone, look)
    departure = find_departure(look.server, packages) if packages else Departure(())
    away = take_away(departure, "an earlier run brought it", keep_data=caddy.keeps_data)
    left = tuple(f"the package {name} stays: {other} needs it" for name, other in departure.needed)
    # ufw is needed until all else of it is taken back, and nftables until no table is ours; what apt was told of
    # Caddy's repository, until Caddy is gone.
    return (*undone, *away) if step.id in (FIREWALL, HARDEN) else (*away, *undone), left


def _told(action: Action, caddy: CaddyRemoval, look: Look, *, moved: bool) -> Action:
    """A service is told of its files where it runs: what somebody has stopped, or taken away, is not started for it.
    A Caddy that goes is not told at all; one that is `moved` could not be reloaded."""
    if not isinstance(action, Write | Remove):
        return action
    kept = [then for then in action.then if not (caddy.goes and CADDY_SERVICE in then.argv)]
    if moved:
        kept = [replace(then, argv=RESTART) if then.argv[-1] == CADDY_SERVICE else then for then in kept]
    services = sorted({then.argv[-1] for then in kept if then.argv[-1].endswith(".service")})
    stopped = {name for name, unit in look.server.units(*services).items() if not unit.is_active} if services else set()
    return replace(action, then=tuple(then for then in kept if then.argv[-1] not in stopped))


def _emptied(actions: Sequence[Action]) -> Iterator[Run]:
    """Directories of ours that are empty by then."""
    removed = [one.path for one in actions if isinstance(one, Remove)]
    yield from map(without_directory, emptied_by(removed))
    if ADMIN_DROP_IN.path in removed:
        # systemd takes it away when a service stops, and knows of it no more.
        yield without_directory(posixpath.dirname(ADMIN_SOCKET))


def _waits(actions: Sequence[Action], look: Look) -> Iterator[Wait]:
    """vLLM that ran, and is restarted, is waited for: it may take minutes, and may fail."""
    for model in models(look):
        if any(isinstance(one, Run) and one.argv == ("systemctl", "restart", model.unit) for one in actions):
            what = f"vLLM answers again{f' ({model.unit})' if model.name else ''}"
            timeout = model.look.answers.vllm.ready_timeout
            yield Wait(what, "it was restarted with what was there before", timeout, Readiness(model.look))


# ── what stays as it is ──


def without_edited(done: Sequence[Done], look: Look) -> tuple[list[Done], tuple[str, ...]]:
    """What can be taken back; and the files that somebody has edited since. Of a Caddyfile of others our own line is
    taken out, whatever else they have edited there."""
    paths = dict.fromkeys(one.path for one in done if one.path)
    edited = tuple(path for path in paths if _is_edited(path, done, look))
    now = look.server.read(CADDYFILE)
    if CADDYFILE in edited and now is not None and now.kind == "file" and IMPORT in lines_of(now.text):
        edited = tuple(path for path in edited if path != CADDYFILE)
        theirs = replace(now, content=without_import(now.text).encode())
        done = [replace(one, before=theirs) if one.path == CADDYFILE else one for one in done]
    return [one for one in done if one.path not in edited or not one.path], edited


def without_unreadable(done: Sequence[Done], look: Look) -> tuple[list[Done], tuple[str, ...]]:
    """What can be taken back; and our files that Caddy would not start with as they were before."""
    first = {one.path: one.before for one in reversed(done) if one.path in (CADDYFILE, SITE_FILE)}
    ours = {path: state.text for path, state in first.items() if state is not None and HEADING in state.text}
    unreadable = tuple(path for path, text in ours.items() if not can_read(look, text))
    return [one for one in done if one.path not in unreadable], unreadable


def _is_edited(path: str, done: Sequence[Done], look: Look) -> bool:
    touches = [one for one in done if one.path == path]
    last, before = touches[-1].action, touches[0].before
    now = look.server.read(path)
    if now is None:
        return False
    if before is not None and (now.kind, now.content) == ("file", before.content):
        return False  # a rollback that was killed has put it back; whoever has to be told may not know yet
    if isinstance(last, Remove):
        return True
    assert isinstance(last, Write)
    return now.kind != "file" or sha256(now.content) not in last.content.decode().split()


def _opens(done: Done) -> bool:
    """True if the launch script (or unit) of before lets vLLM listen on more than loopback."""
    if done.step != BIND or done.before is None:
        return False
    return bind_to(done.before.content).content != done.before.content


def read_backup(path: str) -> FileState:
    """What a file was before. Raises SetupError where that is not known any more."""
    content, attributes = files.read(path), files.read(f"{path}.attributes")
    if content is None or attributes is None:
        raise SetupError(f"the backup {path} is gone", "what was there before can't be brought back")
    try:
        known = json.loads(attributes.text)
        return FileState("file", content.content, int(known["mode"], 8), str(known["owner"]), str(known["group"]))
    except (ValueError, KeyError, TypeError):
        raise SetupError(f"{path}.attributes is damaged", "what was there before can't be brought back") from None


# ── carrying it out ──


def carry_out(reversal: Reversal, look: Look, watcher: Watcher) -> tuple[StepResult, ...]:
    """Takes it back; stops at the first action that fails."""
    results = {step.id: StepResult(step, Status.OK) for step in STEPS}
    for step, actions in reversal.steps:
        results[step.id] = perform_all(step, actions, look, watcher)
        if results[step.id].status is Status.FAILED:
            break
    return tuple(results.values())
