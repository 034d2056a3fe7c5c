"""Whose file the answers may come from, and that nothing else is ever opened or believed."""

from __future__ import annotations

import grp
import io
import os
import pwd
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from wizard import answers_file
from wizard.answers import AnswersError, read

TEXT = b"version: 1\ntls: {mode: internal}\n"
OWN = frozenset({os.geteuid()})


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.yaml"
    path.write_bytes(TEXT)
    path.chmod(0o600)
    return path


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A user ann (1000, group 1000 of the same name); the test adds members and other users."""
    found: dict[str, list[str]] = {"members": [], "same_primary_group": ["ann"], "group": ["ann"]}

    def user(name: str) -> SimpleNamespace:
        return SimpleNamespace(pw_name=name, pw_gid=1000)

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: user("ann"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [user(name) for name in found["same_primary_group"]])
    monkeypatch.setattr(
        grp, "getgrgid", lambda gid: SimpleNamespace(gr_name=found["group"][0], gr_mem=found["members"])
    )
    return found


def refusal_of(path: Path, trusted: frozenset[int] = OWN) -> str:
    with pytest.raises(AnswersError) as caught:
        answers_file._read_trusted(str(path), trusted)
    (problem,) = caught.value.errors
    assert (problem.line, problem.key) == (None, "")
    assert str(path) in problem.message
    return problem.message


def attributes(mode: int, uid: int = 1000, gid: int = 1000) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


def test_own_file_is_read(answers: Path) -> None:
    assert read(str(answers), sudo_uid=None) == TEXT


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT)))
    assert read("-", sudo_uid=None) == TEXT


def test_no_more_is_read_than_can_be_refused(answers: Path) -> None:
    answers.write_bytes(b"#" * 10_000_000)
    assert len(read(str(answers), sudo_uid=None)) == answers_file.LARGEST + 1


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o622])
def test_file_that_everybody_may_write_is_refused(answers: Path, mode: int) -> None:
    answers.chmod(mode)
    with pytest.raises(AnswersError, match="every user can write"):
        read(str(answers), sudo_uid=None)


def test_file_of_another_user_is_refused(answers: Path) -> None:
    assert "belongs to" in refusal_of(answers, frozenset({os.geteuid() + 1}))


@pytest.mark.parametrize(("uid", "believed"), [(0, True), (1000, True), (1001, False)])
def test_root_and_the_user_who_called_sudo_are_believed(uid: int, believed: bool) -> None:
    found = answers_file.refusal(attributes(stat.S_IFREG | 0o644, uid), frozenset({0, 1000}))
    assert (found is None) == believed


def test_a_group_of_the_user_alone_may_write(users: dict[str, list[str]]) -> None:
    assert answers_file.refusal(attributes(stat.S_IFREG | 0o664), frozenset({1000})) is None
    users["members"] = ["ann"]
    assert answers_file.refusal(attributes(stat.S_IFREG | 0o664), frozenset({1000})) is None


@pytest.mark.parametrize(
    ("what", "names"),
    [("members", ["bob"]), ("same_primary_group", ["ann", "bob"]), ("group", ["staff"])],
)
def test_a_group_of_others_may_not_write(users: dict[str, list[str]], what: str, names: list[str]) -> None:
    users[what] = names
    found = answers_file.refusal(attributes(stat.S_IFREG | 0o664), frozenset({1000}))
    assert found is not None
    assert "group" in found[0]


def test_an_unknown_group_may_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(gid: int) -> None:
        raise KeyError(gid)

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert not answers_file.is_private_group(1000, 1000)


def test_an_access_list_that_lets_others_write_is_refused(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers.chmod(0o660)
    monkeypatch.setattr(answers_file, "is_private_group", lambda gid, uid: True)
    assert answers_file._read_trusted(str(answers), OWN) == TEXT
    monkeypatch.setattr(os, "listxattr", lambda path: ["system.posix_acl_access"])
    assert "access list" in refusal_of(answers)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "directory" in refusal_of(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "pipe" in refusal_of(tmp_path / "pipe")


def test_a_device_is_refused() -> None:
    assert "device" in refusal_of(Path("/dev/zero"))


@pytest.mark.parametrize("path", ["/nowhere/answers.yaml", "", "a\0b", "/etc/passwd/x"])
def test_a_path_to_nothing_is_reported(path: str) -> None:
    with pytest.raises(AnswersError) as caught:
        read(path, sudo_uid=None)
    assert caught.value.errors[0].key == ""


def test_a_loop_of_links_is_reported(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AnswersError):
        read(str(tmp_path / "loop"), sudo_uid=None)


def test_own_link_is_followed_and_its_target_is_judged(answers: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(answers)
    assert read(str(link), sudo_uid=None) == TEXT
    answers.chmod(0o666)
    assert "every user" in refusal_of(link)


def test_a_link_of_another_user_is_refused(answers: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(answers)
    assert "link belongs to another user" in refusal_of(link, frozenset({os.geteuid() + 1}))


def test_what_was_judged_is_what_is_read(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced between the look and the reading: the one that was looked at is read."""
    judge = answers_file.refusal

    def swap(found: os.stat_result, trusted: frozenset[int]) -> tuple[str, str] | None:
        answers.unlink()
        answers.write_bytes(b"planted")
        return judge(found, trusted)

    monkeypatch.setattr(answers_file, "refusal", swap)
    assert read(str(answers), sudo_uid=None) == TEXT


def test_no_descriptor_is_left_open(answers: Path, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    read(str(answers), sudo_uid=None)
    refusal_of(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
