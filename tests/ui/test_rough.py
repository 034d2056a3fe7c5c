"""What goes wrong around the wizard: a disk that is full, a key that is held down, text that is none."""

from __future__ import annotations

import threading
from collections.abc import Callable

from wizard.demo import DemoGateway
from wizard.draft import Draft
from wizard.gateway import Seen, SeenStep
from wizard.model import SetupError

from .driving import Driver, played


class Disk(DemoGateway):
    """The demo's server, whose drafts are kept as a real one's are, as far as the disk has room."""

    def __init__(self, *, is_full: bool = False, is_slow: bool = False) -> None:
        super().__init__("fresh", pace=0)
        self.is_demo = False
        self.is_full = is_full
        self.tried = 0
        self.kept: list[Draft] = []
        self.goes_on = threading.Event()
        if not is_slow:
            self.goes_on.set()

    def keep(self, draft: Draft) -> None:
        self.tried += 1
        self.goes_on.wait(20)
        if self.is_full:
            raise SetupError("draft.yaml could not be written: No space left on device.", "df -h /var")
        self.kept.append(draft)


def disk(driver: Driver) -> Disk:
    assert isinstance(driver.app.gateway, Disk)
    return driver.app.gateway


@played(gateway=lambda: Disk(is_full=True))
async def test_answers_that_can_not_be_kept_are_no_obstacle_and_said_so_at_the_end(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.press("down")
    await driver.until("Domain", lambda: bool(driver.app.not_kept))
    await driver.settled()
    await driver.press("tab")
    await driver.write("llm.example.com")
    await driver.until(lambda: disk(driver).tried > 1)
    await driver.settled()
    assert len(driver.app.screen_stack) == 2, "no dialog lies over what is being typed"
    assert driver.app.focused is not None and driver.app.draft.given("tls.domain") == "llm.example.com"
    await driver.press("ctrl+q")
    assert "could not be kept" in driver.app.last_words and "No space left" in driver.app.last_words


@played(gateway=lambda: Disk(is_full=True))
async def test_answers_are_kept_again_as_soon_as_there_is_room(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.press("down")
    await driver.until(lambda: bool(driver.app.not_kept))
    disk(driver).is_full = False
    await driver.press("down")
    await driver.until(lambda: not driver.app.not_kept)
    await driver.press("ctrl+q")
    assert "Your answers are kept" in driver.app.last_words
    assert disk(driver).kept[-1].given("tls.mode") == "custom"


@played(gateway=Disk)
async def test_what_was_typed_a_moment_before_the_end_is_kept(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.press("down")
    await driver.until("Domain")
    await driver.settled()
    driver.app.typing_pause_s = 60
    await driver.press("tab")
    await driver.write("llm.example.com")
    await driver.until(lambda: driver.app.draft.given("tls.domain") is not None)
    await driver.press("ctrl+q")
    assert disk(driver).kept[-1].given("tls.domain") == "llm.example.com"


@played(gateway=lambda: Disk(is_slow=True))
async def test_older_answers_never_come_to_the_disk_after_newer_ones(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.press("down")
    await driver.until(lambda: disk(driver).tried == 1)
    await driver.press("down", "up", "down", "up", "down")
    await driver.until(lambda: driver.app.draft.given("tls.mode") == "custom")
    disk(driver).goes_on.set()
    await driver.until(lambda: disk(driver).kept[-1:] == [driver.app.draft])
    await driver.press("ctrl+q")
    assert [one.given("tls.mode") for one in disk(driver).kept] == ["acme", "custom"]


def starting(gateway: DemoGateway) -> list[str]:
    """The runs that are started on it, as they come."""
    begun: list[str] = []
    start = gateway.start

    def noted(draft: Draft, seen: Seen) -> str:
        begun.append(start(draft, seen))
        return begun[-1]

    gateway.start = noted  # type: ignore[method-assign]
    return begun


@played("fresh")
async def test_enter_held_down_shows_the_review_and_starts_nothing(driver: Driver) -> None:
    assert isinstance(driver.app.gateway, DemoGateway)
    begun = starting(driver.app.gateway)
    driver.app.pause_before_start_s = 60
    await driver.settled()
    while driver.app.page is None or driver.app.page.title != "Review":
        await driver.press("enter")
    await driver.until("This is all that will be:", "vLLM restarts once")
    for _ in range(20):
        await driver.press("enter")
    assert driver.app.page.title == "Review" and not driver.app.is_starting and begun == []
    assert not driver.shows("Enter Start"), "what does nothing yet is not on the line of keys"


@played("fresh")
async def test_enter_starts_once_as_soon_as_it_is_on_the_line_of_keys(driver: Driver) -> None:
    assert isinstance(driver.app.gateway, DemoGateway)
    begun = starting(driver.app.gateway)
    driver.app.pause_before_start_s = 0.1
    await driver.jump("Review")
    await driver.until("Enter Start")
    await driver.press("enter", "enter", "enter")
    await driver.until(lambda: driver.app.report is not None)
    assert len(begun) == 1


@played("drifted")
async def test_repair_is_meant_only_once_its_plan_has_been_there(driver: Driver) -> None:
    assert isinstance(driver.app.gateway, DemoGateway)
    begun = starting(driver.app.gateway)
    driver.app.pause_before_start_s = 0.3
    await driver.until("Enter Repair")
    await driver.press("r")
    await driver.settled()
    driver.app.pause_before_start_s = 60
    await driver.press("r")
    await driver.settled()
    await driver.press("enter", "enter")
    assert begun == [] and not driver.shows("Enter Repair")


OLD = b"version: 1\nfirewall: x\nnonsense: 1\ntls:\n  mode: internal\n  old: 1\npreflight:\n  accept: [preflight.gpu]\n"


@played()
async def test_answers_of_an_old_draft_that_no_page_asks_for_are_named_and_taken_out(driver: Driver) -> None:
    await driver.settled()
    driver.app.draft = Draft.read(OLD)
    driver.app.look()
    await driver.jump("Review")
    await driver.until("Answers that no page asks for are wrong", "firewall:", "nonsense:", "t Take out")
    assert not driver.shows("Enter Start")
    await driver.press("enter", "t")
    await driver.until("vLLM restarts once", "Enter Start")
    kept = {"version": 1, "tls": {"mode": "internal"}, "preflight": {"accept": ["preflight.gpu"]}}
    assert driver.app.draft.data == kept


class Unreadable(Disk):
    """A server that can't be looked at, until it can."""

    works = False

    def look(self, draft: Draft, tell: Callable[[SeenStep], None], *, again: bool = False) -> Seen:
        if not self.works:
            raise SetupError("/proc could not be read", "mount it")
        return super().look(draft, tell, again=again)


@played(gateway=Unreadable)
async def test_look_that_fails_is_over_and_can_be_asked_for_again(driver: Driver) -> None:
    gateway = driver.app.gateway
    assert isinstance(gateway, Unreadable)
    await driver.until("That did not work", "/proc could not be read", "mount it")
    assert not driver.app.is_looking
    gateway.works = True
    await driver.press("escape", "enter")
    await driver.until("Preflight")
    await driver.press("r")
    await driver.settled()
    await driver.on("Firewall")
