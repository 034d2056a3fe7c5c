"""What the watch tells: what has changed, once, where it has been seen twice; and the certificate's end by its days."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_acme import BEGAN, DOMAIN, FAILS, line
from wizard.certificate_end import DAYS, ENDED, LATE, Ending, read_refusal
from wizard.changes import (
    MOST_WAITING,
    Change,
    Memory,
    Sight,
    compare,
    compare_certificate,
    confirmed,
    new_troubles,
    read_memory,
    sight_of,
)
from wizard.notices import COMMAND, URL, add

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def seen(
    rows: Mapping[str, bool | None] | None = None,
    findings: Mapping[str, str] | None = None,
    statuses: Mapping[str, str] | None = None,
) -> Sight:
    """A document of `status` with these rows, findings (key to level) and steps (all in order)."""
    steps: dict[str, Any] = {
        name: {"id": name, "status": status, "findings": []}
        for name, status in {"firewall": "ok", "tls": "ok", **(statuses or {})}.items()
    }
    for key, level in (findings or {}).items():
        finding = {"key": key, "level": level, "summary": f"{key} is {level}", "remedy": None}
        steps[key.partition(".")[0]]["findings"].append(finding)
    tests = [{"id": key, "ok": ok, "detail": f"{key}\nsaid", "remedy": None} for key, ok in (rows or {}).items()]
    return sight_of({"tests": tests, "steps": list(steps.values())})


def told(memory: Memory, sight: Sight) -> tuple[list[str], Memory]:
    changes, memory = compare(memory, sight, NOW.timestamp())
    return [change.text for change in changes], memory


def test_change_is_told_once_and_its_end_once() -> None:
    bad = seen({"api.models": False, "net.open": True}, {"tls.caddyfile": "drift", "tls.watch": "warn"})
    lines, memory = told(Memory(), bad)
    assert lines == ["api.models failed: api.models said", "tls.caddyfile has drifted: tls.caddyfile is drift"]
    assert told(memory, bad) == ([], memory)
    lines, memory = told(memory, seen({"api.models": True, "net.open": True}))
    assert lines == ["api.models works again: api.models said", "tls.caddyfile is in order again"]
    assert memory == Memory()


def test_row_that_could_not_be_tried_is_no_news() -> None:
    assert told(Memory(), seen({"api.chat": None})) == ([], Memory())
    _, memory = told(Memory(), seen({"api.chat": False}))
    assert told(memory, seen({"api.chat": None})) == ([], memory), "it has not been seen to work"


def test_row_of_another_mode_is_forgotten() -> None:
    _, memory = told(Memory(), seen({"http.redirect": False}))
    lines, memory = told(memory, seen({"api.chat": True}))
    assert (lines, memory) == ([], Memory())


@pytest.mark.parametrize("status", ["skipped", "blocked", "failed"])
def test_step_that_was_not_looked_at_to_its_end_has_nothing_in_order(status: str) -> None:
    _, memory = told(Memory(), seen({}, {"tls.caddyfile": "drift"}))
    assert told(memory, seen(statuses={"tls": status})) == ([], memory)
    lines, _ = told(memory, seen(statuses={"tls": "changed"}))
    assert lines == ["tls.caddyfile is in order again"]


def test_step_that_is_passed_over_now_has_no_trouble_any_more() -> None:
    _, memory = told(Memory(), seen({}, {"harden.watch": "drift"}, {"harden": "ok"}))
    lines, _ = told(memory, seen())
    assert lines == ["harden.watch is in order again"]


def test_what_was_drift_and_blocks_now_is_told_and_not_the_other_way_round() -> None:
    _, memory = told(Memory(), seen({}, {"tls.certificate": "drift"}))
    lines, memory = told(memory, seen({}, {"tls.certificate": "blocked"}, {"tls": "blocked"}))
    assert lines == ["tls.certificate blocks: tls.certificate is blocked"]
    lines, memory = told(memory, seen({}, {"tls.certificate": "drift"}))
    assert lines == []


def test_failure_counts_when_it_is_seen_twice_in_a_row() -> None:
    first, second = seen({"api.chat": False, "api.models": False}), seen({"api.chat": True, "api.models": False})
    assert new_troubles(Memory(), first) == {"api.chat", "api.models"}
    lines, memory = told(Memory(), confirmed(Memory(), first, second))
    assert lines == ["api.models failed: api.models said"]
    late = seen({"api.chat": True, "api.models": False, "net.open": False})
    lines, memory = told(memory, confirmed(memory, second, late))
    assert lines == [], "the second look's own news waits for the next one"
    assert told(memory, late)[0] == ["net.open failed: net.open said"]


def test_blocked_finding_is_the_one_that_counts_of_several_with_one_key() -> None:
    findings = [
        {"key": "firewall.denied", "level": level, "summary": level, "remedy": "do"}
        for level in ("ok", "drift", "blocked")
    ]
    sight = sight_of({"tests": [], "steps": [{"id": "firewall", "status": "blocked", "findings": findings}]})
    assert [(one.kind, one.summary) for one in sight.troubles.values()] == [("blocked", "blocked")]


# ── the certificate ──


def ending(mode: str, days: float, lifetime: float = 90, name: str = "one") -> Ending:
    end = NOW + timedelta(days=days)
    return Ending(mode, name, end - timedelta(days=lifetime), end)


STAGES = {
    ("custom", 31): "",
    ("custom", 30): "30",
    ("custom", 14.5): "30",
    ("custom", 13): "14",
    ("custom", 7): "7",
    ("custom", 0.1): "7",
    ("custom", 0): ENDED,
    ("acme", 29): "",  # Caddy is at it since day 30
    ("acme", 22.6): "",
    ("acme", 22): LATE,
    ("acme", -1): ENDED,
    ("internal", 91): "",
    ("internal", 90): "90",
    ("internal", 20): "30",
}


@pytest.mark.parametrize(("mode", "days"), STAGES)
def test_stage(mode: str, days: float) -> None:
    assert ending(mode, days).stage(NOW) == STAGES[mode, days]


def test_short_lived_certificates_of_an_acme_ca_are_told_of_by_the_share_that_is_left() -> None:
    assert ending("acme", 0.26 * 6, 6).stage(NOW) == ""
    assert ending("acme", 0.24 * 6, 6).stage(NOW) == LATE


def test_each_threshold_is_told_once_as_time_goes_by() -> None:
    memory, lines = Memory(), list[tuple[int, str]]()
    one = ending("custom", 40)
    for day in range(45):
        for hour in (0, 12):
            changes, memory = compare_certificate(memory, one, NOW + timedelta(days=day, hours=hour))
            lines += [(day, change.text) for change in changes]
    assert [day for day, _ in lines] == [10, 26, 33, 40]
    assert lines[0][1] == "the certificate ends in 30 days, on 2027-01-03 12:00 UTC"
    assert lines[-1][1] == "the certificate has ended, on 2027-01-03 12:00 UTC: no client accepts it"
    changes, memory = compare_certificate(memory, ending("custom", 90, name="two"), NOW)
    assert [change.event for change in changes] == ["certificate_renewed"]
    assert compare_certificate(memory, ending("custom", 90, name="two"), NOW) == ((), memory)


def test_clock_that_is_put_back_and_a_file_that_is_gone_tell_nothing_twice() -> None:
    one = ending("custom", 6)
    (change,), memory = compare_certificate(Memory(), one, NOW)
    assert change.is_bad and change.remedy
    for clock in (NOW - timedelta(days=10), NOW - timedelta(days=100)):
        assert compare_certificate(memory, one, clock) == ((), memory)
    assert compare_certificate(memory, None, NOW) == ((), memory)


def test_certificate_that_replaces_another_and_is_near_its_end_too_is_told_of() -> None:
    _, memory = compare_certificate(Memory(), ending("custom", 6), NOW)
    (change,), _ = compare_certificate(memory, ending("custom", 5, name="two"), NOW)
    assert change.text.startswith("the certificate ends in 5 days")


def test_new_root_is_told_of_a_season_before_and_nothing_that_is_below_it() -> None:
    (change,), _ = compare_certificate(Memory(), ending("internal", 89, 3600), NOW)
    assert change.text.startswith("Caddy's root certificate ends in 89 days")
    assert max(DAYS["internal"]) == 90


def test_last_refusal_of_the_ca_is_told_in_plain_words() -> None:
    other = line(9, "could not get certificate from issuer", identifier="other.test", error="x")
    said = read_refusal("\n".join([line(0.1, "obtaining certificate"), FAILS, other, "no JSON"]), DOMAIN)
    assert said.startswith("the CA's limit is reached: 5 certificates")
    assert read_refusal(line(0.1, "obtaining certificate"), DOMAIN) == ""
    assert BEGAN > 0


# ── what is remembered ──


def test_memory_is_read_as_it_was_written() -> None:
    notice = Change("failed", "api.chat", "x", NOW.timestamp()).as_json("gpu-1", "https://x/v1")
    memory = add(Memory({"api.chat": ("failed", "")}, ("id", "30")), (COMMAND, URL), (notice,))
    memory = memory.with_refused(URL, "no answer in time")
    assert read_memory(memory.dump().decode()) == memory
    assert notice["at"] == "2026-11-24T12:00:00Z"


@given(
    st.text()
    | st.recursive(st.none() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)).map(json.dumps)
)
def test_whatever_stands_in_the_file_is_answered(text: str) -> None:
    assert read_memory(text) == Memory()


@pytest.mark.parametrize(
    "text", ['{"troubles": [], "certificate": ["a", "b"], "waiting": {}, "refused": {}}', "[" * 9999]
)
def test_what_is_nearly_a_memory_is_none(text: str) -> None:
    assert read_memory(text) == Memory()


def test_what_waits_is_bounded_and_goes_with_its_way() -> None:
    notices = tuple({"text": str(number)} for number in range(MOST_WAITING + 7))
    memory = add(Memory(), (URL,), notices)
    assert next(iter(memory.waiting[URL]))["text"] == "7", "the newest are kept"
    memory = replace(memory, refused={URL: "x"})
    memory = add(memory, (COMMAND,), ())
    assert (memory.waiting[URL], memory.refused) == ((), {})
