"""What earlier runs left on disk, whole or damaged; and with which answers a wizard begins because of it."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wizard import answers, commands, files, journal, paths, runs
from wizard.draft import Draft, load_draft, save_draft
from wizard.gateway import RealGateway
from wizard.model import SetupError

INTERNAL = b"version: 1\ntls:\n  mode: internal\n"
GOOD, BAD = "20261124T101500Z-0001", "20261124T101500Z-0002"
BEGAN = '{"at": 1.0, "event": "run"}\n'
DAMAGE = {
    "journal of other JSON": (
        "journal.jsonl",
        BEGAN + '5\n[]\nnull\n"x"\n{"event": "end", "at": 2.0, "exit_code": 0}\n',
    ),
    "an end without its time": ("journal.jsonl", BEGAN + '{"event": "end"}\n'),
    "a mark without its words": ("journal.jsonl", BEGAN + '{"event": "continued"}\n'),
    "zeros, as a power loss leaves them": ("journal.jsonl", "\0" * 4096),
    "half a journal": ("journal.jsonl", BEGAN + '{"event": "end", "at'),
    "a request that is a list": ("request.json", "[]"),
    "a request whose time is none": ("request.json", '{"command": "apply", "began": "x"}'),
    "an empty request": ("request.json", ""),
}


def run(name: str, mode: str = "internal", *, ended: bool = True) -> Path:
    place = Path(paths.RUNS) / name
    place.mkdir(parents=True)
    (place / "request.json").write_text(json.dumps({"command": "apply", "began": 1.0}))
    (place / "answers.yaml").write_text(f"version: 1\ntls:\n  mode: {mode}\n")
    end = '{"at": 2.0, "event": "end", "exit_code": 0}\n' if ended else ""
    (place / "journal.jsonl").write_text(BEGAN + end)
    return place


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_run_hides_no_other_one(own_paths: Path, what: str) -> None:
    run(GOOD)
    name, text = DAMAGE[what]
    (run(BAD) / name).write_text(text)
    assert GOOD in [past.id for past in journal.past_runs()]
    found = journal.find_unfinished()
    assert found is None or found.id == BAD


@pytest.mark.parametrize("text", ["[]", "5", "{}", '{"exit_code": 0}', "", "\0\0"])
def test_damaged_report_is_none(own_paths: Path, text: str) -> None:
    (run(GOOD) / "report.json").write_text(text)
    with pytest.raises(SetupError, match="was killed before its end"):
        journal.read_report(GOOD)


def mode_at_start(given: bytes | None = None) -> object:
    return RealGateway(given).open().draft.given("tls.mode")


def test_run_without_its_answers_is_cut_off_and_no_more(own_paths: Path) -> None:
    (run(GOOD, ended=False) / "answers.yaml").unlink()
    opening = RealGateway().open()
    assert opening.cut_off == GOOD
    assert opening.draft.given("tls.mode") == "internal"
    with pytest.raises(SetupError, match=r"answers\.yaml is not there"):
        commands.answers_of(GOOD)


def test_run_that_was_cut_off_is_gone_on_with_by_its_own_answers(own_paths: Path) -> None:
    commands.save_answers(INTERNAL, answers.load(INTERNAL))
    run(GOOD, "acme", ended=False)
    assert mode_at_start() == "acme"
    save_draft(Draft().put("tls.mode", "custom"))
    assert mode_at_start() == "custom", "what was answered since then comes first"


@contextmanager
def under_way(name: str) -> Iterator[None]:
    Path(paths.RUNTIME).mkdir(parents=True)
    with open(paths.LOCK, "w") as lock:
        json.dump({"run": name, "command": "apply", "pid": 1, "since": "10:15"}, lock)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_run_under_way_is_tried_again_with_its_own_answers(own_paths: Path) -> None:
    """Not with those of before, nor with a draft that somebody left: the run is what was wanted last."""
    commands.save_answers(INTERNAL, answers.load(INTERNAL))
    save_draft(Draft().put("tls.mode", "custom"))
    run(GOOD, "acme", ended=False)
    with under_way(GOOD):
        opening = RealGateway().open()
    assert (opening.run, opening.draft.given("tls.mode")) == (GOOD, "acme")


def test_draft_from_before_another_answers_file_was_applied_is_forgotten(own_paths: Path) -> None:
    save_draft(Draft().put("tls.mode", "custom"))
    commands.save_answers(INTERNAL, answers.load(INTERNAL))
    assert load_draft() is None
    assert mode_at_start() == "internal"
    save_draft(Draft().put("tls.mode", "custom"))
    commands.save_answers(INTERNAL, answers.load(INTERNAL))
    assert mode_at_start() == "custom", "a repair with the same answers takes nothing away"


@pytest.mark.parametrize("kind", ["directory", "link", "binary"])
def test_draft_that_is_none_is_in_nobodys_way(own_paths: Path, kind: str) -> None:
    draft = Path(paths.DRAFT)
    draft.parent.mkdir(parents=True)
    if kind == "directory":
        draft.mkdir()
    elif kind == "link":
        draft.symlink_to("/etc/passwd")
    else:
        draft.write_bytes(bytes(range(256)) * 100)
    assert mode_at_start() == "internal"
    commands.save_answers(INTERNAL, answers.load(INTERNAL))
    assert files.read(paths.ANSWERS) is not None


def test_run_that_has_only_just_begun_is_waited_for_and_named(own_paths: Path) -> None:
    """Two who start at once: the second's unit is refused before the first has taken the lock."""
    assert runs.wait_for_holder(0) == runs.UNKNOWN
    assert "(process 0)" not in runs.Busy(runs.UNKNOWN).message
    run(GOOD, ended=False)
    begins = threading.Event()

    def hold() -> None:
        with under_way(GOOD):
            begins.wait(20)

    first = threading.Thread(target=hold)
    first.start()
    assert runs.wait_for_holder(20).run == GOOD
    begins.set()
    first.join()
