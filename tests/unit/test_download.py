"""Caddy's package fetched ahead: only by a key that the plan has checked, and never left under way or behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.servers import scenario
from wizard import download
from wizard.caddy_source import KEYRING
from wizard.download import Download, key_of_plan
from wizard.engine import StepResult
from wizard.mask import Mask
from wizard.model import Write
from wizard.session import View
from wizard.system import Nobody, RealMachine

pytestmark = pytest.mark.allow_commands("sh", "mv")
KEY = b"a key"
SOURCE = f"[signed-by={KEYRING}] https://example.test/deb/debian any-version main"
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
    here, cache = tmp_path / "download", tmp_path / "cache"
    cache.mkdir()
    places = {
        "HERE": here,
        "KEY": here / "key",
        "LIST": here / "caddy.list",
        "CACHE": cache,
        "FIRST_CONF": here / "first.conf",
        "LAST_CONF": here / "apt.conf",
        "SYSTEM_CONF": tmp_path / "system.conf",
        "LISTS": here / "lists",
        "ARCHIVES": here / "archives",
    }
    for name, path in places.items():
        monkeypatch.setattr(download, name, str(path))

    def make(*scripts: str, key: bytes = KEY) -> Download:
        commands = [("sh", "-c", script.format(here=here, tmp=tmp_path)) for script in scripts]
        monkeypatch.setattr(download, "COMMANDS", commands)
        return Download(key, SOURCE, RealMachine(Mask(), told))

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
    assert given == f"deb [signed-by={tmp_path}/download/key] https://example.test/deb/debian any-version main\n"
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
    assert beside[0].endswith(f" sh -c 'echo fetched; touch {tmp_path}/done'")
    assert beside[1] == "fetched"
    assert beside[2].startswith("→ exit 0, ")
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
