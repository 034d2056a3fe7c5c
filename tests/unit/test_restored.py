"""What an archive brings back is in the plan before Caddy needs it, is there once, and replaces nothing of others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.certificates import DOMAIN, LEAF, ROOT, make_ca
from tests.unit.test_archive import ACME, CA, LETSENCRYPT, packed
from tests.unit.test_laws import Book, Killed
from wizard import archive, paths, recovery, restored
from wizard.archive import AUTHORITY, DATA, Archive, Role
from wizard.book import owned_after, owned_before
from wizard.commands import Refused
from wizard.engine import Look, StepResult, walk
from wizard.model import Action, Finding, Level, Run, SetupError, Status, Write
from wizard.owned import Owned
from wizard.paths import CADDY_HOME, CADDYFILE
from wizard.server import FileState
from wizard.steps import STEPS

BELOW = [CADDY_HOME, *(f"{CADDY_HOME}/{one}" for one in (".local", ".local/share", ".local/share/caddy"))]
PLACES = [*BELOW[1:], f"{DATA}/pki", f"{DATA}/pki/authorities", AUTHORITY]
KEPT = archive.read(packed())


def exposed(kept: Archive = KEPT, *more: str) -> Scenario:
    """A described server on which nothing of what the archive brings is."""
    files = [one.path for one in kept.files]
    return scenario.load("exposed").without(*PLACES, *files, *more)


def restoring(server: Scenario, kept: Archive = KEPT) -> Look:
    look, _ = server.overlaid()
    return replace(look, archive=kept)


def written(results: Sequence[StepResult]) -> list[str]:
    return [action.path for result in results for action in result.actions if isinstance(action, Write)]


def found(results: Sequence[StepResult], key: str) -> list[Finding]:
    return [one for result in results for one in (*result.seen, *result.after) if one.key == key]


def test_ca_is_back_before_caddy_gets_its_caddyfile_and_after_its_package() -> None:
    results = walk(STEPS, restoring(exposed()))
    words = [
        " ".join(action.argv) if isinstance(action, Run) else getattr(action, "path", "")
        for result in results
        for action in result.actions
    ]
    installed = next(number for number, one in enumerate(words) if one.startswith("apt-get install") and "caddy" in one)
    made = next(number for number, one in enumerate(words) if one.startswith("install -d -m 0700 -o caddy"))
    assert installed < made < words.index(f"{AUTHORITY}/root.key") < words.index(f"{AUTHORITY}/root.crt")
    assert words.index(f"{AUTHORITY}/root.crt") < words.index(CADDYFILE)
    shown = [change for result in results for change in result.changes if change.path == f"{AUTHORITY}/root.key"]
    assert [change.diff for change in shown] == ["•••"]


def test_second_time_nothing_is_left_to_do() -> None:
    look = restoring(exposed())
    walk(STEPS, look)
    again = walk(STEPS, look)
    assert [action for result in again for action in result.actions] == []
    assert found(again, "caddy.restored")[0].level is Level.OK


def test_killed_at_any_action_the_next_run_brings_all_of_it_back() -> None:
    cuts = len([action for result in walk(STEPS, restoring(exposed())) for action in result.actions])
    for cut in range(cuts):
        for when_done in (False, True):
            look = restoring(exposed())
            book = Book(look, cut, when_done)
            with pytest.raises(Killed):
                walk(STEPS, look, book)
            look = replace(book.look, archive=KEPT)
            walk(STEPS, look)
            state = look.server.read(f"{AUTHORITY}/root.key")
            assert state == FileState("file", ROOT.key_pem, 0o600, "caddy", "caddy")


def test_what_was_brought_back_is_not_ours_to_take_away() -> None:
    look = restoring(exposed())
    owned = Owned()
    for action in (action for result in walk(STEPS, look) for action in result.actions):
        owned = owned_after(owned_before(owned, "caddy", action, None, None), action)
    assert CADDYFILE in owned.files and not [path for path in owned.files if path.startswith(CADDY_HOME)]


def test_ca_of_this_server_is_not_replaced() -> None:
    other = make_ca("Other", number=5)
    look = restoring(exposed())
    look.server.perform(Write(f"{AUTHORITY}/root.crt", other.pem, ""))
    results = walk(STEPS, look)
    (blocked,) = found(results, "caddy.restored")
    assert blocked.level is Level.BLOCKED and f"sudo mv {AUTHORITY} {AUTHORITY}.old" in str(blocked.remedy)
    assert [result.status for result in results if result.step.id == "caddy"] == [Status.BLOCKED]
    assert written(results)[-1:] != [f"{AUTHORITY}/root.key"]


def test_no_link_is_followed_where_keys_are_written() -> None:
    server = exposed()
    files = {**server.description.files, f"{DATA}/pki": FileState("link", b"/etc")}
    look = restoring(replace(server, description=replace(server.description, files=files)))
    (blocked,) = found(walk(STEPS, look), "caddy.restored")
    assert blocked.level is Level.BLOCKED and f"{DATA}/pki is a link" in blocked.summary


ISSUED = f"{DATA}/certificates/{LETSENCRYPT}/{DOMAIN}"
OF_ACME = {
    f"{ISSUED}/{DOMAIN}.crt": LEAF.pem,
    f"{ISSUED}/{DOMAIN}.key": LEAF.key_pem,
    f"{ISSUED}/{DOMAIN}.json": b"{}",
    f"{DATA}/acme/{LETSENCRYPT}/users/ops@example.com/ops.key": LEAF.key_pem,
    f"{DATA}/acme/{LETSENCRYPT}/users/ops@example.com/ops.json": b"{}",
}


def wanted_of(here: dict[str, bytes]) -> list[str]:
    kept = archive.read(packed(ACME.encode(), OF_ACME, "acme"))
    look = restoring(exposed(kept), kept)
    for path, content in here.items():
        look.server.perform(Write(path, content, "", 0o600, "caddy", "caddy"))
    return [one.path for one in restored._wanted(look, kept) if not restored._is_there(look, one)]


def test_key_of_a_certificate_comes_first_and_a_renewed_one_stays() -> None:
    assert wanted_of({})[:3] == [f"{ISSUED}/{DOMAIN}.{end}" for end in ("key", "crt", "json")]
    assert len(wanted_of({})) == 5
    assert wanted_of({f"{ISSUED}/{DOMAIN}.key": LEAF.key_pem})[:1] == [f"{ISSUED}/{DOMAIN}.crt"]
    renewed = wanted_of({f"{ISSUED}/{DOMAIN}.key": ROOT.key_pem})
    assert [path for path in renewed if path.startswith(ISSUED)] == [] and len(renewed) == 2


def test_addresses_that_clients_call_and_this_server_lacks_are_named() -> None:
    (warned, *_) = found(walk(STEPS, restoring(exposed())), "caddy.restored_hosts")
    assert warned.level is Level.WARN
    assert "clients of gpu-01 call 10.0.0.5" in warned.summary
    assert "tls: {hosts: [10.0.0.5, " in str(warned.remedy)


def test_restore_that_was_cut_off_and_is_damaged_stops_every_look(own_paths: Path) -> None:
    assert restored.load_pending() is None
    place = Path(paths.RESTORE)
    place.parent.mkdir(parents=True)
    place.write_bytes(packed())
    loaded = restored.load_pending()
    assert loaded is not None and loaded.having(Role.AUTHORITY) == KEPT.having(Role.AUTHORITY)
    place.write_bytes(packed()[:-9])
    with pytest.raises(SetupError, match="is damaged") as raised:
        restored.load_pending()
    assert paths.RESTORE in raised.value.remedy


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory all above which counts as trusted, whoever runs the tests."""
    os.chmod(tmp_path, 0o700)
    return tmp_path


