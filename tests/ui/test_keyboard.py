"""What a terminal sends besides keys: bytes of another encoding, control characters, signals."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.message import Message

from screens.fields import Line
from screens.keyboard import TerminalDriver
from wizard.demo import DemoGateway
from wizard.draft import Draft

from .driving import Driver, driven, played


class Typing:
    """A terminal's keys, read as Textual reads them."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.came: list[str] = []
        self.panics: list[object] = []
        self.driver = TerminalDriver.__new__(TerminalDriver)
        self.driver._app = cast(Any, SimpleNamespace(call_later=lambda *words: self.panics.append(words), panic=None))
        self.driver._debug, self.driver.fileno, self.driver.exit_event = False, self.reads, threading.Event()
        self.driver.process_message = self._take  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.driver._run_input_thread, daemon=True)
        self.thread.start()

    def _take(self, message: Message) -> None:
        if isinstance(message, events.Key):
            self.came.append(message.key)

    def is_read(self) -> bool:
        return not select.select([self.reads], [], [], 0)[0]

    def until(self, *keys: str) -> None:
        end = time.monotonic() + 20
        while self.came[-len(keys) :] != list(keys):
            assert time.monotonic() < end and self.thread.is_alive(), (self.came, self.panics)
            time.sleep(0.005)


@pytest.fixture
def typing() -> Iterator[Typing]:
    made = Typing()
    yield made
    made.driver.exit_event.set()
    made.thread.join(20)
    os.close(made.writes)
    os.close(made.reads)


@pytest.mark.parametrize("odd", [b"\xff", b"\xfc", b"\xc3(", b"\xed\xa0\x80", b"\x9b5m"])
def test_bytes_that_are_no_text_end_nothing(typing: Typing, odd: bytes) -> None:
    os.write(typing.writes, b"a")
    typing.until("a")
    os.write(typing.writes, odd + b"dropped")
    while not typing.is_read():
        time.sleep(0.005)
    os.write(typing.writes, b"b")
    typing.until("b")
    assert typing.panics == []


def test_terminal_that_is_gone_ends_without_a_traceback(typing: Typing) -> None:
    dead = os.open("/proc/self/mem", os.O_RDONLY)  # nothing is mapped at 0: a read answers EIO, as a dead terminal does
    os.dup2(dead, typing.reads)
    os.close(dead)
    typing.thread.join(20)
    assert not typing.thread.is_alive()
    assert typing.panics == []


HOSTILE = "a\x1b]0;title\x07b\x1b[31mc\x9b5m\nd\x00e\x7f"


@played()
async def test_control_characters_of_an_answer_never_come_to_the_terminal(driver: Driver) -> None:
    await driver.settled()
    driver.app.draft = Draft({"version": 1, "tls": {"mode": "acme", "domain": HOSTILE, "email": HOSTILE}})
    driver.app.look()
    await driver.jump("TLS")
    await driver.until("Domain", "E-mail")
    lines = [line.value for line in driver.app.screen.query(Line)]
    assert len(lines) == 2
    assert not [char for line in lines for char in line if not char.isprintable()], lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_signal_ends_the_wizard_with_its_number_and_keeps_what_was_typed(number: int) -> None:
    gateway = DemoGateway("fresh", pace=0)
    kept: list[Draft] = []
    gateway.keep = kept.append  # type: ignore[assignment, method-assign]

    async def play() -> int | None:
        async with driven(gateway=gateway) as driver:
            await driver.jump("TLS")
            driver.app.typing_pause_s = 60
            await driver.press("tab")
            await driver.write("10.0.0.9")
            await driver.until(lambda: driver.app.draft.given("tls.hosts") is not None)
            os.kill(os.getpid(), number)
            await driver.until(lambda: driver.app.is_leaving)
            return driver.app.return_value

    assert asyncio.run(play()) == 128 + number
    assert kept[-1].given("tls.hosts") == ["10.0.0.9"]
