"""How what was performed is taken back: the newest first, each file as it was, each service told once, last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .actions import compose
from .model import Action, Finding, Level, Remove, Run, Then, Write
from .server import FileState

# An action that was performed, and the file that it touched as it was just before (None: there was none).
Performed = tuple[Action, FileState | None]


def undo_actions(performed: Sequence[Performed]) -> tuple[Action, ...]:
    """The actions that bring the state before these back, in the order in which they are to be done.

    A command is taken back by its own `undo`, and not at all where it has none. A file that was touched more than
    once becomes what it was before the first time; one that ended as it began is left alone. What is no regular
    file (a link, say) has no content to be put back, and stays as it is.
    """
    touched: dict[str, list[Performed]] = {}
    for action, before in performed:
        if isinstance(action, Write | Remove):
            touched.setdefault(action.path, []).append((action, before))
    undone: list[Action] = []
    for action, _ in reversed(performed):
        if isinstance(action, Run):
            undone.extend(action.undo)
        # The last met, going backwards, is the first touch: all that came later may have needed the file.
        elif isinstance(action, Write | Remove) and touched[action.path][0][0] is action:
            undone.extend(_restored(action.path, touched.pop(action.path)))
    return compose([Finding("undo", Level.DRIFT, "", fix=tuple(undone))]) if undone else ()


def _restored(path: str, touches: Sequence[Performed]) -> tuple[Action, ...]:
    before = touches[0][1]
    if _is_as_before(touches[-1][0], before):
        return ()
    then = _told_back(touches)
    if before is None:
        return (Remove(path, "there was no such file before", then=then),)
    if before.kind != "file":
        return ()
    writes = [action for action, _ in touches if isinstance(action, Write)]
    return (
        Write(
            path,
            before.content,
            "the file as it was before",
            mode=before.mode,
            owner=before.owner,
            group=before.group,
            then=then,
            private=any(one.private for one in writes),
            binary=any(one.binary for one in writes),
            keep_attributes=bool(writes) and all(one.keep_attributes for one in writes),
        ),
    )


def _is_as_before(last: Action, before: FileState | None) -> bool:
    if not isinstance(last, Write):
        return before is None
    if before is None or before.kind != "file":
        return False
    attributes = (last.mode, last.owner, last.group) == (before.mode, before.owner, before.group)
    return last.content == before.content and (last.keep_attributes or attributes)


def _told_back(touches: Sequence[Performed]) -> tuple[Then, ...]:
    """What the services are told: as the first touch knew them, which saw the state that is to come back."""
    known: dict[str, Then] = {}
    for action, _ in touches:
        for then in action.then:
            # Where an action does not say, the same command takes the old file up; what that makes true is not known.
            known.setdefault(then.argv[-1], then.back or replace(then, makes=()))
    return tuple(known.values())
