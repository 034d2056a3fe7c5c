"""`rollback`: one run taken back, from its journal and its backups. What was edited since is left, and named."""

from __future__ import annotations

from typing import Any

from . import journal
from .engine import Look
from .model import Action, Impact, Remove, Run, SetupError, Then, Write
from .report import UNDOING
from .reversal import Done, Reversal, Wish, plan_reversal, read_backup


def choose_run(wanted: str | None) -> str:
    """The run to be taken back: the one named, or the last that changed something. Raises SetupError."""
    runs = [past for past in journal.past_runs() if past.changed and past.command not in UNDOING]
    keys = [past.id for past in runs if past.command == "key"]
    if (wanted or next((past.id for past in runs if not past.rolled_back), "")) in keys:
        before = next((past.id for past in runs if past.command != "key" and not past.rolled_back), "")
        raise SetupError(
            f"run {wanted or keys[0]} made a new API key: an older key is not brought back, and was kept nowhere",
            f"to take back the run before it: sudo vllm-https-setup rollback {before}"
            if before and not wanted
            else "for another key: sudo vllm-https-setup key new",
        )
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
        if past.id > run and past.changed and not past.rolled_back and past.command not in UNDOING:
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
        case "write" if event.get("lasting"):
            action = Run((), change["why"])
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
    return Done(
        event.get("belongs_to", event["step"]),
        action,
        None if event["backup"] is None else read_backup(event["backup"]),
    )


def plan_rollback(run: str, look: Look, wish: Wish) -> Reversal:
    """The actions that take the run back."""
    return plan_reversal(read_done(run), look, wish)
