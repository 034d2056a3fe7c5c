"""An EnvironmentFile as systemd reads it; the cases agree with what systemd 252 itself made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.environment import parse_environment

CANARY = "sk-canary/a+b="


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"KEY={CANARY}\n", CANARY),
        (f"KEY={CANARY}", CANARY),
        (f"KEY={CANARY}  ", CANARY),
        (f"KEY={CANARY}  \n", CANARY),
        (f"  KEY = {CANARY}\n", CANARY),
        (f'KEY="{CANARY}"\n', CANARY),
        (f"KEY='{CANARY}'\n", CANARY),
        (f"KEY={CANARY}\r\nB=1\r\n", CANARY),
        (f"# c\n; d\n\nKEY={CANARY}\n", CANARY),
        (f"KEY=old\nKEY={CANARY}\n", CANARY),
        ('KEY="a b"\n', "a b"),
        ("KEY='a \"b\"'\n", 'a "b"'),
        ('KEY="a \\"b\\" \\$c \\d"\n', 'a "b" $c \\d'),
        ("KEY=a\\\nb\n", "ab"),
        ('KEY="a\\\nb"\n', "ab"),
        ('KEY="a\nb"\n', "a\nb"),
        ("KEY='a''b'\n", "ab"),
        ("KEY=a'b'\n", "a'b'"),
        ("KEY=a\\ b\\\\\n", "a b\\"),
        ("KEY=$HOME`x`\n", "$HOME`x`"),
        ("KEY=\n", ""),
        ("KEY=a # b\n", "a # b"),
        ("KEY=a#b\n", "a#b"),
    ],
)
def test_value_is_what_the_service_gets(text: str, value: str) -> None:
    assert parse_environment(text).value("KEY") == value


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (f"A=1\nexport KEY={CANARY}\n", 2, "export"),
        (f"{CANARY.replace('=', '')}\n", 1, "no ="),
        (f"my key={CANARY}\n", 1, "not the name"),
        (f"\ufeffKEY={CANARY}\n", 1, "byte order mark"),
        (f'KEY="{CANARY}\nB=1\n', 1, "never closed"),
        (f"KEY={CANARY}\nKEY={CANARY}\n", 2, "more than once"),
        (f"KEY={CANARY} # mine\n", 1, "#"),
        (f'KEY="{CANARY}" mine\n', 1, "closing quote"),
        (f"KEY={CANARY}\x07\n", 1, "control character"),
    ],
)
def test_flaw_is_told_by_line_without_any_value(text: str, line: int, word: str) -> None:
    environment = parse_environment(text)
    (flaw,) = environment.flaws
    assert flaw.line == line
    assert word in flaw.text
    assert "canary" not in repr(environment)


def test_exported_variable_is_not_set_and_is_named() -> None:
    environment = parse_environment(f"export KEY={CANARY}\n")
    assert environment.value("KEY") is None
    assert environment.flaws[0].name == "KEY"


def test_entries_keep_the_order_and_the_lines_of_the_file() -> None:
    entries = parse_environment('A="x\ny"\n\n# c\r\nB=1\n').entries
    assert [(entry.name, entry.line) for entry in entries] == [("A", 1), ("B", 5)]


def test_file_without_flaws_has_none() -> None:
    assert parse_environment("# vLLM\nVLLM_API_KEY=a=b==\nHF_HOME=/opt/hf\n").flaws == ()


PIECES = st.sampled_from(["A", "=", '"', "'", "\\", "\n", "\r\n", " ", "\t", "#", ";", "x", "export ", "\ufeff", "$"])


@given(st.text() | st.lists(PIECES).map("".join))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for entry in parse_environment(text).entries:
        assert entry.name.isidentifier()
