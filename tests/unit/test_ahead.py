"""What every look asks is asked once, ahead; the first look alone has it, and what failed is asked again later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wizard import ahead
from wizard.model import Output, SetupError
from wizard.steps.preflight import QUERIES
from wizard.system import RealMachine


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, ...]]]:
    seen: list[tuple[str, ...]] = []

    def command(self: RealMachine, argv: tuple[str, ...], **_: object) -> Output:
        seen.append(argv)
        if argv[0] == "df":
            raise SetupError("df could not be started", "see how much memory is free")
        return Output(0, "said\n")

    monkeypatch.setattr(RealMachine, "command", command)
    yield seen
    ahead.take()


def test_each_question_is_asked_once_and_its_answer_kept(asked: list[tuple[str, ...]]) -> None:
    ahead.begin()
    server = ahead.take()
    assert server is not None
    known = [query for query in QUERIES if query[0] != "df"]
    assert all(server.query(query).out == "said\n" for query in known)
    assert sorted(query for query in asked if query[0] != "df") == sorted(known)


def test_what_could_not_be_asked_is_told_where_it_is_looked_at(asked: list[tuple[str, ...]]) -> None:
    ahead.begin()
    server = ahead.take()
    assert server is not None
    with pytest.raises(SetupError, match="df could not be started"):
        server.query(next(query for query in QUERIES if query[0] == "df"))


def test_a_second_look_asks_anew(asked: list[tuple[str, ...]]) -> None:
    ahead.begin()
    assert ahead.take() is not None
    assert ahead.take() is None
