"""owned.json: what is ours, so that it can be undone.

Each thing's state before our first touch, what we last wrote, and who has to be told where it is taken back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .model import Impact, Then
from .server import FileState

# Mode, owner and group.
Attributes = tuple[int, str, str]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class OwnedFile:
    """`backup` is where the content before our first touch is kept, None where there was no file.

    `was` is the hash of that content, `writing` of what was being written when a run was killed. `edits`: ours is a
    small change of a file of others. `taken_back`: it is as it was before, and whoever has to know may not know yet.
    """

    sha256: str | None
    backup: str | None
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    was: str | None = None
    step: str = ""
    then: tuple[Then, ...] = ()
    writing: str | None = None
    edits: bool = False
    taken_back: bool = False

    def is_ours(self, content: bytes) -> bool:
        """True if this is what we wrote last, or were about to."""
        return sha256(content) in (self.sha256, self.writing)


@dataclass(frozen=True)
class OwnedCommand:
    """A command that changed something, or was to, and the commands that take it back.

    `taken_back`: those were done, and the firewall, until it is proved, may bring back what they took away.
    """

    argv: tuple[str, ...]
    undo: tuple[tuple[str, ...], ...]
    step: str = ""
    taken_back: bool = False


@dataclass(frozen=True)
class Owned:
    files: dict[str, OwnedFile] = field(default_factory=dict)
    commands: tuple[OwnedCommand, ...] = ()

    def is_edited(self, path: str, now: FileState | None) -> bool:
        """True if we wrote this file and it has been changed since."""
        known = self.files.get(path)
        return bool(known and known.sha256 and now and now.kind == "file" and not known.is_ours(now.content))

    def is_written(self, path: str) -> bool:
        """True if what is there, edited since or not, began as a file of ours."""
        known = self.files.get(path)
        return bool(known and known.sha256 and not known.taken_back)

    def before_write(
        self,
        path: str,
        before: FileState | None,
        backup: str | None,
        *,
        step: str = "",
        writing: bytes | None = None,
        then: Iterable[Then] = (),
        edits: bool = False,
    ) -> Owned:
        """With the file's state noted, if it is not ours already; and what is about to be written.

        `edits` is a small change of a file of others: where they have edited it since ours, theirs of now is what an
        undo is to bring back.
        """
        known = self.files.get(path)
        theirs = known is not None and edits and known.backup is not None and self.is_edited(path, before)
        if known is None or theirs:
            told = known.then if known else ()
            known = OwnedFile(None, None, step=step, then=told, edits=edits)
            if before is not None:
                kept = replace(known, backup=backup, was=sha256(before.content))
                known = replace(kept, mode=before.mode, owner=before.owner, group=before.group)
        told_of = {one.argv for one in known.then}
        more = tuple(Then(one.argv, one.why, one.impact) for one in then if one.argv not in told_of)
        about = None if writing is None else sha256(writing)
        return self._with(path, replace(known, then=(*known.then, *more), writing=about, edits=edits and known.edits))

    def after_write(self, path: str, content: bytes | None, attributes: Attributes | None = None) -> Owned:
        """With what was written (None: removed), and the attributes that it was given (None: it kept its own)."""
        known = self.files.get(path, OwnedFile(None, None))
        written = None if content is None else sha256(content)
        same = attributes is None or content is None or attributes == (known.mode, known.owner, known.group)
        return self._with(path, replace(known, sha256=written, writing=None, taken_back=same and written == known.was))

    def before_command(self, argv: tuple[str, ...], undo: tuple[tuple[str, ...], ...], step: str = "") -> Owned:
        """With a command that is about to change something: killed in its middle, it may have."""
        standing = tuple(known for known in self.commands if not (known.taken_back and known.argv == argv))
        if not undo or any(known.argv == argv for known in standing):
            return self
        return replace(self, commands=(*standing, OwnedCommand(argv, undo, step)))

    def after_command(self, argv: tuple[str, ...]) -> Owned:
        """Without what this command has taken back; the firewall's rules stay in mind until they are proved."""
        commands = (replace(known, taken_back=True) if argv in known.undo else known for known in self.commands)
        return replace(self, commands=tuple(one for one in commands if not one.taken_back or one.argv[0] == "ufw"))

    def without_commands(self, argvs: Iterable[tuple[str, ...]]) -> Owned:
        """Without these, whatever has become of them: their run was taken back, and what stays of it is said."""
        gone = set(argvs)
        return replace(self, commands=tuple(known for known in self.commands if known.argv not in gone))

    def after_step(self, step: str) -> Owned:
        """Without what of a step is as it was before: by its end all have been told, and the firewall is proved."""
        left = {path: one for path, one in self.files.items() if not (one.taken_back and one.step == step)}
        commands = tuple(one for one in self.commands if not (one.taken_back and one.step == step))
        return replace(self, files=left, commands=commands)

    def _with(self, path: str, known: OwnedFile) -> Owned:
        return replace(self, files={**self.files, path: known})

    def dump(self) -> str:
        files = {path: _file_as_json(one) for path, one in sorted(self.files.items())}
        commands = [
            {"argv": one.argv, "undo": one.undo, "step": one.step, "taken_back": one.taken_back}
            for one in self.commands
        ]
        return json.dumps({"version": 1, "files": files, "commands": commands}, indent=1) + "\n"


def _file_as_json(one: OwnedFile) -> dict[str, Any]:
    return {
        "sha256": one.sha256,
        "backup": one.backup,
        "mode": f"{one.mode:04o}",
        "owner": one.owner,
        "group": one.group,
        "was": one.was,
        "step": one.step,
        "then": [{"argv": then.argv, "why": then.why, "impact": str(then.impact)} for then in one.then],
        "writing": one.writing,
        "edits": one.edits,
        "taken_back": one.taken_back,
    }


def _file_of(one: dict[str, Any]) -> OwnedFile:
    """The later keys may be missing: an earlier version wrote the file."""
    then = tuple(Then(tuple(told["argv"]), told["why"], Impact(told["impact"])) for told in one.get("then", ()))
    known = OwnedFile(one["sha256"], one["backup"], int(one["mode"], 8), one["owner"], one["group"])
    return replace(
        known,
        was=one.get("was"),
        step=one.get("step", ""),
        then=then,
        writing=one.get("writing"),
        edits=bool(one.get("edits", False)),
        taken_back=bool(one.get("taken_back", False)),
    )


def load_owned(state: FileState | None) -> Owned:
    """What the file says; nothing owned where it is missing or not readable as ours."""
    if state is None or state.kind != "file":
        return Owned()
    try:
        data = json.loads(state.text)
        files = {str(path): _file_of(one) for path, one in data["files"].items()}
        commands = tuple(
            OwnedCommand(
                tuple(one["argv"]),
                tuple(tuple(undo) for undo in one["undo"]),
                one.get("step", ""),
                bool(one.get("taken_back")),
            )
            for one in data["commands"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Owned()
    return Owned(files, commands)
