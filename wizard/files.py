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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from .model import SetupError
from .server import FileState

MAX_READ = 16 * 1024 * 1024
PIECE = 256 * 1024
SUFFIX = ".new"
MAX_LINKS = 40
_STARTED = time.time()


def name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _all_of(opened: BinaryIO, path: str) -> bytes:
    """All of it, a piece at a time: for one of /proc/sys the kernel makes room for what is asked."""
    content = b""
    while piece := opened.read(PIECE):
        content += piece
        if len(content) > MAX_READ:
            # Half of a file that is edited and written back would lose the rest.
            raise SetupError(
                f"{path} has more than {MAX_READ // 1024 // 1024} MiB: not read", f"look at it: ls -l {path}"
            )
    return content


def read(path: str) -> FileState | None:
    """The file as it is, None where there is none. Never waits on a FIFO, never reads a device.

    Where a link of another user leads on the way, the file is read only if that user could, too.
    """
    directory, name = os.path.split(path)
    try:
        place, guides = _walk(directory, following=True)
        # O_PATH touches nothing, not even a FIFO or a device; what is judged is what is read.
        touching_nothing = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        with _closing(place), _closing(os.open(name or ".", touching_nothing, dir_fd=place)) as known:
            status = os.fstat(known)
            kind, content = "other", b""
            if stat.S_ISDIR(status.st_mode):
                kind = "directory"
            elif guides.hides(status, stat.S_IROTH):
                raise SetupError(
                    f"{path} is reached by a link of {guides.names}, and is not theirs to read: not followed",
                    f"look at it: namei -l {path}",
                )
            elif stat.S_ISLNK(status.st_mode):
                kind, content = "link", os.fsencode(os.readlink("", dir_fd=known))
            elif stat.S_ISREG(status.st_mode):
                kind = "file"
                # A lease that its owner has taken on it must not keep us waiting.
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                with open(os.open(f"/proc/self/fd/{known}", flags), "rb") as opened:
                    content = _all_of(opened, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise SetupError(f"{path} could not be read: {error.strerror}", f"look at it: ls -l {path}") from error
    mode = stat.S_IMODE(status.st_mode)
    return FileState(kind, content, mode, name_of_user(status.st_uid), _name_of_group(status.st_gid))


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


def is_full(path: str) -> bool:
    """True if the file system of this directory takes no more."""
    try:
        space = os.statvfs(path)
    except OSError:
        return False
    return space.f_bavail == 0 or (space.f_files > 0 and space.f_favail == 0)


def refuse_foreign(directory: str) -> None:
    """Raises SetupError where a directory of ours is there and is another's: a link, or one that others write to."""
    try:
        status = os.lstat(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise SetupError(f"{directory} can't be looked at: {error.strerror}", f"ls -ld {directory}") from error
    if stat.S_ISLNK(status.st_mode):
        what = f"a link of {name_of_user(status.st_uid)}"
    elif not stat.S_ISDIR(status.st_mode):
        what = "no directory"
    elif status.st_uid != os.geteuid():
        what = f"{name_of_user(status.st_uid)}'s and not root's"
    elif status.st_mode & 0o022:
        what = f"writable by others (mode {stat.S_IMODE(status.st_mode):04o})"
    else:
        return
    raise SetupError(
        f"{directory} is {what}: what is in it can't be trusted, so nothing was read or changed",
        f"see who made it: ls -ld {directory}; then move it away: sudo mv {directory} {directory}.old",
    )


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
    reached, _ = _walk(path, following=False)
    with _closing(reached):
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=reached)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass
class _Guides:
    """The other users whose links led the way; `closed` where it went through a directory that they cannot enter."""

    users: set[int] = field(default_factory=set)
    closed: bool = False

    @property
    def names(self) -> str:
        return ", ".join(sorted(name_of_user(one) for one in self.users))

    def hides(self, status: os.stat_result, others: int) -> bool:
        """True if one of them could not do this, by the bit for others, himself."""
        return bool(self.users) and (self.closed or not (self.users == {status.st_uid} or status.st_mode & others))


def _walk(path: str, *, following: bool) -> tuple[int, _Guides]:
    """A descriptor (O_PATH) of the directory. Unless `following`, a link of another user is an error."""
    place = os.open("/" if path.startswith("/") else ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    steps = [step for step in path.split("/") if step]
    links, guides = 0, _Guides()
    try:
        while steps:
            step = steps.pop(0)
            further = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            status = os.fstat(further)
            if stat.S_ISLNK(status.st_mode):
                with _closing(further):
                    target = os.readlink("", dir_fd=further)
                links += 1
                if status.st_uid not in (0, os.geteuid()):
                    guides.users.add(status.st_uid)
                if links > MAX_LINKS or (guides.users and not following):
                    raise OSError(errno.ELOOP, f"{step} is a link of {name_of_user(status.st_uid)}", path)
                steps[:0] = [part for part in target.split("/") if part]
                further = os.open("/" if target.startswith("/") else ".", os.O_PATH | os.O_CLOEXEC, dir_fd=place)
            elif not stat.S_ISDIR(status.st_mode):
                os.close(further)
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            else:
                guides.closed |= guides.hides(status, stat.S_IXOTH)
            os.close(place)
            place = further
    except OSError:
        os.close(place)
        raise
    return place, guides


def _clear_leftovers(place: int, prefix: str) -> None:
    """Removes what a writer that was killed left beside the file: older than this process, and never renamed."""
    for name in os.listdir(place):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime < _STARTED:
                    os.unlink(name, dir_fd=place)


def _copy_attributes(source: str, descriptor: int) -> None:
    directory, name = os.path.split(source)
    with _closing(open_directory(directory)) as place:
        known = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    with _closing(known):
        status = os.fstat(known)
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        for attribute in os.listxattr(known):
            # Some belong to the file system itself.
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, attribute, os.getxattr(known, attribute))


def remove(path: str) -> None:
    """Removes the file, if it is there, and makes that last."""
    directory, name = os.path.split(path)
    try:
        with _closing(open_directory(directory)) as place:
            os.unlink(name, dir_fd=place)
            os.fsync(place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"{path} could not be removed: {error.strerror}", f"look at it: ls -l {path}") from error
