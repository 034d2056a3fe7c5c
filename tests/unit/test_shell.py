"""The checkout's own shell scripts are sound: shellcheck finds nothing in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELLCHECK = Path(sys.executable).with_name("shellcheck")


@pytest.mark.allow_commands("shellcheck")
@pytest.mark.parametrize("name", ["install", "try", "test", "tests/environment", "tests/bench/guide.sh"])
def test_script_passes_shellcheck(name: str) -> None:
    checked = subprocess.run([SHELLCHECK, ROOT / name], text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout
