"""A run that was killed, as the screens tell it: while it is watched, after, and at the next start."""

from __future__ import annotations

from dataclasses import replace

from screens.outcome import OutcomePage
from screens.state import StatePage
from tests.servers import scenario
from tests.servers.gateway import RUN, DescribedGateway
from wizard.draft import Draft
from wizard.gateway import Document, Seen
from wizard.model import SetupError

from .driving import Driver, played


class Killed(DescribedGateway):
    """A run that began the firewall, and then its process was gone."""

    def start(self, draft: Draft, seen: Seen) -> str:
        return RUN

    def report(self, run: str) -> Document:
        raise SetupError(f"run {run} was killed before its end", "the same command goes on from where it was")


def killed() -> Killed:
    events = [
        {"at": 1.0, "event": "run", "run": RUN, "command": "apply"},
        {"at": 1.0, "event": "step_began", "step": "firewall", "title": "Firewall"},
    ]
    return Killed(scenario.load("exposed"), events=events)


async def kill(driver: Driver) -> None:
    await driver.jump("Review")
    await driver.press("enter")
    await driver.until(lambda: isinstance(driver.app.page, OutcomePage))


@played(gateway=killed)
async def test_killed_run_says_what_that_leaves_and_is_left_with_1(driver: Driver) -> None:
    await kill(driver)
    assert driver.shows("was killed before its end", "puts itself back", f"vllm-https-setup log {RUN}")
    await driver.press("ctrl+q")
    assert driver.app.return_value == 1
    assert driver.app.last_words == f"Run {RUN} was killed before its end. sudo vllm-https-setup completes it."


@played(gateway=killed)
async def test_killed_run_is_completed_from_there_by_a_plan_of_now(driver: Driver) -> None:
    await kill(driver)
    before = driver.app.seen
    await driver.press("enter")
    await driver.until(lambda: isinstance(driver.app.page, StatePage))
    await driver.until("A run was cut off", RUN, "Complete it")
    assert driver.app.seen is not before
    await driver.press("ctrl+q")
    assert driver.app.return_value == 1


def nothing_left() -> DescribedGateway:
    gateway = DescribedGateway(scenario.load("finished"))
    gateway.opening = replace(gateway.open(), was_set_up=True, cut_off="20261124T1")
    return gateway


@played(gateway=nothing_left)
async def test_run_that_was_cut_off_with_nothing_left_to_do_is_settled(driver: Driver) -> None:
    await driver.until("A run was cut off", "Healthy")
    gateway = driver.app.gateway
    assert isinstance(gateway, DescribedGateway)
    await driver.until(lambda: gateway.settled == [driver.app.draft])
