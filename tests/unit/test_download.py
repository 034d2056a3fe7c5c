"""Caddy's index and package fetched ahead: only by a key that the plan has checked, never left under way or behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.servers import scenario
from wizard import download
from wizard.apt import refresh_one
from wizard.caddy_source import KEYRING
from wizard.download import Download, key_of_plan
from wizard.engine import StepResult
from wizard.mask import Mask
from wizard.model import Output, Write
from wizard.session import View
from wizard.system import Nobody, RealMachine

pytestmark = pytest.mark.allow_commands("sh", "mv")
KEY = b"a key"
LIST = f"# Caddy\n\ndeb [signed-by={KEYRING}] https://example.test/deb/debian any-version main\n"
INSTALL = ("apt-get", "install", "-y", "--", "curl", "caddy")
FETCHED = "cp {here}/caddy.list {here}/archives/caddy_1_amd64.deb"

Fetching = Callable[..., Download]


class Notes(Nobody):
    """An observer that keeps what is noted, with the commands that are its own."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def command(self, line: str) -> None:
        self.notes.append(f"$ {line}")


@pytest.fixture
def told() -> Notes:
    return Notes()


@pytest.fixture
def fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Notes) -> Fetching:
    """A download into this test's directory, by these commands in place of apt's."""
    here, cache, lists, own_list = (tmp_path / name for name in ("download", "cache", "lists", "caddy-stable.list"))
    cache.mkdir()
    (lists / "partial").mkdir(parents=True)
    (lists / "lock").touch()
    own_list.write_text(LIST)
    places = {
        "CADDY_LIST": own_list,
        "HERE": here,
        "KEY": here / "key",
        "LIST": here / "caddy.list",
        "FIRST_CONF": here / "first.conf",
        "LAST_CONF": here / "apt.conf",
        "SYSTEM_CONF": tmp_path / "system.conf",
        "LISTS": here / "lists",
        "ARCHIVES": here / "archives",
    }
    for name, path in places.items():
        monkeypatch.setattr(download, name, str(path))

    def make(*scripts: str, key: bytes = KEY) -> Download:
        said = f"echo \"LISTS='{lists}/'\"; echo \"ARCHIVES='{cache}/'\""
        written = (said, *(script.format(here=here, tmp=tmp_path) for script in scripts))
        monkeypatch.setattr(download, "COMMANDS", [("sh", "-c", script) for script in written])
        return Download(key, LIST, RealMachine(Mask(), told))

    return make


def wait_for(path: Path) -> None:
    wait_until(path.exists)


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def plan(name: str) -> tuple[StepResult, ...]:
    return View(scenario.load(name).look()).plan()


def test_key_is_that_of_the_plan_that_installs_caddy() -> None:
    results = plan("exposed")
    (written,) = [
        action.content
        for result in results
        for action in result.actions
        if isinstance(action, Write) and action.path == KEYRING
    ]
    assert key_of_plan(results) == written


def test_nothing_is_fetched_ahead_where_nothing_is_done_before_caddy() -> None:
    results = plan("exposed")
    assert key_of_plan([result for result in results if result.step.id in ("caddy", "tls")]) == b""


def test_nothing_is_fetched_ahead_where_caddy_is_there() -> None:
    assert key_of_plan(plan("finished")) == b""


def test_without_a_key_nothing_is_begun(fetching: Fetching, tmp_path: Path) -> None:
    with fetching("touch {tmp}/fetched", key=b"") as under_way:
        under_way.begin()
        under_way.hand_over(INSTALL)
    assert not (tmp_path / "fetched").exists()


def test_package_is_in_apts_cache_when_caddy_is_installed_and_nothing_else_is_left(
    fetching: Fetching, tmp_path: Path
) -> None:
    with fetching("true", f"{FETCHED}; touch {{tmp}}/done") as under_way:
        under_way.begin()
        wait_for(tmp_path / "done")
        under_way.hand_over(INSTALL)
    given = (tmp_path / "cache/caddy_1_amd64.deb").read_text()
    assert given == LIST.replace(KEYRING, f"{tmp_path}/download/key")
    assert not (tmp_path / "download").exists()


