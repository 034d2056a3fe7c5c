"""What a plan asks of the network is under way before its first step looks, and is asked once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard.caddy_source import KEYRING, LIST, expect_key
from wizard.engine import Look, Step, begin
from wizard.live import LiveServer
from wizard.mask import Mask
from wizard.model import Finding, SetupError
from wizard.overlay import Overlay
from wizard.queries import show_units
from wizard.server import FileState, Response, Server
from wizard.session import View
from wizard.steps import tls
from wizard.system import RealMachine

URL = "https://ca.example.test/directory"


class FarAway(RealMachine):
    """Its network answers when it is let."""

    def __init__(self) -> None:
        super().__init__(Mask())
        self.asked: list[str] = []
        self.answers = threading.Event()

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        self.asked.append(url)
        assert self.answers.wait(10)
        return Response(200, url.encode())


@pytest.fixture
def far() -> Iterator[FarAway]:
    machine = FarAway()
    yield machine
    machine.answers.set()


def test_what_is_expected_is_fetched_meanwhile_and_once(far: FarAway) -> None:
    server = LiveServer(far)
    Overlay(server).expect_fetch(URL, 1)
    far.answers.set()
    assert [server.fetch(URL, 1).body, server.fetch(URL, 1).body] == [URL.encode()] * 2
    assert far.asked == [URL]


def test_nobody_waits_for_what_is_not_needed(far: FarAway) -> None:
    LiveServer(far).expect_fetch(URL, 1)
    (waiting,) = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert waiting.daemon


def test_after_a_change_it_is_fetched_anew(far: FarAway) -> None:
    """The CA's answer tells what time it is."""
    server = LiveServer(far)
    server.expect_fetch(URL, 1)
    server.refresh()
    far.answers.set()
    server.fetch(URL, 1)
    assert far.asked == [URL] * 2


def test_what_the_plan_has_fetched_its_run_does_not_ask_for(far: FarAway) -> None:
    server = LiveServer(far)
    server.fetched[URL] = Response(200, b"known")
    server.expect_fetch(URL, 1)
    assert server.fetch(URL, 1).body == b"known" and far.asked == []


def noting(name: str, told: list[str]) -> Step:
    def inspect(look: Look) -> Iterator[Finding]:
        told.append(f"{name} looks")
        yield from ()

    def begin_with(look: Look) -> None:
        told.append(f"{name} begins")

    return Step(name, name, inspect, begin=begin_with)


def test_plan_begins_before_its_first_step_looks() -> None:
    told: list[str] = []
    View(scenario.load("exposed").look()).plan((noting("first", told), noting("second", told)))
    assert told == ["first begins", "second begins", "first looks", "second looks"]


def test_what_cannot_be_begun_hinders_no_plan() -> None:
    def refuse(look: Look) -> None:
        raise SetupError("unreadable", "")

    begin([Step("first", "", lambda look: (), begin=refuse)], scenario.load("exposed").look())


class Expecting(Overlay):
    def __init__(self, below: Server) -> None:
        super().__init__(below)
        self.expected: list[str] = []

    def expect_fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> None:
        self.expected.append(url)


def expecting(name: str) -> tuple[Look, Expecting]:
    look = scenario.load(name).look()
    server = Expecting(look.server)
    return replace(look, server=server), server


def test_key_of_caddys_repository_is_expected_where_it_is_sure_to_be_fetched() -> None:
    look, server = expecting("exposed")
    expect_key(look)
    assert server.expected == [f"{look.answers.caddy.repository}/gpg.key"]


@pytest.mark.parametrize(
    ("path", "text"), [(KEYRING, "a key"), (LIST, "deb [signed-by={0}] {1}/deb/debian any-version main\n")]
)
def test_key_is_not_expected_where_apt_knows_the_repository_already(path: str, text: str) -> None:
    look, server = expecting("exposed")
    entry = text.format("/usr/share/keyrings/mirror.gpg", look.answers.caddy.repository)
    server._files[path] = FileState("file", entry.encode())
    expect_key(look)
    assert server.expected == []


def test_directory_of_the_ca_is_expected_in_mode_acme_alone() -> None:
    look, server = expecting("exposed")
    tls.begin(look)
    assert server.expected == []
    acme = look.answers.tls.model_copy(update={"mode": "acme", "acme_directory": URL})
    tls.begin(replace(look, answers=look.answers.model_copy(update={"tls": acme})))
    assert server.expected == [URL]


def test_units_that_are_known_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    server = LiveServer(FarAway())
    monkeypatch.setattr(server.machine, "start", lambda argv: asked.append(tuple(argv)))
    server._units["a.service"] = scenario.load("exposed").look().server.units("vllm.service")["vllm.service"]
    server.expect((), ("a.service", "b.service"))
    assert asked == [show_units("b.service")]
