"""What every look asks is begun ahead, once, all of it together; the first look alone has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from wizard import ahead, process, system
from wizard.live import LiveServer
from wizard.mask import Mask
from wizard.model import SetupError
from wizard.process import Process
from wizard.queries import EVERY_LOOK, SPACE
from wizard.system import Nobody, RealMachine

pytestmark = pytest.mark.allow_commands("sh")
Begun = list[tuple[str, ...]]


class Told(Nobody):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def command(self, line: str) -> None:
        self.lines.append(line)

    def output(self, text: str) -> None:
        self.lines.append(text.strip())


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Begun]]:
    """What was begun; each command is another that does what the test says. df can't be started."""
    processes: list[Process] = []

    def make(does: str) -> Begun:
        seen: Begun = []

        class Instead(Process):
            def __init__(
                self, argv: Sequence[str], environment: Mapping[str, str] | None = None, stdin: bytes = b""
            ) -> None:
                if argv == SPACE:
                    raise BlockingIOError(11, "Resource temporarily unavailable")
                seen.append(tuple(argv))
                super().__init__(("sh", "-c", f'{does}; echo "{argv[0]} said"'), environment, stdin)
                processes.append(self)

        for module in (ahead, process, system):
            monkeypatch.setattr(module, "Process", Instead)
        return seen

    yield make
    for one in processes:
        with one:
            pass


def test_each_question_is_asked_once_and_its_answer_kept(begun: Callable[[str], Begun]) -> None:
    asked = begun(":")
    ahead.begin()
    server = ahead.take()
    server.expect(EVERY_LOOK)
    known = [query for query in EVERY_LOOK if query != SPACE]
    assert [server.query(query).out for query in (*known, *known)] == [f"{one[0]} said\n" for one in (*known, *known)]
    assert sorted(asked) == sorted(known)


def test_they_are_answered_beside_each_other(begun: Callable[[str], Begun]) -> None:
    begun("sleep 0.4")
    began = time.monotonic()
    ahead.begin()
    server = ahead.take()
    for query in EVERY_LOOK[:6]:
        server.query(query)
    assert time.monotonic() - began < 1.2


def test_more_than_a_pipe_holds_waits_for_whoever_needs_it(begun: Callable[[str], Begun]) -> None:
    begun("head -c 300000 /dev/zero | tr '\\0' x")
    ahead.begin()
    assert len(ahead.take().query(EVERY_LOOK[0]).out) > 300_000


def test_what_could_not_be_asked_is_told_where_it_is_looked_at(begun: Callable[[str], Begun]) -> None:
    begun(":")
    ahead.begin()
    server = ahead.take()
    with pytest.raises(SetupError, match="df could not be started"):
        server.query(SPACE)


def test_a_second_look_asks_anew(begun: Callable[[str], Begun]) -> None:
    asked = begun(":")
    ahead.begin()
    ahead.take().query(EVERY_LOOK[0])
    ahead.take().query(EVERY_LOOK[0])
    assert asked.count(EVERY_LOOK[0]) == 2


def test_what_was_begun_before_a_change_is_asked_again_after_it(begun: Callable[[str], Begun]) -> None:
    asked = begun(":")
    ahead.begin()
    server = ahead.take()
    server.refresh()
    assert server.query(EVERY_LOOK[0]).ok
    assert asked.count(EVERY_LOOK[0]) == 2


def test_log_has_each_command_whole_and_in_the_order_of_the_look(begun: Callable[[str], Begun]) -> None:
    """They ran beside each other, before anybody kept a log."""
    begun("sleep 0.1")
    server = LiveServer(RealMachine(Mask()))
    server.expect((("first",), ("second",)))
    told = server.machine.observer = Told()
    for name in ("second", "first"):
        server.query((name,))
    assert told.lines == ["second", "second said", "first", "first said"]
