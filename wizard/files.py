"""The door for files: read without following the last link, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import tempfile
import time
from collections.abc import Callable

from .model import SetupError
from .server import FileState

MAX_READ = 16 * 1024 * 1024
SUFFIX = ".new"
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
                content = opened.read(MAX_READ)
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

    `attributes_of`: owner, mode and extended attributes (ACLs) are taken from this file.
    Raises SetupError; whatever was there is then still there.
    """
    directory, prefix = os.path.dirname(path), f".{os.path.basename(path)}."
    temporary = ""
    try:
        make_directories(directory)
        _clear_leftovers(directory, prefix)
        descriptor, temporary = tempfile.mkstemp(prefix=prefix, suffix=SUFFIX, dir=directory)
        with open(descriptor, "wb") as opened:
            opened.write(content)
            if attributes_of is not None:
                _copy_attributes(attributes_of, opened.fileno())
            else:
                os.fchown(opened.fileno(), pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
                os.fchmod(opened.fileno(), mode)
            opened.flush()
            os.fsync(opened.fileno())
        if validate is not None:
            validate(temporary)
        os.rename(temporary, path)
        temporary = ""
        fsync_directory(directory)
    except OSError as error:
        raise SetupError(
            f"{path} could not be written: {error.strerror}. It is as it was.",
            f"see whether the disk is full or read-only: df -h {directory}",
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _clear_leftovers(directory: str, prefix: str) -> None:
    """Removes what a writer that was killed left beside the file: older than this process, and never renamed."""
    for name in os.listdir(directory):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            left = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                if os.lstat(left).st_mtime < _STARTED:
                    os.unlink(left)


def _copy_attributes(source: str, descriptor: int) -> None:
    status = os.lstat(source)
    os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    with contextlib.suppress(OSError):
        for name in os.listxattr(source, follow_symlinks=False):
            os.setxattr(descriptor, name, os.getxattr(source, name, follow_symlinks=False))


def remove(path: str) -> None:
    """Removes the file, if it is there, and makes that last."""
    try:
        os.unlink(path)
        fsync_directory(os.path.dirname(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"{path} could not be removed: {error.strerror}", f"look at it: ls -l {path}") from error
