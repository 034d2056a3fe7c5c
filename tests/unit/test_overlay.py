"""The overlay: what actions make true is seen, what none has touched is answered below, and nothing is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard.model import (
    Action,
    CaddyRuns,
    Effect,
    FileCopied,
    FileIs,
    FirewallIs,
    ListensOn,
    PackageIs,
    Remove,
    RuleIs,
    Run,
    Secret,
    UnitIs,
    VllmAnswers,
    Write,
)
from wizard.overlay import Overlay
from wizard.paths import CADDYFILE
from wizard.server import FileState, Request

SCRIPT = "/opt/vllm/start-vllm.sh"
ENV = "/etc/vllm/vllm.env"


@pytest.fixture
def overlay() -> Overlay:
    return scenario.load("exposed").without(directories=("/var/lib/lists",)).overlaid()[1]


def make(overlay: Overlay, *effects: Effect) -> None:
    overlay.perform(Run(("true",), "why", makes=effects))


def test_untouched_overlay_answers_as_the_server_below(overlay: Overlay) -> None:
    below = overlay.below
    assert overlay.read(SCRIPT) == below.read(SCRIPT)
    assert overlay.units("vllm.service") == below.units("vllm.service")
    assert overlay.listeners() == below.listeners()
    assert overlay.firewall() == below.firewall()
    assert overlay.packages("ufw", "caddy") == below.packages("ufw", "caddy")
    assert overlay.addresses() == below.addresses()
    assert overlay.differences() == {}


def test_what_is_performed_is_noted_in_order_and_never_reaches_the_server_below(overlay: Overlay) -> None:
    actions: list[Action] = [Write("/etc/a", b"1", "why"), Remove("/etc/a", "why"), Run(("true",), "why")]
    assert all(overlay.perform(action).ok for action in actions)
    assert overlay.performed == actions


def test_written_file_is_read_back_and_removed_file_is_gone(overlay: Overlay) -> None:
    overlay.perform(Write(SCRIPT, b"new", "why", mode=0o600, owner="caddy", group="caddy"))
    assert overlay.read(SCRIPT) == FileState("file", b"new", 0o600, "caddy", "caddy")
    overlay.perform(Remove(SCRIPT, "why"))
    assert overlay.read(SCRIPT) is None
    assert overlay.differences() == {f"file {SCRIPT}": None}


def test_written_file_keeps_its_attributes_where_that_is_asked(overlay: Overlay) -> None:
    before = overlay.read(SCRIPT)
    assert before is not None and before.owner == "vllm"
    overlay.perform(Write(SCRIPT, b"new", "why", keep_attributes=True))
    assert overlay.read(SCRIPT) == replace(before, content=b"new")


def test_copied_file_has_what_its_source_has_then(overlay: Overlay) -> None:
    make(overlay, FileIs("/a", b"1", 0o600, "caddy", "caddy"), FileCopied("/a", "/b", 0o644), FileIs("/a", b"2"))
    assert overlay.read("/b") == FileState("file", b"1", 0o644, "root", "root")


def test_unit_changes_on_the_side_that_is_named(overlay: Overlay) -> None:
    make(overlay, UnitIs("vllm.service", active=False))
    unit = overlay.units("vllm.service")["vllm.service"]
    assert (unit.is_active, unit.is_enabled, unit.exists) == (False, True, True)
    make(overlay, UnitIs("vllm.service", enabled=False))
    unit = overlay.units("vllm.service")["vllm.service"]
    assert (unit.is_active, unit.is_enabled) == (False, False)
    make(overlay, UnitIs("vllm.service", exists=False))
    assert not overlay.units("vllm.service")["vllm.service"].exists
    make(overlay, UnitIs("vllm.service", active=True, enabled=True))
    assert overlay.differences() == {}


def test_listeners_of_a_unit_are_replaced_and_others_stay(overlay: Overlay) -> None:
    others = [one for one in overlay.listeners() if one.unit != "vllm.service"]
    make(overlay, ListensOn("vllm.service", (("127.0.0.1", 8000),)))
    own = [one for one in overlay.listeners() if one.unit == "vllm.service"]
    assert [(one.address, one.port) for one in own] == [("127.0.0.1", 8000)]
    assert [one for one in overlay.listeners() if one.unit != "vllm.service"] == others
    make(overlay, ListensOn("vllm.service", (("0.0.0.0", 8000),)))
    assert overlay.listeners() == overlay.below.listeners()


def test_rule_is_there_for_both_families_once_and_goes_again(overlay: Overlay) -> None:
    make(overlay, RuleIs("443", "tcp", comment="HTTPS"), RuleIs("443", "tcp", comment="HTTPS"))
    assert [(rule.port, rule.family) for rule in overlay.firewall().rules] == [("443", 4), ("443", 6)]
    make(overlay, RuleIs("22", "tcp", "fd00::/8"))
    assert [rule.family for rule in overlay.firewall().rules if rule.port == "22"] == [6]
    make(overlay, RuleIs("443", "tcp", present=False), RuleIs("22", "tcp", "fd00::/8", present=False))
    assert overlay.differences() == {}


def test_rule_that_is_there_already_changes_nothing() -> None:
    overlay = scenario.load("half-done").overlaid()[1]
    make(overlay, RuleIs("443", "tcp", comment="HTTPS"))
    assert overlay.differences() == {}


def test_firewall_changes_on_the_side_that_is_named(overlay: Overlay) -> None:
    make(overlay, FirewallIs(active=True), FirewallIs(incoming="reject"))
    firewall = overlay.firewall()
    assert (firewall.enabled, firewall.loaded, firewall.defaults.input) == (True, True, "reject")


def test_package_is_installed_and_removed(overlay: Overlay) -> None:
    make(overlay, PackageIs("caddy", True))
    assert overlay.packages("caddy")["caddy"].installed
    make(overlay, PackageIs("caddy", False))
    assert overlay.differences() == {}


def test_vllm_answers_as_the_effects_say(overlay: Overlay) -> None:
    request = Request("127.0.0.1", 8000, path="/v1/models")
    keyed = replace(request, bearer=Secret("any"))
    make(overlay, VllmAnswers(8000, ready=False))
    assert overlay.vllm_ready(request).error == "connection refused"
    make(overlay, VllmAnswers(8000))
    assert (overlay.vllm_ready(request).status, overlay.vllm_ready(keyed).status) == (401, 200)


def test_caddy_runs_what_its_file_said_when_it_was_told(overlay: Overlay) -> None:
    make(overlay, FileIs(CADDYFILE, b"one"), CaddyRuns(CADDYFILE))
    assert overlay.caddy_runs(CADDYFILE) is True
    make(overlay, FileIs(CADDYFILE, b"two"))
    assert overlay.caddy_runs(CADDYFILE) is False
    make(overlay, CaddyRuns(CADDYFILE))
    assert overlay.caddy_runs(CADDYFILE) is True


def test_names_of_a_directory_follow_its_files(overlay: Overlay) -> None:
    make(overlay, FileIs("/var/lib/lists/b", b""), FileIs("/var/lib/lists/a", b""), FileIs("/var/lib/lists/sub/c", b""))
    assert overlay.names("/var/lib/lists") == ("a", "b")
    make(overlay, FileIs("/var/lib/lists/a", None))
    assert overlay.names("/var/lib/lists") == ("b",)


def test_overlay_on_an_overlay_leaves_the_lower_one_alone(overlay: Overlay) -> None:
    upper = Overlay(overlay)
    make(upper, FileIs("/a", b"1"), UnitIs("vllm.service", active=False))
    assert upper.read("/a") is not None
    assert overlay.performed == []
    assert overlay.units("vllm.service")["vllm.service"].is_active
