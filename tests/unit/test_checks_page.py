"""Every finding has its words, and docs/checks.md is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import checks
from tests.docs.findings import Unreadable, collect, levels_by_key
from tests.servers import scenario
from wizard.explanations import ROWS
from wizard.model import Level
from wizard.steps import STEPS


def test_every_finding_has_its_words_and_no_words_are_left_over() -> None:
    problems = [*checks.missing(), *checks.left_over()]
    assert not problems, "\n" + "\n".join(problems)


def test_page_is_current() -> None:
    assert checks.PAGE.read_text() == checks.page(), "run tests/docs/checks, and look at what it changes"


def test_all_that_described_servers_show_is_on_the_page() -> None:
    """What the source is read for is what really comes: keys and levels."""
    known = levels_by_key()
    seen = {
        (finding.key, finding.level)
        for name in scenario.names()
        for result in scenario.load(name).planned()
        for finding in result.seen
    }
    assert len(seen) > 30
    assert [(key, level) for key, level in sorted(seen) if level not in known.get(key, ())] == []


def test_each_row_of_the_final_test_is_on_the_page() -> None:
    rows = {key.partition(".")[2] for key in levels_by_key() if key.startswith("https_test.")}
    assert rows == set(ROWS)
    seen = {row.id for name in scenario.names() for row in scenario.load(name).tested()}
    assert {".".join(row.split(".")[:2]) for row in seen} <= rows, "a further service's ends in its name"


SOURCE = """
KEY = "tls.constant"
def one(look):
    key, last = "bind.of_two", 1
    yield Finding(key, Level.OK, "said")
    yield Finding(KEY, level, "said", remedy, {})
    for port, name in wanted(look):
        yield Finding(name, Level.DRIFT, "said", fix=fix)
    yield Finding(key="bind.a" if port else "bind.b", level=judge.level, summary="said", remedy="do")
def wanted(look):
    yield 1, "firewall.yielded"
def given(key):
    return Finding(key, Level.INFO, "said")
given("caddy.given")
given(key="caddy.named")
"""


def test_keys_are_read_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(SOURCE)
    assert levels_by_key(tmp_path) == {
        "bind.of_two": [Level.OK],
        "tls.constant": [Level.WARN, Level.BLOCKED],
        "firewall.yielded": [Level.DRIFT],
        "bind.a": [Level.WARN, Level.BLOCKED],
        "bind.b": [Level.WARN, Level.BLOCKED],
        "caddy.given": [Level.INFO],
        "caddy.named": [Level.INFO],
    }


def test_key_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("Finding(make_key(), Level.OK, 'said')\n")
    with pytest.raises(Unreadable, match=r"module\.py:1"):
        collect(tmp_path)


def test_finding_without_words_is_named_with_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    new = {**levels_by_key(), "caddy.new": [Level.WARN]}
    monkeypatch.setattr(checks, "levels_by_key", lambda: new)
    (problem,) = checks.missing()
    assert "wizard/meanings/caddy.py" in problem and '"caddy.new": Meaning(' in problem
    with pytest.raises(checks.NoMeaning, match=r"caddy\.new"):
        checks.page()


def test_words_of_a_finding_that_is_gone_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = {key: levels for key, levels in levels_by_key().items() if key != "caddy.list"}
    monkeypatch.setattr(checks, "levels_by_key", lambda: old)
    assert list(checks.left_over()) == ["caddy.list is no finding any more. Take it out of wizard/meanings/caddy.py"]


def test_page_is_in_the_steps_order() -> None:
    headings = [line for line in checks.page().splitlines() if line.startswith("## ")]
    assert [heading for heading in headings if "(`" in heading] == [f"## {step.title} (`{step.id}`)" for step in STEPS]
