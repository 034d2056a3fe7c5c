"""What another user plants where we read and write: nobody gets at a file through us, nothing hangs or is halved."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.unit.altered import SCRIPT, exposed, with_files
from tests.unit.test_files import ME, someone_else
from wizard import files, journal, own_places, paths, runs
from wizard.mask import Mask
from wizard.model import SetupError
from wizard.parse.launch import LARGEST, bind_to
from wizard.parse.vllm_config import parse_vllm_config
from wizard.server import FileState, read_through
from wizard.vllm import find_vllm
from wizard.vllm_environment import LARGEST as LARGEST_ENVIRONMENT

CANARY = "root:$6$canary-of-a-file-that-is-not-theirs"


@pytest.fixture
def shadow(tmp_path: Path) -> Path:
    """A file of root's that nobody else may read, in a directory that all may enter."""
    place = tmp_path / "secrets" / "shadow"
    place.parent.mkdir(mode=0o755)
    place.write_text(CANARY)
    place.chmod(0o600)
    return place


# ── reading ──


def test_file_that_a_link_of_another_leads_to_is_read_only_where_they_could_read_it(
    tmp_path: Path, shadow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "current").symlink_to("secrets")
    path = str(tmp_path / "current" / "shadow")
    tmp_path.chmod(0o755)
    own = files.read(path)
    assert own is not None and own.text == CANARY, "a link of our own is followed"
    someone_else(monkeypatch)
    with pytest.raises(
        SetupError, match=r"reached by a link of .*, and is not theirs to read: not followed"
    ) as refused:
        files.read(path)
    assert "namei -l" in refused.value.remedy and CANARY not in refused.value.message
    shadow.chmod(0o644)
    theirs = files.read(path)
    assert theirs is not None and theirs.text == CANARY
    shadow.parent.chmod(0o700)
    with pytest.raises(SetupError, match="not followed"):
        files.read(path)


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "link to a device", "link in a circle", "nothing"])
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "planted"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    elif kind == "directory":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to("/dev/zero" if "device" in kind else path)
    state = files.read(str(path))
    named = {"fifo": "other", "socket": "other", "directory": "directory", "nothing": None}.get(kind, "link")
    assert (state.kind if state else None) == named
    assert files.read_tail(str(path), 100) == b""
    assert files.browse(str(path)) == ()


def test_device_is_not_opened() -> None:
    state = files.read("/dev/null")
    assert state is not None and (state.kind, state.content) == ("other", b"")


def test_file_of_gigabytes_is_refused_and_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as opened:
        opened.truncate(8 * 1024**3)
    with pytest.raises(SetupError, match="has more than 16 MiB: not read"):
        files.read(str(path))
    assert len(files.read_tail(str(path), 1000)) == 1000


def test_file_that_is_too_large_is_never_read_by_halves(tmp_path: Path) -> None:
    """An edit of its first half, written back, would lose the second."""
    path = tmp_path / "large"
    path.write_bytes(b"#" * files.MAX_READ)
    state = files.read(str(path))
    assert state is not None and len(state.content) == files.MAX_READ
    with open(path, "ab") as opened:
        opened.write(b"the end")
    with pytest.raises(SetupError):
        files.read(str(path))


def test_lease_on_a_file_does_not_keep_us_waiting(tmp_path: Path) -> None:
    """Whoever owns a file can have every opener of it wait for 45 s (fcntl(2), leases)."""
    path = tmp_path / "leased"
    path.write_text("x")
    before = time.monotonic()
    with open(path, "rb") as opened:
        try:
            fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            return  # this file system has no leases, so nobody can take one
        state = files.read(str(path))
    assert state is not None and state.content == b"x" and time.monotonic() - before < 30


SWAPS: dict[str, Callable[[Path, Path, Path], None]] = {
    "a link to what is root's": lambda path, other, shadow: other.symlink_to(shadow),
    "a FIFO": lambda path, other, shadow: os.mkfifo(other),
    "another file": lambda path, other, shadow: other.touch(),
    "a directory": lambda path, other, shadow: other.mkdir(),
}


class Race:
    """A thread that goes on putting something else in the place of a file, and the file back."""

    def __init__(self, path: Path, shadow: Path, plant: Callable[[Path, Path, Path], None]) -> None:
        self.swaps = 0
        self._path, self._shadow, self._plant = path, shadow, plant
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._swap)

    def _swap(self) -> None:
        for number in itertools.count():
            other, aside = self._path.with_name(f"o{number}"), self._path.with_name(f"a{number}")
            self._plant(self._path, other, self._shadow)
            try:
                self._put_back(number)
                os.rename(self._path, aside)
                os.rename(other, self._path)
                os.rename(self._path, other)
                os.rename(aside, self._path)
            except OSError:
                pass  # a write of ours came between
            self.swaps += 1
            if self._ended.is_set():
                return

    def _put_back(self, number: int) -> None:
        """Where a write of ours came between, what was planted has stayed, and the file would be seen no more."""
        if self._path.is_symlink() or not self._path.is_file():
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._path, self._path.with_name(f"p{number}"))
            self._path.write_text("exec vllm serve m\n")

    def __enter__(self) -> Race:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.mark.parametrize("what", SWAPS)
