"""Texts of templates that are kept: the same as anew, and never those of another template or other values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from wizard import commands, paths, render
from wizard.answers import Answers
from wizard.custom import PROGRAM
from wizard.session import Session

TEMPLATE = "watch.service.j2"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a new process does."""
    monkeypatch.setattr(render, "_known", {})
    monkeypatch.setattr(render, "_used", {})


def as_a_new_process(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_known", {})
    monkeypatch.setattr(render, "_used", {})
    render.remember(kept)


def test_kept_text_is_taken_for_the_same_template_and_values_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "TEMPLATES", tmp_path)
    render._environment.cache_clear()
    (tmp_path / "greeting.j2").write_text("hello {{ name }}\n")
    first = render.render("greeting.j2", name="a")
    kept = {digest: f"kept: {text}" for digest, text in json.loads(render.keep()).items()}
    as_a_new_process(json.dumps(kept), monkeypatch)
    assert render.render("greeting.j2", name="a") == f"kept: {first}"
    assert render.render("greeting.j2", name="b") == "hello b\n"
    (tmp_path / "greeting.j2").write_text("hello again, {{ name }}\n")
    render._environment.cache_clear()
    assert render.render("greeting.j2", name="a") == "hello again, a\n"
    render._environment.cache_clear()


def test_what_is_kept_changes_with_a_new_text_alone_and_loses_then_what_nobody_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit_s in (60, 61):
        render.render(TEMPLATE, program=PROGRAM, limit_s=limit_s)
    before = render.keep()
    as_a_new_process(before, monkeypatch)
    render.render(TEMPLATE, program=PROGRAM, limit_s=60)
    assert render.keep() == before, "a rerun writes nothing"
    render.render(TEMPLATE, program=PROGRAM, limit_s=62)
    assert len(json.loads(render.keep())) == 2


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", "1", '{"a": 1}'])
def test_what_is_damaged_is_rendered_anew(damaged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render.render(TEMPLATE, program=PROGRAM, limit_s=60)
    as_a_new_process(damaged, monkeypatch)
    assert render.render(TEMPLATE, program=PROGRAM, limit_s=60) == text


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render.render(TEMPLATE, program=PROGRAM)


def test_texts_are_saved_with_the_answers_and_read_with_them(own_paths: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render.render(TEMPLATE, program=PROGRAM, limit_s=60)
    commands.save_answers(b"version: 1\n", Answers.defaults())
    assert Path(paths.RENDERED).stat().st_mode & 0o777 == 0o600
    as_a_new_process("", monkeypatch)
    Session(Answers.defaults(), operator=None)
    assert list(render._known.values()) == [text]


@pytest.mark.allow_commands("python")
def test_library_of_templates_is_not_loaded_for_them() -> None:
    render.render(TEMPLATE, program=PROGRAM, limit_s=60)
    program = (
        "import sys; from wizard import commands, execution, render\n"
        f"render.remember(sys.stdin.read()); render.render({TEMPLATE!r}, program={PROGRAM!r}, limit_s=60)\n"
        "sys.exit('jinja2' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], input=render.keep(), text=True, check=True)
