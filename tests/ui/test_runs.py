"""A run on the screens: followed, attached to, stopped, confirmed, failed; and what is left on the terminal after."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from textual import events

from screens.farewell import words_after
from screens.outcome import OutcomePage
from screens.progress import ProgressPage
from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from wizard.demo import DemoGateway
from wizard.gateway import Document
from wizard.model import TestRow
from wizard.runs import Busy, Holder

from .driving import Driver, played


class Paused(DemoGateway):
    """A server whose run goes on only so far until it is let go."""

    def __init__(self, until: str, scene: str = "fresh", *, proof: bool = True) -> None:
        super().__init__(scene, pace=0, proof=proof)
        self.until = until
        self.gate = threading.Event()
        self.orders: list[str] = []

    def follow(self, run: str) -> Iterator[Document]:
        for event in super().follow(run):
            yield event
            if self.until in str(event):
                self.gate.wait(20)

    def stop(self, run: str) -> None:
        self.orders.append("stop")
        super().stop(run)
        self.gate.set()

    def confirm(self) -> None:
        self.orders.append("confirm")
        super().confirm()
        self.gate.set()


def paused(driver: Driver) -> Paused:
    assert isinstance(driver.app.gateway, Paused)
    return driver.app.gateway


async def begin(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until(lambda: isinstance(driver.app.page, ProgressPage))


@played(gateway=lambda: Paused("Loading safetensors"))
async def test_progress_shows_steps_the_command_and_what_vllm_says(driver: Driver) -> None:
    await begin(driver)
    await driver.until("Loading safetensors")
    assert driver.shows("✓ Preflight", "✓ Firewall", "▸ Bind", "· Caddy", "… vLLM answers on 127.0.0.1:8000")
    assert driver.shows("a packet from outside reached SSH"), "the firewall's proof stays to be read"
    paused(driver).gate.set()
    await driver.until("All is as it should be.")


@played(gateway=lambda: Paused("Loading safetensors"))
async def test_stopping_asks_and_says_what_state_that_leaves(driver: Driver) -> None:
    await begin(driver)
    await driver.until("Loading safetensors")
    await driver.press("s")
    await driver.until("Stop after this command?", "rollback", "the API is local only")
    await driver.press("escape")
    await driver.until("Loading safetensors")
    assert paused(driver).orders == []
    await driver.press("ctrl+c")
    await driver.until("Stop after this command?")
    await driver.press("y")
    await driver.until(lambda: driver.app.report is not None)
    assert paused(driver).orders == ["stop"]


@played(gateway=lambda: Paused("second SSH session", proof=False))
async def test_unproved_firewall_is_confirmed_by_a_key_that_asks(driver: Driver) -> None:
    await begin(driver)
    await driver.until("Open a second SSH session now", "c SSH works")
    await driver.press("c")
    await driver.until("Does SSH let you in?")
    await driver.press("enter")
    await driver.until("Open a second SSH session now")
    assert paused(driver).orders == [], "Enter alone confirms nothing"


@played(gateway=lambda: DemoGateway("fresh", pace=0, proof=False))
async def test_firewall_that_nobody_confirms_is_put_back_and_said_so(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until(lambda: isinstance(driver.app.page, OutcomePage))
    assert driver.shows("This did not succeed", "The firewall was put back as it was before")
    assert driver.app.code == 1


@played("broken")
async def test_failure_says_what_happened_what_is_left_and_goes_on_by_enter(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until("This did not succeed", "CUDA out of memory", "the old one is put back")
    assert driver.app.code == 1
    await driver.press("l")
    await driver.until("Log")
    await driver.press("escape")
    await driver.press("enter")
    await driver.settled()
    await driver.press("enter")
    await driver.until("All is as it should be.")


def under_way() -> DescribedGateway:
    """A server where a run goes on that somebody else has started, or an earlier login."""
    described = scenario.load("exposed")
    gateway = DescribedGateway(described)
    events: list[Document | Callable[[], bool]] = [
        {"at": 1.0, "event": "run", "run": "20261124T1", "command": "apply"},
        {"at": 1.0, "event": "step_began", "step": "preflight", "title": "Preflight"},
        {"at": 2.0, "event": "step_ended", "step": "preflight", "status": "ok", "seconds": 1.0},
        {"at": 2.0, "event": "step_began", "step": "firewall", "title": "Firewall"},
        {"at": 3.0, "event": "action_began", "step": "firewall", "change": {"kind": "run", "argv": ["ufw", "reload"]}},
        {"at": 4.0, "event": "output", "text": "Firewall reloaded\n"},
        lambda: False,
    ]
    return DescribedGateway(described, opening=replace(gateway.open(), run="20261124T1"), events=events)


@played(gateway=under_way)
async def test_run_under_way_is_attached_to_and_all_of_it_shown(driver: Driver) -> None:
    await driver.until("Working", "✓ Preflight", "▸ Firewall", "$ ufw reload", "Firewall reloaded", "0:03")
    assert driver.app.code == 0
    await driver.press("ctrl+q")
    assert driver.app.last_words == "Run 20261124T1 goes on. sudo vllm-https-setup shows it again."


ROWS = (
    TestRow("tls.handshake", True, "TLSv1.3", 3.0),
    TestRow("api.chat", False, "502 from the proxy", 9.0, "is vLLM running? systemctl status vllm"),
    TestRow("net.open", None, "no namespace could be made", 1.0),
)


@played(gateway=lambda: DescribedGateway(scenario.load("exposed"), rows=ROWS))
async def test_failed_row_says_what_it_means_and_what_to_do(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until("✗ api.chat", "is vLLM running? systemctl status vllm", "! net.open", "1 row failed")
    await driver.on("Your API is at")
    assert driver.shows("✗")
    await driver.press("enter")
    assert driver.app.return_value == 5


class Taken(DescribedGateway):
    def start(self, draft: object, seen: object) -> str:
        raise Busy(Holder("20261124T2", "apply", 77, "10:15"))


@played(gateway=lambda: Taken(scenario.load("exposed")))
async def test_start_beside_another_run_says_who_runs(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until("Another run is under way", "apply 20261124T2")
    await driver.press("y")
    await driver.until(lambda: driver.app.run_id == "20261124T2")


@played()
async def test_request_from_elsewhere_is_noticed(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until("All is as it should be.")
    await driver.on("Your API is at")
    assert driver.shows("this page says so when that request arrives")
    driver.app.gateway.arrived = lambda since: "198.51.100.20 has used it: 200"  # type: ignore[method-assign]
    await driver.until("✓ 198.51.100.20 has used it: 200")


@played()
async def test_what_is_worth_copying_is_copied_and_printed_after(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until("All is as it should be.")
    await driver.on("Your API is at")
    await driver.press("c")
    assert "curl" in driver.app.clipboard and "$VLLM_API_KEY" in driver.app.clipboard
    await driver.press("p")
    assert "from openai import" in driver.app.clipboard
    driver.app.gateway.is_demo = False
    said = words_after(driver.app)
    assert "https://203.0.113.7/v1" in said and "sudo vllm-https-setup rollback" in said and "Debian" in said


@played()
async def test_leaving_before_the_start_says_that_nothing_was_changed(driver: Driver) -> None:
    await driver.jump("Firewall")
    driver.app.gateway.is_demo = False
    await driver.press("ctrl+q")
    assert driver.app.return_value == 0
    assert driver.app.last_words.startswith("Nothing was changed. Your answers are kept")


@played()
async def test_run_is_started_once_however_often_enter_is_pressed(driver: Driver) -> None:
    started: list[str] = []
    start = driver.app.gateway.start

    def counted(*args: Any) -> str:
        started.append("")
        return start(*args)

    driver.app.gateway.start = counted  # type: ignore[assignment, method-assign]
    await driver.jump("Review")
    for _ in range(5):
        driver.app.post_message(events.Key("enter", None))
    await driver.until("All is as it should be.")
    assert len(started) == 1
