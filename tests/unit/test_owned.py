"""owned.json: each thing's state before our first touch, and what we wrote last."""

from __future__ import annotations

import pytest

from wizard.owned import Owned, OwnedFile, load_owned, sha256
from wizard.server import FileState

BEFORE = FileState("file", b"theirs", 0o640, "root", "caddy")
PATH = "/etc/caddy/Caddyfile"


@pytest.fixture
def written() -> Owned:
    return Owned().before_write(PATH, BEFORE, "/backup/001").after_write(PATH, b"ours")


def test_state_before_the_first_touch_is_kept_and_never_replaced(written: Owned) -> None:
    again = written.before_write(PATH, FileState("file", b"ours"), "/backup/002").after_write(PATH, b"ours, newer")
    assert again.files[PATH] == OwnedFile(sha256(b"ours, newer"), "/backup/001", 0o640, "root", "caddy")


def test_edit_since_is_seen_and_our_own_content_is_not_one(written: Owned) -> None:
    assert not written.is_edited(PATH, FileState("file", b"ours"))
    assert written.is_edited(PATH, FileState("file", b"ours, edited"))
    assert not written.is_edited(PATH, None)
    assert not written.is_edited("/etc/other", FileState("file", b"x"))


def test_file_that_is_only_noted_is_not_written_yet() -> None:
    """A kill between the note and the write: what is there is still theirs."""
    noted = Owned().before_write(PATH, BEFORE, "/backup/001")
    assert not noted.is_written(PATH) and not noted.is_edited(PATH, BEFORE)


def test_file_that_we_made_and_removed_is_not_ours_any_more() -> None:
    made = Owned().before_write(PATH, None, None).after_write(PATH, b"ours")
    assert made.is_written(PATH)
    assert made.after_write(PATH, None) == Owned()


def test_theirs_that_we_removed_can_still_be_brought_back(written: Owned) -> None:
    assert written.after_write(PATH, None).files[PATH].backup == "/backup/001"


def test_command_is_kept_once_and_only_where_it_can_be_taken_back() -> None:
    allow, delete = ("ufw", "allow", "443/tcp"), ("ufw", "delete", "allow", "443/tcp")
    owned = Owned().after_command(allow, (delete,)).after_command(allow, (delete,)).after_command(("ufw", "reload"), ())
    assert owned.commands == ((allow, (delete,)),)


def test_what_is_dumped_is_loaded_again(written: Owned) -> None:
    owned = written.after_command(("a", "b c"), (("d",), ("e", "f"))).before_write("/new", None, None)
    assert load_owned(FileState("file", owned.dump().encode())) == owned


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"files": {"/a": {}}, "commands": []}', '{"files": 1}', "\0"]
)
def test_unreadable_file_owns_nothing(text: str) -> None:
    assert load_owned(FileState("file", text.encode())) == Owned()


def test_missing_file_or_link_owns_nothing() -> None:
    assert load_owned(None) == Owned()
    assert load_owned(FileState("link", b"/etc/passwd")) == Owned()
