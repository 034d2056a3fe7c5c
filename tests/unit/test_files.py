"""A file is written whole or not at all: whatever interrupts it, a reader sees the old or the new one."""

from __future__ import annotations

import errno
import getpass
import grp
import os
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wizard import files
from wizard.model import SetupError

ME: dict[str, Any] = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}
OLD, NEW = b"old\n", b"new\n" * 1000


@pytest.fixture
def path(tmp_path: Path) -> str:
    place = tmp_path / "etc" / "file"
    place.parent.mkdir()
    place.write_bytes(OLD)
    return str(place)


def left_over(path: str) -> list[str]:
    return sorted(name for name in os.listdir(os.path.dirname(path)) if name != os.path.basename(path))


def test_content_and_attributes_are_read_back(path: str) -> None:
    files.write(path, NEW, mode=0o640, **ME)
    state = files.read(path)
    assert state is not None
    assert (state.kind, state.content, state.mode, state.owner) == ("file", NEW, 0o640, ME["owner"])
    assert left_over(path) == []


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_mode_is_the_one_that_was_named_whatever_the_umask(path: str, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write(path, NEW, mode=0o644, **ME)
        files.write(f"{os.path.dirname(path)}/deep/er/file", NEW, mode=0o644, **ME)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert stat.S_IMODE(os.stat(f"{os.path.dirname(path)}/deep/er").st_mode) == 0o755


@pytest.mark.parametrize("call", ["fsync", "fchmod", "rename"])
def test_write_that_fails_anywhere_leaves_the_old_file(path: str, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(SetupError, match=r"could not be written: No space left on device\. It is as it was"):
        files.write(path, NEW, **ME)
    assert Path(path).read_bytes() == OLD
    assert left_over(path) == []


@pytest.mark.allow_commands("python")
@pytest.mark.parametrize("call", ["fsync", "fchmod", "rename"])
def test_kill_in_the_middle_leaves_the_old_file(path: str, call: str) -> None:
    """SIGKILL: no handler, no `finally`. What may stay is a file beside it, that nobody reads."""
    script = (
        "import os, signal, sys\n"
        "from wizard import files\n"
        f"os.{call} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write(sys.argv[1], b'new' * 1000, owner=sys.argv[2], group=sys.argv[3])\n"
    )
    argv = [sys.executable, "-c", script, path, *ME.values()]
    ended = subprocess.run(argv, check=False, cwd=Path(files.__file__).parents[1])
    assert ended.returncode == -signal.SIGKILL
    assert Path(path).read_bytes() == OLD
    assert all(name.startswith(".file.") and name.endswith(".new") for name in left_over(path))
    files.write(path, NEW, **ME)
    assert Path(path).read_bytes() == NEW


def test_refused_content_never_takes_the_files_place(path: str) -> None:
    seen: list[bytes] = []

    def refuse(copy: str) -> None:
        seen.append(Path(copy).read_bytes())
        raise SetupError("refused")

    with pytest.raises(SetupError, match="refused"):
        files.write(path, NEW, validate=refuse, **ME)
    assert seen == [NEW]
    assert Path(path).read_bytes() == OLD
    assert left_over(path) == []


def test_what_is_written_is_on_disk_before_it_takes_its_place(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_rename(source: str, target: str, **places: int) -> None:
        calls.append("rename")
        rename(source, target, **places)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    files.write(path, NEW, **ME)
    assert calls == ["file", "rename", "directory"]


def test_attributes_of_the_file_that_is_replaced_can_be_kept(path: str) -> None:
    os.chmod(path, 0o751)
    files.write(path, NEW, mode=0o600, attributes_of=path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o751


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as the kernel keeps it: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


OWNER, USER, GROUP, MASK, OTHER, NOBODY = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF


def test_acl_is_kept(path: str) -> None:
    known = acl((OWNER, 7, NOBODY), (USER, 4, 65534), (GROUP, 5, NOBODY), (MASK, 5, NOBODY), (OTHER, 0, NOBODY))
    os.setxattr(path, "system.posix_acl_access", known)
    files.write(path, NEW, attributes_of=path)
    assert Path(path).read_bytes() == NEW
    assert os.getxattr(path, "system.posix_acl_access") == known
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o555, 0o4750])
def test_mode_is_kept_to_the_last_bit(path: str, mode: int) -> None:
    os.chmod(path, mode)
    files.write(path, NEW, attributes_of=path)
    assert stat.S_IMODE(os.stat(path).st_mode) == mode


def someone_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the links that the test made are another user's."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    look = os.fstat

    def owned(descriptor: int) -> os.stat_result:
        status = look(descriptor)
        fields = list(status)
        fields[4] = 1000 if stat.S_ISLNK(status.st_mode) else 0
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", owned)


def test_directory_that_became_a_link_of_another_user_is_not_followed(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns /opt/vllm may put a link to /etc in the place of /opt/vllm/bin."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    planted = str(tmp_path / "link" / "file")
    someone_else(monkeypatch)
    with pytest.raises(SetupError, match="could not be written") as refused:
        files.write(planted, NEW, **ME)
    assert "namei -l" in refused.value.remedy
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("target", ["etc", "../{name}/etc", "{whole}/etc"])
def test_links_of_root_or_our_own_are_followed(path: str, tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target.format(name=tmp_path.name, whole=tmp_path))
    files.write(str(tmp_path / "link" / "file"), NEW, **ME)
    assert Path(path).read_bytes() == NEW


def test_links_in_a_circle_end_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="link"):
        files.open_directory(str(tmp_path / "a"))


def test_file_that_became_a_link_is_not_written_with_its_attributes(path: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(OLD)
    os.remove(path)
    os.symlink(target, path)
    with pytest.raises(SetupError, match="could not be written"):
        files.write(path, NEW, attributes_of=path)
    assert target.read_bytes() == OLD and os.path.islink(path)
    assert left_over(path) == []


def test_link_is_read_as_a_link_and_replaced_not_followed(path: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(OLD)
    os.remove(path)
    os.symlink(target, path)
    state = files.read(path)
    assert state is not None and (state.kind, state.text) == ("link", str(target))
    files.write(path, NEW, **ME)
    assert target.read_bytes() == OLD
    assert Path(path).read_bytes() == NEW and not os.path.islink(path)


def test_missing_file_is_none_and_other_kinds_are_named(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert files.read(f"{path}-not") is None
    assert files.read(f"{path}/below/a/file") is None
    kinds = {name: files.read(str(tmp_path / name)) for name in ("fifo", "etc")}
    assert {name: state.kind for name, state in kinds.items() if state} == {"fifo": "other", "etc": "directory"}


def test_removed_file_is_gone_and_a_missing_one_is_no_error(path: str) -> None:
    files.remove(path)
    files.remove(path)
    assert files.read(path) is None
    with pytest.raises(SetupError, match="could not be removed"):
        files.remove(os.path.dirname(path))


def test_directory_that_can_not_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="could not be made: Not a directory"):
        files.make_directories(str(tmp_path / "file" / "inner"))


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_disk_that_takes_no_directory_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(SetupError, match=os.strerror(code)) as refused:
        files.make_directories(str(tmp_path / "state" / "runs"))
    assert refused.value.remedy.endswith(f"df -h {tmp_path}")
