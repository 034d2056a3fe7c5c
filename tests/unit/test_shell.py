"""The checkout's own shell scripts are sound: shellcheck finds nothing in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wizard.parse.shell import Script

ROOT = Path(__file__).resolve().parents[2]
SHELLCHECK = Path(sys.executable).with_name("shellcheck")


@pytest.mark.allow_commands("shellcheck")
@pytest.mark.parametrize("name", ["install", "try", "test", "tests/environment", "tests/bench/guide.sh"])
def test_script_passes_shellcheck(name: str) -> None:
    checked = subprocess.run([SHELLCHECK, ROOT / name], text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("character", ["\U000dd802", "\u3000", "é"])
def test_brace_before_any_character_does_not_end_the_interpreter(character: str) -> None:
    """tree-sitter-bash 0.25.1 indexes a table of C's with the character's number, and may read anywhere."""
    text = f"{{{character}".encode() * 40
    assert all(Script(text).source == text for _ in range(50))
