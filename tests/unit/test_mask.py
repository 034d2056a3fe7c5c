"""Secrets are masked by value in every form that they take; text from the machine cannot drive a terminal."""

from __future__ import annotations

import json
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers.recording import CANARY
from wizard.mask import DOTS, Mask, strip_control, without_control
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
        ("https://user:p@ss:w@rd@host/path", f"https://{DOTS}@host/path"),
        ("http://ghp_0123456789@github.com/x", f"http://{DOTS}@github.com/x"),
        ("http_proxy=http://u:p@10.0.0.1:3128", f"http_proxy=http://{DOTS}@10.0.0.1:3128"),
        ("https://host/?mail=a@b.c", "https://host/?mail=a@b.c"),
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
        ("moc.\u202egpj\u202c \u2066x\u2069 \u200fy\u061c", "moc.gpj x y"),
        ("bell\x07 nul\x00 del\x7f c1\x9b", "bell nul del c1"),
    ],
)
def test_control_characters_are_taken_out(text: str, plain: str) -> None:
    assert strip_control(text) == plain


@given(st.text())
def test_no_text_keeps_an_escape(text: str) -> None:
    kept = strip_control(text)
    assert all(one.isprintable() or one in "\n\t" or ord(one) > 0x9F for one in kept)


def escaped(text: str) -> bool:
    return any(not one.isprintable() and one not in "\n\t" and ord(one) <= 0x9F for one in text)


# What a terminal passes over, or obeys, in the middle of a word.
SPLITS = st.lists(
    st.sampled_from(
        ["\x1b[0m", "\x1b[38;5;1m", "\x00", "\x08", "\x1b]0;t\x07", "\x1b]8;;x\x1b\\", "\x9b1m", "\x7f", "\x1b"]
    ),
    max_size=2,
).map("".join)
SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=4, max_size=24)


@settings(max_examples=200)
@given(SECRETS, st.text(max_size=30), st.text(max_size=30), st.data())
def test_no_masked_text_has_a_secret_whatever_it_is_split_by(
    secret: str, before: str, after: str, data: st.DataObject
) -> None:
    known = Mask()
    known.add(secret)
    split = "".join(data.draw(SPLITS) + one for one in secret)
    # What stands directly before it may make an escape sequence of its beginning: that is no secret any more.
    text = f"{strip_control(before)} {split} {after}"
    masked = known.text(text)
    assert secret not in masked
    assert not escaped(masked)
    assert known.text(masked) == masked
    for value in (text, {"a": [text]}, {text: None}):
        shown = json.dumps(without_control(known.value(value)), ensure_ascii=False)
        assert json.dumps(secret, ensure_ascii=False)[1:-1] not in shown


@settings(max_examples=100)
@given(SECRETS, st.sampled_from(["quoted", "json", "json in ASCII", "URL", "URL's query"]))
def test_secret_is_masked_in_every_form_in_which_it_is_written(secret: str, form: str) -> None:
    known = Mask()
    known.add(secret)
    written = {
        "quoted": f"'{secret}'",
        "json": json.dumps(secret, ensure_ascii=False),
        "json in ASCII": json.dumps(secret),
        "URL": quote(secret),
        "URL's query": quote(secret, safe=""),
    }[form]
    assert written.strip("'\"") not in known.text(f"x {written} y").replace(DOTS, "")


@settings(max_examples=100)
@given(st.lists(st.text("abcdefghijklmnop+/=0123456789", min_size=8, max_size=64), min_size=2, max_size=6, unique=True))
def test_no_line_of_a_secret_of_several_is_shown(lines: list[str]) -> None:
    known = Mask()
    known.add("\n".join(lines))
    shown = known.text("\n".join(f"+{line}" if line[0] not in "+/=" else f"> {line}" for line in lines))
    assert [line for line in lines if line in shown.replace("+", " ").split()] == []


def test_line_that_a_certificate_shares_with_its_key_stays_readable() -> None:
    known = Mask()
    known.add("-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBgkqhkiG9w0\nt4kno0EwPzAaAbCd\n-----END PRIVATE KEY-----\n")
    certificate = "-----BEGIN CERTIFICATE-----\nxxxt4kno0EwPzAaAbCdyyy\n-----END CERTIFICATE-----"
    assert known.text(certificate) == certificate
    assert known.text("+t4kno0EwPzAaAbCd\n MIIBVAIBADANBgkqhkiG9w0") == f"+{DOTS}\n {DOTS}"


@settings(max_examples=100)
@given(st.recursive(st.text(max_size=10), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner)))
def test_value_without_a_secret_is_kept_to_its_last_sign(value: object) -> None:
    assert Mask().value(value) == value
