"""A command loads what it needs and no more: each module is imported in a fresh process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.allow_commands("python")

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "wizard").rglob("*.py")
    if path.name != "__main__.py"
)
SCREENS = {"textual", "rich", "screens"}
# What takes longest to load; no command needs all of it.
HEAVY = {"pydantic", "jinja2", "sh", "ruamel", "cryptography", "psutil", "tree_sitter", "pysequoia", "dns"}
REPORT = "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
PLAN = """
from dataclasses import replace
from wizard.described import DescribedMachine, read_description
from wizard import answers
from wizard.engine import Look, walk
from wizard.facts import Facts
from wizard.overlay import Overlay
from wizard.steps import STEPS
described = read_description(open("tests/servers/exposed.toml").read())
look = Look(Overlay(Facts(DescribedMachine(described))), answers.load(described.answers), described.operator)
assert any(result.actions for result in walk(STEPS, look))
"""
WALK = """
from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from tests.unit.test_plain import Enters
from wizard.plain import Plain
script = Enters()
assert Plain(DescribedGateway(scenario.load("exposed")), script).run() == 0
"""


def loaded_by(code: str) -> set[str]:
    """The top packages that are loaded when this code has run."""
    argv = [sys.executable, "-c", code + REPORT]
    ended = subprocess.run(argv, check=True, cwd=ROOT, capture_output=True, text=True)
    return set(json.loads(ended.stdout))


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_alone_and_loads_no_screen(module: str) -> None:
    assert not SCREENS & loaded_by(f"import {module}")


def test_command_line_loads_no_library() -> None:
    assert not HEAVY & loaded_by("import wizard.cli")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["apply", "--help"],
        ["--nonsense"],
        ["nonsense"],
        ["--plain", "plan"],
        ["--demo", "no"],
    ],
)
def test_help_and_version_load_no_library(words: list[str]) -> None:
    code = "import contextlib, io\nfrom wizard.cli import main\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    code += f"    with contextlib.suppress(SystemExit):\n        main({words!r})\n"
    assert not (HEAVY | SCREENS) & loaded_by(code)


def test_first_screen_of_the_demo_needs_no_library() -> None:
    code = "from wizard.demo import DemoGateway\nDemoGateway('drifted').open()\n"
    assert not (HEAVY | SCREENS) & loaded_by(code)
    assert "pydantic" in loaded_by(f"{code}from wizard.draft import LEAST, Draft\nDraft(LEAST).problems()\n")


@pytest.mark.parametrize("words", [[], ["--plain"], ["--demo"]])
def test_call_without_a_terminal_loads_no_library(words: list[str]) -> None:
    assert not (HEAVY | SCREENS) & loaded_by(f"from wizard.cli import main\nassert main({words!r}) == 2\n")


def test_plain_loads_no_screen() -> None:
    loaded = loaded_by(WALK)
    assert not SCREENS & loaded
    assert "pydantic" in loaded


def test_plan_in_mode_internal_loads_neither_cryptography_nor_screens() -> None:
    loaded = loaded_by(PLAN)
    assert not ({"cryptography", "dns"} | SCREENS) & loaded
    assert {"pydantic", "jinja2"} <= loaded
