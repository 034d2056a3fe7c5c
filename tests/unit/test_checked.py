"""Answers that were checked before are taken as they were found then, as long as text and checks are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers import scenario
from wizard import answers, checked, commands, paths
from wizard.engine import walk
from wizard.steps import STEPS

GOOD = sorted((Path(__file__).parents[1] / "recorded/answers/good").glob("*.yaml"))
TEXT = b"version: 1\ntls:\n  mode: internal\n"


def kept(text: bytes) -> str:
    return checked.keep(text, answers.load(text))


def is_kept(found: object) -> bool:
    return isinstance(found, checked.Section)


def assert_same(ours: Any, theirs: Any) -> None:
    """Every answer by its name, and which of them were given."""
    if isinstance(theirs, tuple):
        assert isinstance(ours, tuple) and len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif hasattr(theirs, "model_fields_set"):
        assert ours.model_fields_set == theirs.model_fields_set
        for name in type(theirs).model_fields:
            assert_same(getattr(ours, name), getattr(theirs, name))
    else:
        assert ours == theirs and type(ours) is type(theirs)


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_they_have_every_answer_that_was_found(file: Path) -> None:
    text = file.read_bytes()
    found = checked.load(text, kept(text))
    assert is_kept(found)
    assert_same(found, answers.load(text))


def test_answers_of_another_text_are_not_taken() -> None:
    other = TEXT + b"proxy: {http3: true}\n"
    assert checked.load(other, kept(TEXT)).proxy.http3


def test_what_was_found_by_other_checks_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer version may have a new answer, or refuse an old one."""
    before = kept(TEXT)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"# newer")
    assert not is_kept(checked.load(TEXT, before))


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", '{"digest": 1}', "half"])
def test_what_is_damaged_is_checked_again(damaged: str) -> None:
    if damaged == "half":
        damaged = json.dumps({"digest": checked.digest(TEXT), "answers": {"answers": {}}})
    assert not is_kept(checked.load(TEXT, damaged))


def test_wrong_answers_are_refused_whatever_is_kept() -> None:
    with pytest.raises(answers.AnswersError, match="mode"):
        checked.load(b"version: 1\ntls: {mode: none}\n", kept(TEXT))


@pytest.mark.parametrize("name", scenario.names())
def test_steps_see_no_difference(name: str) -> None:
    server = scenario.load(name)
    text = server.description.answers
    look, _ = server.overlaid()
    ours = walk(STEPS, replace(look, answers=checked.load(text, kept(text))))
    assert [one.seen for one in ours] == [one.seen for one in server.planned()]


def test_saved_answers_are_saved_with_what_was_found(own_paths: Path) -> None:
    commands.save_answers(TEXT, answers.load(TEXT))
    assert is_kept(checked.load_saved(TEXT))
    assert Path(paths.CHECKED).stat().st_mode & 0o777 == 0o600
    assert not is_kept(checked.load_saved(TEXT + b"# edited\n"))


@pytest.mark.allow_commands("python")
def test_library_that_checks_is_not_loaded_for_them() -> None:
    program = (
        "import json, sys; from wizard import checked, commands, execution\n"
        "kept = sys.stdin.read(); checked.load(sys.argv[1].encode(), kept)\n"
        "print(json.dumps(sorted({one.partition('.')[0] for one in sys.modules} & {'pydantic', 'ruamel'})))"
    )
    argv = [sys.executable, "-c", program, TEXT.decode()]
    ended = subprocess.run(argv, input=kept(TEXT), capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == []
