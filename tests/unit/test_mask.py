"""Secrets are masked by value in every form that they take; text from the machine cannot drive a terminal."""

from __future__ import annotations

import json
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.recording import CANARY
from wizard.mask import DOTS, Mask, strip_control
from wizard.model import Secret


@pytest.fixture
def mask() -> Mask:
    known = Mask()
    known.add(CANARY)
    return known


@pytest.mark.parametrize(
    "form",
    [CANARY, quote(CANARY), quote(CANARY, safe=""), json.dumps(CANARY), f"Authorization: Bearer {CANARY}"],
)
def test_secret_is_masked_in_each_form(mask: Mask, form: str) -> None:
    assert CANARY[3:-3] not in mask.text(f"before {form} after")
    assert DOTS in mask.text(form)


def test_secret_that_holds_another_is_masked_whole() -> None:
    known = Mask()
    known.add("abcd")
    known.add("abcd-efgh")
    assert known.text("x abcd-efgh y abcd z") == f"x {DOTS} y {DOTS} z"


def test_secret_is_masked_in_keys_and_values_of_a_document(mask: Mask) -> None:
    document = {CANARY: [1, None, True, (f"a {CANARY}",)], "n": 1.5}
    assert mask.value(document) == {DOTS: [1, None, True, [f"a {DOTS}"]], "n": 1.5}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://user:word@host/path", f"https://{DOTS}@host/path"),
        ("vllm serve m --api-key abc --port 1", f"vllm serve m --api-key {DOTS} --port 1"),
        ("vllm serve m --api-key=abc", f"vllm serve m --api-key={DOTS}"),
        ("vllm serve m --api_key abc", f"vllm serve m --api_key {DOTS}"),
        ("serve m --api-key abc sk-0a1B2c3D4e5F sk-9z8Y7x6W5v4U --port 1", f"serve m --api-key {DOTS} --port 1"),
        ('serve m --api-key "$VLLM_API_KEY" --port 1', 'serve m --api-key "$VLLM_API_KEY" --port 1'),
        ("serve m --api-key ${VLLM_API_KEY}", "serve m --api-key ${VLLM_API_KEY}"),
        ("nothing secret: https://host:8000/v1", "nothing secret: https://host:8000/v1"),
    ],
)
def test_credentials_are_masked_where_their_value_is_not_known(text: str, masked: str) -> None:
    assert Mask().text(text) == masked


@pytest.mark.parametrize(
    ("name", "value", "is_masked"),
    [
        ("VLLM_API_KEY", "abcd", True),
        ("HF_TOKEN", "12345678", True),
        ("HF_HOME", "/opt/vllm/huggingface", False),
        ("VLLM_PORT", "8000", False),
        ("LOG", "short", False),
        ("SOMETHING", "a-long-word-that-could-be-anything", True),
    ],
)
def test_value_of_the_env_file_is_masked_unless_it_is_plain(name: str, value: str, is_masked: bool) -> None:
    known = Mask()
    known.add_environment(name, value)
    assert (known.text(value) == DOTS) == is_masked


def test_each_of_several_keys_is_masked() -> None:
    known = Mask()
    known.add_environment("VLLM_API_KEY", "first-key,second-key")
    assert known.text("first-key second-key") == f"{DOTS} {DOTS}"


def test_secret_prints_as_dots_also_in_a_traceback() -> None:
    secret = Secret(CANARY)
    assert f"{secret} {secret!r} {[secret]} {secret:}" == f"{DOTS} {DOTS} [{DOTS}] {DOTS}"
    try:
        raise ValueError(secret)
    except ValueError as error:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert "".join(found.format()).count(CANARY) == 0


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;AAAA\x1b\\x", "x"),
        ("a\r\nb\rc\td", "a\nb\nc\td"),
        ("bell\x07 nul\x00 del\x7f c1\x9b", "bell nul del c1"),
    ],
)
def test_control_characters_are_taken_out(text: str, plain: str) -> None:
    assert strip_control(text) == plain


@given(st.text())
def test_no_text_keeps_an_escape(text: str) -> None:
    kept = strip_control(text)
    assert all(one.isprintable() or one in "\n\t" or ord(one) > 0x9F for one in kept)
