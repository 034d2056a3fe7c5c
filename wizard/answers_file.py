"""The file that holds the answers: whose it may be, and what is reported where it is wrong."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from dataclasses import dataclass

LARGEST = 1024 * 1024  # bytes; an answers file of every key, with its comments, has about 6000


@dataclass(frozen=True)
class AnswerProblem:
    """One error: its line (from 1; None: the whole file), its key, what is wrong, what would be right."""

    line: int | None
    key: str
    message: str
    expected: str | None = None

    def concerns(self, key: str) -> bool:
        """True if the answer of this key, or an item of it, is what is wrong."""
        return self.key == key or self.key.startswith(f"{key}[")

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}: "
        what = f"{self.key}: {self.message}" if self.key else self.message
        return f"{where}{what}" + (f" (right would be: {self.expected})" if self.expected else "")


class AnswersError(Exception):
    """The answers cannot be used. `errors` holds all that is wrong, in the order of the lines."""

    def __init__(self, errors: tuple[AnswerProblem, ...]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors


def read(path: str, *, sudo_uid: int | None, most: int = LARGEST) -> bytes:
    """The content of the answers file; `-` is standard input. At most one byte more than `most`.

    `sudo_uid` is the user who called sudo, None where there is none. The file must belong to root, to that
    user or to the one this runs as, and nobody else may be able to write to it. Raises AnswersError, key "".
    """
    if path == "-":
        return sys.stdin.buffer.read(most + 1)
    trusted = frozenset({0, os.geteuid()} | (set() if sudo_uid is None else {sudo_uid}))
    try:
        return _read_trusted(path, trusted, most)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        raise _refused(path, reason.lower()) from None


def _read_trusted(path: str, trusted: frozenset[int], most: int = LARGEST) -> bytes:
    link = os.lstat(path)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in trusted:
        raise _refused(path, "this link belongs to another user", "the path of the file itself")
    # O_PATH touches nothing, not even a FIFO or a device; what is judged here is what is read below.
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        reason, remedy = refusal(found, trusted) or ("", "")
        if reason:
            raise _refused(path, reason, remedy)
        inode = f"/proc/self/fd/{handle}"
        if found.st_mode & stat.S_IWGRP and has_access_list(inode):
            raise _refused(path, "an access list lets others write to this file", f"setfacl -b {path}")
        with open(os.open(inode, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
            return file.read(most + 1)
    finally:
        os.close(handle)


def refusal(found: os.stat_result, trusted: frozenset[int]) -> tuple[str, str] | None:
    """Why a file with these attributes is not believed, and what would be right; None where it is."""
    if stat.S_ISDIR(found.st_mode):
        return "this is a directory", "a file"
    if not stat.S_ISREG(found.st_mode):
        return "this is a pipe, a socket or a device", "a file, or - for standard input"
    if found.st_uid not in trusted:
        return (
            f"this file belongs to {user_name(found.st_uid)}",
            "a file of root or of the user who called sudo",
        )
    if found.st_mode & stat.S_IWOTH:
        return "every user can write to this file", "chmod go-w"
    if found.st_mode & stat.S_IWGRP and not is_private_group(found.st_gid, found.st_uid):
        return "a group of several users can write to this file", "chmod g-w"
    return None


def has_access_list(path: str) -> bool:
    """Whether a POSIX access list adds to the file's mode; the group's bits are then its mask."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:  # a file system without them
        return False


def is_private_group(gid: int, uid: int) -> bool:
    """Whether the group is that user's own: of the same name, and nobody else is in it."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    others = {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == gid} | set(group.gr_mem)
    return group.gr_name == user.pw_name and others <= {user.pw_name}


def user_name(uid: int) -> str:
    """The user's name, or the number where there is no such user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the unknown user {uid}"


def _refused(path: str, message: str, expected: str | None = None) -> AnswersError:
    return AnswersError((AnswerProblem(None, "", f"{path}: {message}", expected),))
