"""A file from the internet: a failure of DNS that passes by itself is outlived, every other one is told at once."""

from __future__ import annotations

import pytest

from wizard import exchange
from wizard.mask import Mask
from wizard.server import Response
from wizard.system import RealMachine

PASSING = "[Errno -3] Temporary failure in name resolution"


@pytest.mark.parametrize(
    ("answers", "asked", "status"),
    [
        ([Response(200)], 1, 200),
        ([Response(0, error=PASSING), Response(200)], 2, 200),
        ([Response(0, error=PASSING)] * 5, 3, 0),
        ([Response(0, error="connection refused"), Response(200)], 1, 0),
    ],
)
def test_passing_failure_of_dns_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[Response], asked: int, status: int
) -> None:
    left = list(answers)
    monkeypatch.setattr(exchange, "fetch", lambda *_: left.pop(0))
    monkeypatch.setattr(RealMachine, "sleep", lambda *_: None)
    assert RealMachine(Mask()).fetch("https://dl.example/key", 1).status == status
    assert len(answers) - len(left) == asked
