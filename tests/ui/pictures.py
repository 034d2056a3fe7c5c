"""Each screen of the wizard, reached by keys as a person reaches it: what screenshots/ shows, and tests compare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .driving import STEPS, Driver

Way = Callable[[Driver], Awaitable[None]]


@dataclass(frozen=True)
class Picture:
    name: str
    scene: str
    way: Way
    is_held: bool = False


async def welcome(driver: Driver) -> None:
    await driver.settled()


def step(number: int) -> Way:
    async def way(driver: Driver) -> None:
        await driver.jump(STEPS[number])

    return way


async def details(driver: Driver) -> None:
    await driver.jump("Preflight")
    await driver.press("d")
    await driver.until("details")


async def help_page(driver: Driver) -> None:
    await driver.jump("Firewall")
    await driver.press("question_mark")
    await driver.until("locked out")


async def acme(driver: Driver, domain: str = "llm.example.com") -> None:
    await driver.jump("TLS")
    await driver.choose_acme()
    await driver.press("tab")
    await driver.write(domain)
    await driver.press("tab")
    await driver.write("ops@example.com")
    await driver.settled()


async def acme_wrong(driver: Driver) -> None:
    await acme(driver, "ipv6.example.com")


async def custom(driver: Driver) -> None:
    await driver.jump("TLS")
    await driver.choose_custom()
    for text in ("llm.example.com", "/etc/ssl/llm/chain.pem", "/etc/ssl/llm/key.pem"):
        await driver.press("tab")
        await driver.write(text)
    await driver.settled()


async def harden(driver: Driver) -> None:
    await driver.jump("Harden")
    await driver.press("down")
    await driver.until("Never banned")
    await driver.settled()


async def review(driver: Driver) -> None:
    await driver.jump("Review")


async def review_open(driver: Driver) -> None:
    await review(driver)
    await driver.press("down", "down", "space")
    await driver.until("▾ Bind")
    await driver.pilot.pause()


async def finished(driver: Driver) -> None:
    await review(driver)
    await driver.press("enter")
    await driver.until(lambda: driver.app.report is not None)
    await driver.pilot.pause()


async def test(driver: Driver) -> None:
    await finished(driver)
    await driver.until("net.open")


async def summary(driver: Driver) -> None:
    await test(driver)
    await driver.on("Your API is at")


async def trust(driver: Driver) -> None:
    await summary(driver)
    await driver.press("t")
    await driver.until("Fedora")


async def proof(driver: Driver) -> None:
    await review(driver)
    await driver.press("enter")
    await driver.until("Open a second SSH session now", "c SSH works", "▸ Firewall")


async def stop(driver: Driver) -> None:
    await proof(driver)
    await driver.press("s")
    await driver.until("Stop after this command?")


async def state(driver: Driver) -> None:
    await driver.settled()
    await driver.until(lambda: bool(driver.app.seen and driver.app.seen.changes) or driver.app.is_proved)
    await driver.pilot.pause()


PICTURES = (
    Picture("welcome", "fresh", welcome),
    Picture("preflight", "fresh", step(0)),
    Picture("preflight-details", "fresh", details),
    Picture("preflight-blocked", "blocked", step(0)),
    Picture("firewall", "fresh", step(1)),
    Picture("firewall-help", "fresh", help_page),
    Picture("bind", "fresh", step(2)),
    Picture("caddy", "fresh", step(3)),
    Picture("tls-internal", "fresh", step(4)),
    Picture("tls-acme", "fresh", acme),
    Picture("tls-acme-wrong", "fresh", acme_wrong),
    Picture("tls-custom", "fresh", custom),
    Picture("harden", "fresh", step(5)),
    Picture("harden-recommended", "fresh", harden),
    Picture("review", "fresh", review),
    Picture("review-unfolded", "fresh", review_open),
    Picture("progress-proof", "fresh", proof, is_held=True),
    Picture("progress-stop", "fresh", stop, is_held=True),
    Picture("test", "fresh", test),
    Picture("summary", "fresh", summary),
    Picture("summary-trust", "fresh", trust),
    Picture("failed", "broken", finished),
    Picture("state-drifted", "drifted", state),
)
