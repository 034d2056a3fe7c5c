"""The door for files: read without following the last link, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import secrets
import stat
import time
from collections.abc import Callable
from typing import BinaryIO

from .model import SetupError
from .server import FileState

MAX_READ = 16 * 1024 * 1024
PIECE = 256 * 1024
SUFFIX = ".new"
MAX_LINKS = 40
_STARTED = time.time()


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _all_of(opened: BinaryIO) -> bytes:
    """All of it up to MAX_READ, a piece at a time: for one of /proc/sys the kernel makes room for what is asked."""
    content = b""
    while len(content) < MAX_READ and (piece := opened.read(PIECE)):
        content += piece
    return content[:MAX_READ]


def read(path: str) -> FileState | None:
    """The file as it is, None where there is none. Never waits on a FIFO, never reads a device."""
    try:
        status = os.lstat(path)
        kind, content = "other", b""
        if stat.S_ISLNK(status.st_mode):
            kind, content = "link", os.readlink(path).encode(errors="surrogateescape")
        elif stat.S_ISDIR(status.st_mode):
            kind = "directory"
        elif stat.S_ISREG(status.st_mode):
            kind = "file"
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
                content = _all_of(opened)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise SetupError(f"{path} could not be read: {error.strerror}", f"look at it: ls -l {path}") from error
    mode = stat.S_IMODE(status.st_mode)
    return FileState(kind, content, mode, _name_of_user(status.st_uid), _name_of_group(status.st_gid))


def read_tail(path: str, most: int) -> bytes:
    """The last bytes of a log, unpacked where it is a .gz; b"" where there is none, or none that can be read."""
    import gzip
    import zlib

    tail = b""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                return b""
            if not path.endswith(".gz"):
                opened.seek(max(0, status.st_size - most))
                return opened.read(most)
            with gzip.open(opened) as unpacked:
                while piece := unpacked.read(1024 * 1024):
                    tail = (tail + piece)[-most:]
    except (OSError, EOFError, zlib.error):
        return b""
    return tail


def browse(directory: str) -> tuple[tuple[str, bool], ...]:
    """The names in a directory, directories first, each with whether it is one; () where it can't be read."""
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted(found, key=lambda one: (not one[1], one[0])))


def fsync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: str, mode: int = 0o755) -> None:
    """Makes the missing directories with this mode, whatever the umask. Raises SetupError."""
    if path and not os.path.isdir(path):
        make_directories(os.path.dirname(path), 0o755 if mode & 0o005 else mode)
        try:
            os.mkdir(path)
            os.chmod(path, mode)
        except FileExistsError:
            pass
        except OSError as error:
            raise SetupError(
                f"{path} could not be made: {error.strerror}",
                f"see whether the disk is full or read-only: df -h {os.path.dirname(path)}",
            ) from error


def write(
    path: str,
    content: bytes,
    *,
    mode: int = 0o644,
    owner: str = "root",
    group: str = "root",
    validate: Callable[[str], None] | None = None,
    attributes_of: str | None = None,
) -> None:
    """Beside, fsynced, validated, renamed, folder fsynced: a reader or a power loss sees the old or the new file.

    `attributes_of`: owner, mode and extended attributes (ACLs) are taken from this file. A link of another user on the
    way to the directory is not followed. Raises SetupError; whatever was there is then still there.
    """
    directory, name = os.path.split(path)
    temporary = ""
    with contextlib.ExitStack() as opened:
        try:
            make_directories(directory)
            place = open_directory(directory)
            opened.callback(os.close, place)
            _clear_leftovers(place, f".{name}.")
            fresh = f".{name}.{secrets.token_hex(8)}{SUFFIX}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            # By a whole path, not by dir_fd: what audits this process is told no directory.
            descriptor, temporary = os.open(f"/proc/self/fd/{place}/{fresh}", flags, 0o600), fresh
            with open(descriptor, "wb") as file:
                file.write(content)
                if attributes_of is not None:
                    _copy_attributes(attributes_of, file.fileno())
                else:
                    os.fchown(file.fileno(), pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
                    os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            if validate is not None:
                validate(os.path.join(directory, temporary))
            os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
            temporary = ""
            os.fsync(place)
        except OSError as error:
            raise SetupError(
                f"{path} could not be written: {error.strerror}. It is as it was.", _advice(error, directory)
            ) from error
        finally:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=place)


def _advice(error: OSError, directory: str) -> str:
    if error.errno == errno.ELOOP:
        return f"a link stands where none should be, or one that is not root's: namei -l {directory}"
    return f"see whether the disk is full or read-only: df -h {directory}"


def open_directory(path: str) -> int:
    """A descriptor of the directory, reached step by step: only links of root, or of whom we run as, are followed.

    Whoever may write to a directory on the way could else have us write into any other.
    """
    place = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    steps = [step for step in path.split("/") if step]
    links = 0
    try:
        while steps:
            step = steps.pop(0)
            status = os.stat(step, dir_fd=place, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if status.st_uid not in (0, os.geteuid()) or links > MAX_LINKS:
                    raise OSError(errno.ELOOP, f"{step} is a link of {_name_of_user(status.st_uid)}", path)
                target = os.readlink(step, dir_fd=place)
                steps[:0] = [part for part in target.split("/") if part]
                step = "/" if target.startswith("/") else "."
            further = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = further
    except OSError:
        os.close(place)
        raise
    return place


def _clear_leftovers(place: int, prefix: str) -> None:
    """Removes what a writer that was killed left beside the file: older than this process, and never renamed."""
    for name in os.listdir(place):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime < _STARTED:
                    os.unlink(name, dir_fd=place)


def _copy_attributes(source: str, descriptor: int) -> None:
    directory, name = os.path.split(source)
    place = open_directory(directory)
    try:
        known = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)
    try:
        status = os.fstat(known)
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        for attribute in os.listxattr(known):
            # Some belong to the file system itself.
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, attribute, os.getxattr(known, attribute))
    finally:
        os.close(known)


def remove(path: str) -> None:
    """Removes the file, if it is there, and makes that last."""
    try:
        os.unlink(path)
        fsync_directory(os.path.dirname(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"{path} could not be removed: {error.strerror}", f"look at it: ls -l {path}") from error
