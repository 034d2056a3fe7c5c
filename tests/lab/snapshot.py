"""The state of a host as data, so that "nothing was changed" can be shown."""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.machine import Result

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo"}
KINDS |= {stat.S_IFSOCK: "socket", stat.S_IFBLK: "block", stat.S_IFCHR: "character"}
UNIT_PLACES = ("/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient", "/run/systemd/generator")


@dataclass(frozen=True)
class Entry:
    """One path of the overlay's upper directory."""

    kind: str  # file, directory, link, fifo, socket, block, character, or whiteout: a path that was deleted
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    content: str  # SHA-256 of a file's content; a link's target
    overlay: tuple[tuple[str, bytes], ...]  # trusted.overlay.*: opaque, redirect, metacopy


@dataclass(frozen=True)
class Snapshot:
    """All that two looks at a host can differ in, but for its processes."""

    files: dict[str, Entry]
    ruleset: str  # nft list ruleset, counters removed
    units: str  # systemctl list-unit-files
    links: str  # unit files and links, below /etc and /run

    def differences(self, later: "Snapshot") -> list[str]:
        """One line for each difference; none when both are equal."""
        lines = []
        for path in sorted(self.files.keys() | later.files.keys()):
            one, two = self.files.get(path), later.files.get(path)
            if one is None or two is None:
                lines.append(f"{path}: {'appeared' if one is None else 'is gone'}")
            elif one != two:
                fields = [name for name in Entry.__dataclass_fields__ if getattr(one, name) != getattr(two, name)]
                lines.append(f"{path}: {', '.join(fields)} changed")
        for what in ("ruleset", "units", "links"):
            before, after = getattr(self, what).splitlines(), getattr(later, what).splitlines()
            lines += [f"{what}: - {line}" for line in before if line not in after]
            lines += [f"{what}: + {line}" for line in after if line not in before]
            if before != after and sorted(before) == sorted(after):
                lines.append(f"{what}: order changed")
        return lines


def take(upper: Path, run: Callable[..., Result]) -> Snapshot:
    """The state of a running host; `run` runs a command in it."""
    ruleset = run(["nft", "-s", "list", "ruleset"]).stdout
    units = run(["systemctl", "list-unit-files", "--no-legend", "--no-pager", "--full"]).stdout
    find = ["find", *UNIT_PLACES, "-printf", r"%p %y %m %U:%G %l\n"]
    links = "\n".join(sorted(run(find, check=False).stdout.splitlines()))
    return Snapshot(dict(sorted(_walk(upper, upper))), ruleset, units, links)


def _walk(top: Path, directory: Path) -> list[tuple[str, Entry]]:
    """Every path below `directory`, which a running host may change meanwhile."""
    found: list[tuple[str, Entry]] = [("/", _entry(top))] if directory == top else []
    for path in list(directory.iterdir()):
        try:
            found.append((f"/{path.relative_to(top)}", _entry(path)))
            if path.is_dir() and not path.is_symlink():
                found += _walk(top, path)
        except FileNotFoundError:
            continue
    return found


def _entry(path: Path) -> Entry:
    info = path.lstat()
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    content = ""
    if kind == "file":
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif kind == "link":
        content = str(path.readlink())
    elif kind == "character" and info.st_rdev == 0:
        kind = "whiteout"
    overlay = tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in sorted(os.listxattr(path, follow_symlinks=False))
        if name.startswith("trusted.overlay.") and name != "trusted.overlay.origin"
    )
    size = 0 if kind == "directory" else info.st_size
    mode = stat.S_IMODE(info.st_mode)
    return Entry(kind, mode, info.st_uid, info.st_gid, size, info.st_mtime_ns, content, overlay)
