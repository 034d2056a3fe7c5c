"""owned.json: what is ours, so that it can be undone.

Each thing's state before our first touch, and what we last wrote.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from .server import FileState


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class OwnedFile:
    """`backup` is where the content before our first touch is kept, None where there was no file."""

    sha256: str | None
    backup: str | None
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class Owned:
    files: dict[str, OwnedFile] = field(default_factory=dict)
    commands: tuple[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]], ...] = ()

    def is_edited(self, path: str, now: FileState | None) -> bool:
        """True if we wrote this file and it has been changed since."""
        known = self.files.get(path)
        return bool(known and known.sha256 and now and now.kind == "file" and sha256(now.content) != known.sha256)

    def is_written(self, path: str) -> bool:
        """True if what is there, edited since or not, began as a file of ours."""
        known = self.files.get(path)
        return bool(known and known.sha256)

    def before_write(self, path: str, before: FileState | None, backup: str | None) -> Owned:
        """With the file's state noted, if it is not ours already."""
        if path in self.files:
            return self
        if before is None:
            first = OwnedFile(None, None)
        else:
            first = OwnedFile(None, backup, before.mode, before.owner, before.group)
        return replace(self, files={**self.files, path: first})

    def after_write(self, path: str, content: bytes | None) -> Owned:
        known = self.files.get(path, OwnedFile(None, None))
        written = replace(known, sha256=None if content is None else sha256(content))
        if content is None and known.backup is None:
            return replace(self, files={name: one for name, one in self.files.items() if name != path})
        return replace(self, files={**self.files, path: written})

    def after_command(self, argv: tuple[str, ...], undo: tuple[tuple[str, ...], ...]) -> Owned:
        """With a command that changed something, and the commands that take it back; without what it took back."""
        left = tuple(known for known in self.commands if argv not in known[1])
        if left != self.commands:
            return replace(self, commands=left)
        if not undo or any(known == argv for known, _ in self.commands):
            return self
        return replace(self, commands=(*self.commands, (argv, undo)))

    def dump(self) -> str:
        files: dict[str, Any] = {
            path: {
                "sha256": one.sha256,
                "backup": one.backup,
                "mode": f"{one.mode:04o}",
                "owner": one.owner,
                "group": one.group,
            }
            for path, one in sorted(self.files.items())
        }
        commands = [{"argv": argv, "undo": undo} for argv, undo in self.commands]
        return json.dumps({"version": 1, "files": files, "commands": commands}, indent=1) + "\n"


def load_owned(state: FileState | None) -> Owned:
    """What the file says; nothing owned where it is missing or not readable as ours."""
    if state is None or state.kind != "file":
        return Owned()
    try:
        data = json.loads(state.text)
        files = {
            str(path): OwnedFile(one["sha256"], one["backup"], int(one["mode"], 8), one["owner"], one["group"])
            for path, one in data["files"].items()
        }
        commands = tuple((tuple(one["argv"]), tuple(tuple(undo) for undo in one["undo"])) for one in data["commands"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Owned()
    return Owned(files, commands)