def test_what_has_come_of_it_is_given_to_apt_where_it_is_not_done(fetching: Fetching, tmp_path: Path) -> None:
    (tmp_path / "cache/partial").mkdir()
    began = time.monotonic()
    with fetching("echo half >{here}/archives/partial/caddy_1_amd64.deb; touch {tmp}/half; sleep 60") as under_way:
        under_way.begin()
        wait_for(tmp_path / "half")
        under_way.hand_over(INSTALL)
        assert (tmp_path / "cache/partial/caddy_1_amd64.deb").read_text() == "half\n"
    assert time.monotonic() - began < 10
    assert [one.name for one in (tmp_path / "cache").iterdir()] == ["partial"]


def test_other_commands_wait_for_nothing_and_are_given_nothing(fetching: Fetching, tmp_path: Path) -> None:
    began = time.monotonic()
    with fetching("sleep 60") as under_way:
        under_way.begin()
        for argv in (("apt-get", "install", "-y", "--", "ufw"), ("apt-get", "update"), ("ufw", "enable")):
            under_way.hand_over(argv)
    assert time.monotonic() - began < 10, "it is ended with the run"
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "download").exists()


@pytest.mark.parametrize("scripts", [("touch {tmp}/done; false", FETCHED), ("true", "touch {tmp}/done; exit 100")])
def test_where_it_cannot_be_had_apt_is_given_nothing(
    fetching: Fetching, tmp_path: Path, scripts: Sequence[str]
) -> None:
    with fetching(*scripts) as under_way:
        under_way.begin()
        wait_for(tmp_path / "done")
        time.sleep(0.2)
        under_way.hand_over(INSTALL)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_stands_in_its_way_is_no_failure(fetching: Fetching, tmp_path: Path) -> None:
    (tmp_path / "download").write_text("a file, where the directory would be")
    with fetching("true", FETCHED) as under_way:
        under_way.begin()
        under_way.hand_over(INSTALL)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_run_has_left_is_not_given_to_apt(fetching: Fetching, tmp_path: Path) -> None:
    left = tmp_path / "download/archives/caddy_0_amd64.deb"
    left.parent.mkdir(parents=True)
    left.write_text("half of it")
    with fetching("false") as under_way:
        assert not left.exists()
        under_way.begin()
        under_way.hand_over(INSTALL)
    assert list((tmp_path / "cache").iterdir()) == []


def test_each_of_its_commands_is_in_the_log_as_what_went_on_beside_the_steps(
    fetching: Fetching, tmp_path: Path, told: Notes
) -> None:
    with fetching("echo fetched; touch {tmp}/done", FETCHED + "; exit 3") as under_way:
        under_way.begin()
        wait_for(tmp_path / "download/archives/caddy_1_amd64.deb")
        wait_until(lambda: any("→ exit 3" in note for note in told.notes))
        under_way.hand_over(INSTALL)
    beside = [note.partition("beside the steps: ")[2] for note in told.notes[:-1]]
    assert beside[4].endswith(f" sh -c 'echo fetched; touch {tmp_path}/done'")
    assert beside[5] == "fetched"
    assert beside[6].startswith("→ exit 0, ")
    assert beside[-1].startswith("→ exit 3, ")
    assert told.notes[-1].startswith("$ mv -f -t "), "what is given to apt is a command of the step's"


