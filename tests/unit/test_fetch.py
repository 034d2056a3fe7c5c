"""A file from the internet: a failure of DNS that passes by itself is outlived, every other one is told at once."""

from __future__ import annotations

import socket

import pytest

from wizard.mask import Mask
from wizard.system import RealMachine

PASSES = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
LASTS = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("answers", "asked", "error"),
    [
        ([PASSES, LASTS], 2, "name or service not known"),
        ([PASSES] * 5, 3, "temporary failure in name resolution"),
        ([LASTS, PASSES], 1, "name or service not known"),
    ],
)
def test_passing_failure_of_dns_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[Exception], asked: int, error: str
) -> None:
    left = list(answers)

    def look_up(*_: object, **__: object) -> None:
        raise left.pop(0)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(RealMachine, "sleep", lambda *_: None)
    assert RealMachine(Mask()).fetch("https://dl.example/key", 1).error == error
    assert len(answers) - len(left) == asked
