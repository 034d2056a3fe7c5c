"""owned.json: each thing's state before our first touch, and what we wrote last."""

from __future__ import annotations

import pytest

from wizard.model import Impact, Then
from wizard.owned import Owned, OwnedCommand, OwnedFile, load_owned, sha256
from wizard.server import FileState

BEFORE = FileState("file", b"theirs", 0o640, "root", "caddy")
PATH = "/etc/caddy/Caddyfile"
RELOAD = Then(("systemctl", "reload-or-restart", "caddy.service"), "Caddy takes it up", Impact.RELOAD_CADDY)


@pytest.fixture
def written() -> Owned:
    return Owned().before_write(PATH, BEFORE, "/backup/001").after_write(PATH, b"ours")


def test_state_before_the_first_touch_is_kept_and_never_replaced(written: Owned) -> None:
    again = written.before_write(PATH, FileState("file", b"ours"), "/backup/002").after_write(PATH, b"ours, newer")
    was = sha256(BEFORE.content)
    assert again.files[PATH] == OwnedFile(sha256(b"ours, newer"), "/backup/001", 0o640, "root", "caddy", was)


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
    assert not made.after_write(PATH, None).is_written(PATH)
    assert made.after_write(PATH, None).after_step("") == Owned()


def test_theirs_that_we_removed_can_still_be_brought_back(written: Owned) -> None:
    assert written.after_write(PATH, None).files[PATH].backup == "/backup/001"


ALLOW, DELETE = ("ufw", "allow", "443/tcp"), ("ufw", "delete", "allow", "443/tcp")


def test_command_is_kept_once_and_only_where_it_can_be_taken_back() -> None:
    owned = Owned().before_command(ALLOW, (DELETE,), "firewall").before_command(ALLOW, (DELETE,))
    owned = owned.before_command(("ufw", "reload"), ())
    assert owned.commands == (OwnedCommand(ALLOW, (DELETE,), "firewall"),)


def test_command_that_was_taken_back_is_not_ours_any_more() -> None:
    owned = Owned().before_command(ALLOW, (DELETE,), "firewall").after_command(ALLOW).after_command(DELETE)
    assert owned.after_step("firewall") == Owned()
    service = Owned().before_command(("systemctl", "enable", "x"), (("systemctl", "disable", "x"),))
    assert service.after_command(("systemctl", "disable", "x")) == Owned()


def test_rule_that_was_taken_back_stays_ours_until_the_firewall_is_proved() -> None:
    """The firewall's own undo brings it back where the proof does not come, or the power goes before it."""
    owned = Owned().before_command(ALLOW, (DELETE,), "firewall").after_command(DELETE)
    state = FileState("file", owned.dump().encode())
    assert load_owned(state).commands == (OwnedCommand(ALLOW, (DELETE,), "firewall", taken_back=True),)
    assert owned.before_command(ALLOW, (DELETE,), "firewall").commands == (OwnedCommand(ALLOW, (DELETE,), "firewall"),)
    assert owned.after_step("firewall") == Owned()


def test_command_that_was_killed_in_its_middle_is_ours() -> None:
    """ufw may have written the rule: what comes after looks whether it is there."""
    assert Owned().before_command(ALLOW, (DELETE,)).commands[0].argv == ALLOW


def test_what_a_killed_run_was_writing_is_no_edit_of_others(written: Owned) -> None:
    again = written.before_write(PATH, FileState("file", b"ours"), "/backup/002", writing=b"ours, newer")
    assert not again.is_edited(PATH, FileState("file", b"ours, newer"))
    assert not again.is_edited(PATH, FileState("file", b"ours"))


def test_edit_of_a_file_of_others_is_what_an_undo_brings_back() -> None:
    """Their script was edited by us, then by them, then by us again: nobody wants the first one back."""
    first = Owned().before_write(PATH, BEFORE, "/backup/001", edits=True).after_write(PATH, b"theirs, bound")
    newer = FileState("file", b"theirs, a new model", 0o750)
    again = first.before_write(PATH, newer, "/backup/002", edits=True).after_write(PATH, b"theirs, a new model, bound")
    assert (again.files[PATH].backup, again.files[PATH].mode) == ("/backup/002", 0o750)


def test_edit_of_a_file_of_ours_is_not_what_an_undo_brings_back(written: Owned) -> None:
    again = written.before_write(PATH, FileState("file", b"ours, edited"), "/backup/002").after_write(PATH, b"ours")
    assert again.files[PATH].backup == "/backup/001"


def test_file_that_is_as_it_was_is_ours_until_its_step_has_ended(written: Owned) -> None:
    """Killed between the file and the restart that takes it up, the next one has to do both."""
    owned = Owned().before_write(PATH, BEFORE, "/backup/001", step="tls", then=(RELOAD,)).after_write(PATH, b"ours")
    back = owned.after_write(PATH, BEFORE.content, (0o640, "root", "caddy"))
    assert not back.is_written(PATH)
    assert [then.argv for then in back.files[PATH].then] == [RELOAD.argv]
    assert back.after_step("bind") == back
    assert back.after_step("tls") == Owned()


def test_file_with_the_old_content_and_another_mode_is_not_as_it_was(written: Owned) -> None:
    assert written.after_write(PATH, BEFORE.content, (0o644, "root", "root")).after_step("") != Owned()


def test_what_is_dumped_is_loaded_again(written: Owned) -> None:
    owned = written.before_command(("a", "b c"), (("d",), ("e", "f")), "bind")
    owned = owned.before_write("/new", None, None, step="tls", writing=b"new", then=(RELOAD,), edits=True)
    assert load_owned(FileState("file", owned.dump().encode())) == owned


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"files": {"/a": {}}, "commands": []}', '{"files": 1}', "\0"]
)
def test_unreadable_file_owns_nothing(text: str) -> None:
    assert load_owned(FileState("file", text.encode())) == Owned()


def test_missing_file_or_link_owns_nothing() -> None:
    assert load_owned(None) == Owned()
    assert load_owned(FileState("link", b"/etc/passwd")) == Owned()