def test_replacement_in_a_race_is_never_read_or_written_through(tmp_path: Path, shadow: Path, what: str) -> None:
    path = tmp_path / "opt" / "start.sh"
    path.parent.mkdir()
    path.write_text("exec vllm serve m\n")
    status = os.lstat(shadow)
    seen = set()
    with Race(path, shadow, SWAPS[what]) as race:
        for _ in range(80):
            state = files.read(str(path))
            if state is not None:
                seen.add(state.kind)
                assert CANARY.encode() not in state.content
            try:
                files.write(str(path), b"exec vllm serve m\n", attributes_of=str(path))
            except SetupError as refused:
                seen.add("refused")
                assert "It is as it was" in refused.message or "could not be" in refused.message
    after = os.lstat(shadow)
    assert (shadow.read_text(), after.st_mode, after.st_uid, after.st_ino, after.st_mtime_ns) == (
        *(CANARY, status.st_mode, status.st_uid, status.st_ino, status.st_mtime_ns),
    )
    assert race.swaps > 5 and "file" in seen


def test_removal_does_not_go_through_a_link_of_another(
    tmp_path: Path, shadow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted").symlink_to(shadow.parent)
    someone_else(monkeypatch)
    with pytest.raises(SetupError, match="could not be removed"):
        files.remove(str(tmp_path / "planted" / "shadow"))
    assert shadow.exists()


# ── what a file of theirs names ──

VLLMS = FileState("file", b"", 0o755, "vllm", "vllm")
ROOTS = FileState("file", CANARY.encode(), 0o600)


@pytest.mark.parametrize(
    ("state", "may"),
    [
        (ROOTS, False),
        (FileState("file", b"x", 0o640, "root", "shadow"), False),
        (FileState("file", b"x", 0o640, "root", "vllm"), True),
        (FileState("file", b"x", 0o600, "vllm", "vllm"), True),
        (FileState("file", b"x", 0o644), True),
    ],
)
def test_file_that_a_script_of_vllms_names_is_read_only_where_vllm_may(state: FileState, may: bool) -> None:
    server = with_files(exposed(), {"/etc/vllm/named": state}).look().server
    assert (read_through(server, "/etc/vllm/named", VLLMS) is not None) == may
    assert read_through(server, "/etc/vllm/named") is not None
    link = with_files(
        exposed(),
        {"/etc/vllm/named": state, "/opt/vllm/l": FileState("link", b"/etc/vllm/named", 0o777, "vllm", "vllm")},
    )
    assert (read_through(link.look().server, "/opt/vllm/l") is not None) == may


def test_file_in_a_directory_that_vllm_cannot_enter_is_not_read_for_it() -> None:
    directory = {"/root": FileState("directory", mode=0o700), "/root/token": FileState("file", b"x", 0o644)}
    assert read_through(with_files(exposed(), directory).look().server, "/root/token", VLLMS) is None


@pytest.mark.parametrize("line", ['export VLLM_API_KEY="$(cat /etc/shadow)"', "set -a\nsource /etc/shadow\nset +a"])
def test_script_cannot_have_a_file_of_roots_sent_to_vllm_as_its_key(line: str) -> None:
    content = f"VLLM_API_KEY={CANARY}\n" if "source" in line else CANARY
    server = with_files(
        exposed(),
        {
            SCRIPT: f"#!/bin/bash\n{line}\nexec vllm serve m --host 127.0.0.1 --port 8000\n",
            "/etc/shadow": FileState("file", content.encode(), 0o640, "root", "shadow"),
            "/etc/vllm/vllm.env": "",
        },
    )
    vllm = find_vllm(server.look())
    assert vllm.key is None
    assert vllm.request("/v1/models", with_key=True).bearer is None


def test_huge_environment_blocks_with_a_sentence() -> None:
    many = "A=1\n" * (LARGEST_ENVIRONMENT // 4 + 1)
    server = with_files(exposed(), {"/etc/vllm/vllm.env": many})
    with pytest.raises(SetupError, match=r"vllm\.env has more than 64 KiB, which no environment has"):
        find_vllm(server.look())


def test_huge_script_is_refused_with_a_sentence_and_not_parsed() -> None:
    edit = bind_to(b"#!/bin/bash\n" + b"echo a\n" * (LARGEST // 7) + b"exec vllm serve m\n")
    assert edit.content is None and edit.refusal == "it has more than 64 KiB, which no launch script has"


def test_config_that_grows_without_end_when_it_is_built_is_only_composed() -> None:
    """Nine levels of merges, each of nine: a billion entries from 700 bytes."""
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)]
    config = parse_vllm_config("f", "\n".join([*levels, "host: 0.0.0.0", "port: 8000"]).encode())
    assert config is not None and (config.host, config.port) == ("0.0.0.0", 8000)
    assert parse_vllm_config("f", b"base: &b {host: '::'}\n<<: *b\n") is None, "which host counts is not read here"


# ── the program's own directories and lock ──


def make_places(root: Path) -> None:
    for path in (paths.ETC, paths.STATE, paths.RUNS, paths.LOG, paths.RUNTIME):
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path).chmod(0o755)


def become_a_link(path: Path) -> None:
    path.rename(f"{path}-")
    path.symlink_to(f"{path}-")


def become_a_file(path: Path) -> None:
    path.rmdir()
    path.touch()


FOREIGN: Mapping[str, Callable[[Path], None]] = {
    "a link": become_a_link,
    "a file": become_a_file,
    "writable by all": lambda path: path.chmod(0o777),
    "writable by a group": lambda path: path.chmod(0o775),
}


@pytest.mark.parametrize("place", ["ETC", "RUNS", "LOG", "RUNTIME"])
@pytest.mark.parametrize("what", FOREIGN)
def test_own_directory_that_is_not_ours_alone_is_refused(own_paths: Path, place: str, what: str) -> None:
    make_places(own_paths)
    own_places.refuse_foreign_places()
    path = Path(getattr(paths, place))
    FOREIGN[what](path)
    with pytest.raises(SetupError, match="nothing was read or changed") as refused:
        own_places.refuse_foreign_places()
    assert refused.value.message.startswith(f"{path} is ") and "ls -ld" in refused.value.remedy


def test_own_directory_of_another_user_is_refused(own_paths: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_places(own_paths)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(SetupError, match="and not root's: what is in it can't be trusted"):
        own_places.refuse_foreign_places()


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_lock_that_is_no_file_is_a_sentence_and_no_hang(own_paths: Path, kind: str) -> None:
    make_places(own_paths)
    lock = Path(paths.LOCK)
    if kind == "link":
        lock.symlink_to(own_paths / "elsewhere")
    elif kind == "directory":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    assert runs.find_holder() is None
    if kind != "fifo":
        with pytest.raises(SetupError, match="can't be locked"):
            runs.Lock("run", "apply")
    assert not (own_paths / "elsewhere").exists()


HOLD = (
    "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); print(flush=True); time.sleep(60)"
)


@pytest.mark.allow_commands("python")
@pytest.mark.parametrize("how", ["LOCK_SH", "LOCK_EX"])
def test_lock_held_by_another_user_is_named_as_theirs(
    own_paths: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whoever can read the lock can hold it: that is no run, and it is said who does it."""
    make_places(own_paths)
    with runs.Lock("20261124T101500Z-0001", "apply"):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("LOCK_SH", how), paths.LOCK], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        monkeypatch.setattr(runs, "_user_of", lambda pid: 990 if pid == holder.pid else 0)
        found = runs.find_holder()
        assert found is not None
        busy = runs.Busy(found)
        assert f"process {holder.pid}) holds its lock" in busy.message
        assert busy.remedy.endswith(f"sudo kill {holder.pid}")
        with pytest.raises(runs.Busy, match="no run is under way"):
            runs.Lock("20261124T101500Z-0002", "apply")
        holder.kill()
    assert runs.find_holder() is None


def test_second_run_is_told_how_to_attach() -> None:
    busy = runs.Busy(runs.Holder("20261124T101500Z-0001", "apply", 7, "2026-11-24 10:15:00 UTC"))
    assert busy.message.endswith("apply 20261124T101500Z-0001, since 2026-11-24 10:15:00 UTC (process 7)")
    assert busy.remedy.startswith("attach to it: sudo vllm-https-setup;")


# ── a disk that takes no more ──


@pytest.fixture
def book(own_paths: Path) -> Iterator[journal.Journal]:
    journal.prepare("one", {"command": "apply", "began": 1.0}, b"", {})
    opened = journal.Journal("one", Mask())
    yield opened
    opened.close()


class Full:
    """A file on a full disk: of what is written, half a line gets there."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    flush = close = lambda *_: None


def test_full_disk_stops_an_action_before_it_is_begun_and_loses_what_is_only_told(
    book: journal.Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(book, "_events", Full())
        full.setattr(book, "_log", Full())
        book.output("what apt says must go on, or apt would wait for us\n")
        book.progress("and so must what is told")
        with pytest.raises(SetupError, match="journal can't be written: No space left on device"):
            book.event("action_began", durable=True)


def test_report_that_a_full_disk_did_not_take_says_so(own_paths: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "is_full", lambda path: True)
    with pytest.raises(SetupError, match="the disk is full: run one could not write what it did") as told:
        journal.read_report("one")
    assert "df -h" in told.value.remedy


def test_lock_that_somebody_only_looks_at_is_waited_for(own_paths: Path) -> None:
    """A look takes it for a moment: no run may die of that."""
    make_places(own_paths)
    Path(paths.LOCK).touch()
    with open(paths.LOCK, "rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with runs.Lock("20261124T101500Z-0001", "apply"):
            holder = runs.find_holder()
    assert holder is not None and holder.run == "20261124T101500Z-0001"


def test_write_into_a_directory_whose_links_are_ours_still_goes_there(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    files.write(str(tmp_path / "link" / "file"), b"x", **ME)
    assert stat.S_ISREG(os.lstat(tmp_path / "real" / "file").st_mode)
