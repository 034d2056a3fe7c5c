"""`rollback`: one run taken back, from its journal and its backups. What was edited since is left, and named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import files, journal
from .engine import Look, Step, StepResult, Watcher, perform_all, show
from .model import Action, Impact, Remove, Run, SetupError, Status, Then, Write
from .owned import sha256
from .parse.launch import bind_to
from .server import FileState
from .steps import STEPS
from .undo import Performed, undo_actions

BIND = "bind"


@dataclass(frozen=True)
class Done:
    """An action of a run, as its journal has it."""

    step: str
    action: Action
    before: FileState | None

    @property
    def path(self) -> str:
        return self.action.path if isinstance(self.action, Write | Remove) else ""


@dataclass(frozen=True)
class Rollback:
    """What is to be done, step by step, the last step first; `edited` are files that stay as somebody left them."""

    run: str
    steps: tuple[tuple[Step, tuple[Action, ...]], ...]
    edited: tuple[str, ...]
    exposes: bool

    def results(self, look: Look) -> tuple[StepResult, ...]:
        """As a plan shows it."""
        by_id = {step.id: actions for step, actions in self.steps}
        return tuple(_planned(step, by_id.get(step.id, ()), look) for step in STEPS)


def _planned(step: Step, actions: Sequence[Action], look: Look) -> StepResult:
    changes = tuple(show(action, _before(action, look), look.mask) for action in actions)
    return StepResult(step, Status.CHANGED if actions else Status.OK, changes=changes, actions=tuple(actions))


def _before(action: Action, look: Look) -> FileState | None:
    return look.server.read(action.path) if isinstance(action, Write | Remove) else None


def choose_run(wanted: str | None) -> str:
    """The run to be taken back: the one named, or the last that changed something. Raises SetupError."""
    runs = [past for past in journal.past_runs() if past.changed and past.command != "rollback"]
    standing = [past.id for past in runs if not past.rolled_back]
    if wanted is None and standing:
        return standing[0]
    if wanted in standing:
        return str(wanted)
    said = f"run {wanted} has changed nothing, or was taken back already" if wanted else "there is no run to take back"
    raise SetupError(said, "see: sudo vllm-https-setup runs")


def find_conflicts(run: str) -> tuple[str, ...]:
    """What later runs, which still stand, touched as well: taking this one back would undo theirs."""
    mine = {_thing(done) for done in read_done(run)}
    conflicts = []
    for past in journal.past_runs():
        if past.id > run and past.changed and not past.rolled_back and past.command != "rollback":
            shared = sorted(thing for thing in mine & {_thing(done) for done in read_done(past.id)} if thing)
            conflicts += [f"{thing} (run {past.id})" for thing in shared]
    return tuple(dict.fromkeys(conflicts))


def _thing(done: Done) -> str:
    if done.path:
        return done.path
    return " ".join(done.action.argv) if isinstance(done.action, Run) and done.action.undo else ""


def read_done(run: str) -> tuple[Done, ...]:
    """What the run did, or began to do when it was killed, in its order."""
    events, _ = journal.read_events(run)
    found: list[Done] = []
    began: dict[str, Any] | None = None
    for event in events:
        if event["event"] == "action_began":
            if began is not None:
                found.append(_done(began))
            began = event
        elif event["event"] == "action_ended" and began is not None:
            if event.get("ok"):
                found.append(_done(began))
            began = None
    return tuple(found if began is None else [*found, _done(began)])


def _done(event: dict[str, Any]) -> Done:
    try:
        return _read(event)
    except (KeyError, TypeError, ValueError, AttributeError):
        remedy = "put back by hand what its log names: sudo vllm-https-setup log"
        raise SetupError("the run's journal is damaged: what it did can't be read in full", remedy) from None


def _read(event: dict[str, Any]) -> Done:
    change = event["change"]
    then = tuple(Then(tuple(one["argv"]), one["why"], Impact(one["impact"])) for one in event["then"])
    action: Action
    match change["kind"]:
        case "write":
            # The content stays unknown; its hash says whether what is there now is still ours.
            keeps = bool(event.get("keeps_attributes"))
            content = str(event["sha256"]).encode()
            action = Write(change["path"], content, change["why"], then=then, keep_attributes=keeps)
        case "remove":
            action = Remove(change["path"], change["why"], then=then)
        case "run":
            undo = tuple(Run(tuple(argv), f"take back: {change['why']}") for argv in event["undo"])
            action = Run(tuple(change["argv"]), change["why"], undo=undo)
        case _:
            action = Run((), change["why"])
    return Done(event["step"], action, _backup(event["backup"]))


def _backup(path: str | None) -> FileState | None:
    if path is None:
        return None
    content, attributes = files.read(path), files.read(f"{path}.attributes")
    if content is None or attributes is None:
        raise SetupError(f"the backup {path} is gone", "what was there before can't be brought back")
    known = json.loads(attributes.text)
    return FileState("file", content.content, int(known["mode"], 8), known["owner"], known["group"])


def plan_rollback(run: str, look: Look, *, keep_bind: bool) -> Rollback:
    """The actions that take the run back."""
    done = [one for one in read_done(run) if not (keep_bind and one.step == BIND)]
    edited = tuple(path for path in dict.fromkeys(one.path for one in done if one.path) if _is_edited(path, done, look))
    steps = []
    for step in reversed(STEPS):
        performed: list[Performed] = [
            (one.action, one.before) for one in done if one.step == step.id and one.path not in edited
        ]
        if actions := undo_actions(performed):
            steps.append((step, actions))
    exposes = any(_exposes(one) for one in done if one.path not in edited)
    return Rollback(run, tuple(steps), edited, exposes)


def _is_edited(path: str, done: Sequence[Done], look: Look) -> bool:
    last = [one.action for one in done if one.path == path][-1]
    now = look.server.read(path)
    if isinstance(last, Remove):
        return now is not None
    assert isinstance(last, Write)
    return now is not None and (now.kind != "file" or sha256(now.content) != last.content.decode())


def _exposes(done: Done) -> bool:
    """True if the launch script of before lets vLLM listen on more than loopback."""
    if done.step != BIND or done.before is None:
        return False
    return bind_to(done.before.content).content != done.before.content


def carry_out(rollback: Rollback, look: Look, watcher: Watcher) -> tuple[StepResult, ...]:
    """Takes it back; stops at the first action that fails."""
    results = {step.id: StepResult(step, Status.OK) for step in STEPS}
    for step, actions in rollback.steps:
        results[step.id] = perform_all(step, actions, look, watcher)
        if results[step.id].status is Status.FAILED:
            break
    return tuple(results.values())