@pytest.mark.allow_commands("apt-config")
def test_hooks_of_an_update_are_not_run_by_it_and_a_proxy_is_obeyed(fetching: Fetching, tmp_path: Path) -> None:
    hook, proxy = "APT::Update::Post-Invoke-Success", "Acquire::http::Proxy"
    (tmp_path / "system.conf").write_text(f'{hook} {{"touch {tmp_path}/hook";}};\n{proxy} "http://proxy.test";\n')
    with fetching("apt-config dump >{tmp}/dump; mv {tmp}/dump {tmp}/dumped") as under_way:
        under_way.begin()
        wait_for(tmp_path / "dumped")
    dumped = (tmp_path / "dumped").read_text()
    assert f'{proxy} "http://proxy.test";' in dumped
    assert str(tmp_path / "hook") not in dumped


INDEX = "echo index >{here}/lists/example.test_InRelease; echo packages >{here}/lists/example.test_main_Packages"
PAUSE = "touch {tmp}/done; sleep 60"


@pytest.fixture
def refresh(tmp_path: Path) -> tuple[str, ...]:
    return refresh_one(f"{tmp_path}/caddy-stable.list", "").argv


def in_place(tmp_path: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tmp_path / "lists").glob("*_*")}


def test_index_is_put_in_its_place_and_apt_need_not_ask_again(
    fetching: Fetching, tmp_path: Path, told: Notes, refresh: Sequence[str]
) -> None:
    (tmp_path / "lists/example.test_InRelease").write_text("an older one\n")
    with fetching(INDEX, PAUSE) as under_way:
        under_way.begin()
        wait_for(tmp_path / "done")
        assert under_way.hand_over(refresh) == Output(0)
    assert in_place(tmp_path) == {"example.test_InRelease": "index\n", "example.test_main_Packages": "packages\n"}
    assert sorted(path.name for path in (tmp_path / "lists").iterdir() if "_" not in path.name) == ["lock", "partial"]
    assert list((tmp_path / "lists/partial").iterdir()) == []
    assert any("it is put in its place" in note for note in told.notes)


HOLD = "import fcntl, sys; lock = open(sys.argv[1], 'r+b'); fcntl.lockf(lock, 2); print(flush=True); input()"


@contextlib.contextmanager
def lock_held(tmp_path: Path) -> Iterator[None]:
    """As apt does, in a process of its own: none waits for its own lock."""
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "lists/lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.communicate(b"\n")


@contextlib.contextmanager
def list_changed(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "caddy-stable.list").write_text(LIST + "deb https://another.example/ stable main\n")
    yield


@contextlib.contextmanager
def place_gone(tmp_path: Path) -> Iterator[None]:
    """As where the disk is full, or read-only."""
    (tmp_path / "lists/partial").rmdir()
    yield


@pytest.mark.allow_commands(os.path.basename(sys.executable))
@pytest.mark.parametrize("hindered", [lock_held, list_changed, place_gone])
def test_where_the_index_cannot_take_its_place_apt_is_to_fetch_it(
    fetching: Fetching,
    tmp_path: Path,
    refresh: Sequence[str],
    hindered: Callable[[Path], contextlib.AbstractContextManager[None]],
) -> None:
    with hindered(tmp_path), fetching(INDEX, PAUSE) as under_way:
        under_way.begin()
        wait_for(tmp_path / "done")
        assert under_way.hand_over(refresh) is None
    assert in_place(tmp_path) == {}


def test_index_of_another_list_is_not_taken_for_fetched(fetching: Fetching, tmp_path: Path) -> None:
    with fetching(INDEX, PAUSE) as under_way:
        under_way.begin()
        wait_for(tmp_path / "done")
        assert under_way.hand_over(refresh_one("/etc/apt/sources.list.d/another.list", "").argv) is None
    assert in_place(tmp_path) == {}


def test_index_that_is_not_whole_takes_no_place(fetching: Fetching, tmp_path: Path, refresh: Sequence[str]) -> None:
    with fetching(f"{INDEX}; {PAUSE}") as under_way:
        under_way.begin()
        wait_for(tmp_path / "done")
        assert under_way.hand_over(refresh) is None
    assert in_place(tmp_path) == {}