def refused(path: Path) -> str:
    trusted = frozenset({0, os.geteuid()})
    try:
        recovery.refuse_place(str(path), trusted)
    except Refused as error:
        return error.message
    return ""


def test_archive_is_not_written_where_others_could_replace_it_or_over_another_file(here: Path) -> None:
    assert refused(here / "a.tar.gz") == ""
    (here / "a.tar.gz").write_bytes(packed())
    assert refused(here / "a.tar.gz") == "", "an archive of ours may be replaced"
    (here / "notes").write_text("theirs")
    (here / "link").symlink_to(here / "a.tar.gz")
    for name in ("notes", "link"):
        assert "no archive of this program" in refused(here / name)
    open_to_all = here / "open"
    open_to_all.mkdir()
    os.chmod(open_to_all, 0o1777)
    assert "every user" in refused(open_to_all / "a.tar.gz")
    (here / "way").symlink_to(open_to_all)
    assert "every user" in refused(here / "way" / "a.tar.gz")
    os.chmod(open_to_all, 0o777)
    (open_to_all / "own").mkdir(0o700)
    assert "every user" in refused(open_to_all / "own" / "a.tar.gz")
    assert "no such file" in refused(here / "none" / "a.tar.gz")


def actions_of(results: Sequence[StepResult]) -> list[Action]:
    return [action for result in results for action in result.actions]


def test_without_an_archive_nothing_is_asked_of_a_server() -> None:
    look, _ = scenario.load("exposed").overlaid()
    results = walk(STEPS, look)
    assert found(results, "caddy.restored") == []
    assert [path for path in CA if path in written(results)] == []
    assert actions_of(results)
