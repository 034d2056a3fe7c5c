"""Of all that a program said, the line that tells why it failed, as a person reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wizard.parse.error_line import line_of_error

RECORDED = Path(__file__).parents[1] / "recorded/error_line"
MKDIR = "mkdir /var/lib/caddy: permission denied"


@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [
        ("caddy-2.11.7-adapt-addition", "/etc/caddy/vllm-https.d/own.caddy:1: unrecognized", ": no_such_directive"),
        ("caddy-2.11.7-adapt-ambiguous", "ambiguous site definition", ": a.test"),
        ("caddy-2.11.7-start", "loading initial config", MKDIR),
    ],
)
def test_words_of_caddy_are_shown_without_their_json(name: str, begins: str, ends: str) -> None:
    found = line_of_error((RECORDED / name).read_text())
    assert found.startswith(begins) and found.endswith(ends)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", ""),
        ("one\n\n two \n", "two"),
        ("ValueError: no\nLoading 0%\n", "ValueError: no"),
        ('{"level":"error","msg":"a","error":"b"}\n', "a: b"),
        ('{"error": 3}', '{"error": 3}'),
        ('["error"]', '["error"]'),
    ],
)
def test_line_that_tells_of_an_error_goes_before_the_last_one(said: str, line: str) -> None:
    assert line_of_error(said) == line
