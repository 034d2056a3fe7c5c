"""The demo: every scene and mode through the real steps, at once, and nothing of the machine below touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers import scenario
from wizard import journal, paths
from wizard.answers import Answers, AnswersError
from wizard.demo import SCENES, DemoGateway
from wizard.described import NotDescribed
from wizard.draft import LEAST, Draft
from wizard.engine import walk
from wizard.gateway import Document, Gateway, Seen
from wizard.model import SetupError, TestRow
from wizard.steps import STEPS

INTERNAL = Draft(LEAST)
ACME = Draft({"version": 1, "tls": {"mode": "acme", "domain": "llm.example.com", "email": "ops@example.com"}})
FILES = {"certificate": "/etc/ssl/llm/chain.pem", "private_key": "/etc/ssl/llm/key.pem"}
CUSTOM = Draft({"version": 1, "tls": {"mode": "custom", "domain": "llm.example.com", **FILES}})
MODES = {"internal": INTERNAL, "acme": ACME, "custom": CUSTOM}
KEY = "sk-demo-Zq4vT81mYcR0pXwL7uKd"
# So that the minute in which the firewall waits for a person is half a second.
QUICK = 0.01


def look(gateway: Gateway, draft: Draft, *, again: bool = False) -> Seen:
    told: list[str] = []
    seen = gateway.look(draft, lambda step: told.append(step.step.id), again=again)
    assert told == [step.step.id for step in seen.steps]
    return seen


def findings(seen: Seen, *levels: str) -> set[str]:
    return {one["key"] for step in seen.steps for one in step.report["findings"] if one["level"] in levels}


def rows(gateway: Gateway, draft: Draft) -> dict[str, bool | None]:
    told: list[Document] = []
    found = gateway.prove(draft, told.append)
    assert found == told
    return {row["id"]: row["ok"] for row in found}


@dataclass
class Followed:
    """A run followed to its end."""

    report: Document
    events: list[Document] = field(default_factory=list)

    def of(self, kind: str) -> list[Document]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def progress(self) -> list[str]:
        return [event["text"] for event in self.of("progress")]


def run(
    gateway: Gateway, draft: Draft = INTERNAL, at: Callable[[Document, str], None] = lambda event, run: None
) -> Followed:
    """Starts what a look has found, and follows it; `at` is told of each event."""
    started = gateway.start(draft, look(gateway, draft))
    events = []
    for event in gateway.follow(started):
        events.append(event)
        at(event, started)
    return Followed(gateway.report(started), events)


# ── scenes ──


@pytest.mark.parametrize("scene", SCENES)
def test_scene_opens_and_is_looked_at(scene: str) -> None:
    gateway = DemoGateway(scene, 0)
    opening = gateway.open()
    assert (opening.host, opening.system) == ("gpu-01", "Ubuntu 24.04.3 LTS")
    assert opening.was_set_up == (scene == "drifted")
    assert opening.run is None and opening.cut_off is None
    assert opening.draft.problems() == ()
    seen = look(gateway, opening.draft)
    assert seen.base_url == "https://203.0.113.7/v1"
    assert seen.can_start == (scene != "blocked")
    assert all(one.about for one in SCENES.values())


def test_scene_that_is_none_is_refused_with_the_names_of_those_that_are() -> None:
    with pytest.raises(SetupError) as refused:
        DemoGateway("freesh")
    assert all(scene in refused.value.remedy for scene in SCENES)


def test_fresh_server_is_exposed_and_two_services_would_be_cut_off() -> None:
    gateway = DemoGateway("fresh", 0)
    seen = look(gateway, INTERNAL)
    assert findings(seen, "blocked") == set()
    assert findings(seen, "warn") == {"firewall.cuts_off"}
    firewall = seen.step("firewall")
    assert firewall is not None
    assert [choice.value["port"] for choice in firewall.questions[0].choices] == [3000, 9100]
    before = rows(gateway, INTERNAL)
    assert {name for name, ok in before.items() if ok is None} == {"api.chat", "api.stream"}
    assert not any(before.values())


@pytest.mark.parametrize("scene", ["fresh", "exposed", "drifted"])
def test_services_are_confined_and_caddy_is_administered_by_its_socket(scene: str) -> None:
    draft = Draft({**LEAST, "harden": {"sandbox": ["caddy", "vllm"], "admin_socket": True}})
    report = run(DemoGateway(scene, 0), draft).report
    assert report["exit_code"] == 0
    found = {one["key"]: one["level"] for step in report["steps"] for one in step["findings"]}
    assert (found["harden.sandbox"], found["harden.admin_socket"]) == ("ok", "ok")


def test_exposed_server_has_a_firewall_that_lets_everybody_reach_vllm() -> None:
    gateway = DemoGateway("exposed", 0)
    seen = look(gateway, INTERNAL)
    assert {"firewall.enabled", "firewall.ssh_port"} <= findings(seen, "ok")
    assert "firewall.other_open" in findings(seen, "info")
    assert rows(gateway, INTERNAL)["net.closed"] is False
    assert run(gateway).report["exit_code"] == 0
    assert rows(gateway, INTERNAL)["net.closed"] is True


def test_drifted_server_is_repaired() -> None:
    gateway = DemoGateway("drifted", 0)
    draft = gateway.open().draft
    assert findings(look(gateway, draft), "drift") == {
        *("firewall.enabled", "firewall.proof", "firewall.safety", "tls.caddyfile")
    }
    assert rows(gateway, draft)["api.blocked"] is False
    repaired = run(gateway, draft)
    assert repaired.report["exit_code"] == 0
    assert look(gateway, draft, again=True).changes == []
    assert set(rows(gateway, draft).values()) == {True}


def test_blocked_server_has_been_put_right_when_it_is_checked_again() -> None:
    gateway = DemoGateway("blocked", 0)
    seen = look(gateway, INTERNAL)
    assert seen.blocked is not None and seen.blocked.step.id == "preflight"
    assert findings(seen, "blocked") == {"preflight.api_key"}
    # Another look, without being asked for a new check, finds the same.
    assert not look(gateway, INTERNAL).can_start
    assert look(gateway, INTERNAL, again=True).can_start
    assert run(gateway).report["exit_code"] == 0


def test_broken_run_puts_the_script_back_and_the_next_one_succeeds() -> None:
    gateway = DemoGateway("broken", 0)
    failed = run(gateway)
    assert failed.report["exit_code"] == 1 and failed.report["failed"] and failed.report["changed"]
    statuses = {step["id"]: step["status"] for step in failed.report["steps"]}
    assert (statuses["firewall"], statuses["bind"], statuses["caddy"]) == ("changed", "failed", "skipped")
    assert failed.progress[-1].startswith("vLLM has failed: torch.OutOfMemoryError")
    bind = next(step for step in failed.report["steps"] if step["id"] == "bind")
    written = [change for change in bind["changes"] if change["kind"] == "write"]
    assert "-  --host 0.0.0.0" in written[0]["diff"] and "+  --host 0.0.0.0" in written[1]["diff"]
    assert failed.report["tests"] == []
    assert "bind.launch_script" in findings(look(gateway, INTERNAL, again=True), "drift")
    again = run(gateway)
    assert again.report["exit_code"] == 0 and again.report["run"] != failed.report["run"]


# ── modes ──


@pytest.mark.parametrize("mode", MODES)
def test_mode_is_set_up_and_every_row_passes(mode: str) -> None:
    gateway, draft = DemoGateway("fresh", 0), MODES[mode]
    done = run(gateway, draft)
    assert done.report["exit_code"] == 0
    proved = rows(gateway, draft)
    assert {row["id"]: row["ok"] for row in done.report["tests"]} == proved
    assert set(proved.values()) == {True}
    assert ("http.redirect" in proved) == (mode != "internal")
    after = look(gateway, draft, again=True)
    assert after.changes == [] and findings(after, "drift", "blocked") == set()
    assert done.report["endpoint"]["model"] == "phi-4-mini"
    assert gateway.open().was_set_up and gateway.open().draft == draft


def test_modes_follow_each_other_on_one_server() -> None:
    gateway = DemoGateway("fresh", 0)
    for draft in (ACME, CUSTOM, INTERNAL):
        done = run(gateway, draft).report
        assert done["exit_code"] == 0 and {row["ok"] for row in done["tests"]} == {True}
    assert look(gateway, INTERNAL).changes == []


def test_staging_ca_is_used_and_nobody_trusts_it() -> None:
    gateway = DemoGateway("fresh", 0)
    draft = ACME.put("tls.acme_directory", "https://acme-staging-v02.api.letsencrypt.org/directory")
    done = run(gateway, draft)
    assert done.report["exit_code"] == 0
    assert [row["id"] for row in done.report["tests"] if row["ok"] is None] == ["tls.trusted"]
    assert "tls.staging" in findings(look(gateway, draft), "warn")


@pytest.mark.parametrize(
    ("domain", "key"),
    [
        ("elsewhere.example.com", "tls.dns_address"),
        ("llm.ipv6.example.com", "tls.dns_ipv6"),
        ("unknown.example.com", "tls.dns_address"),
        ("llm.unknown.com", "tls.dns_address"),
        ("llm.invalid", "tls.dns_address"),
        ("caa.example.com", "tls.dns_caa"),
    ],
)
def test_name_shows_its_problem_and_no_other(domain: str, key: str) -> None:
    seen = look(DemoGateway("fresh", 0), ACME.put("tls.domain", domain))
    assert findings(seen, "blocked") == {key}


def test_any_other_name_leads_to_the_server_and_has_authority() -> None:
    seen = look(DemoGateway("fresh", 0), ACME.put("tls.domain", "api.münchen.example"))
    assert findings(seen, "blocked") == set()
    assert {"tls.dns_address", "tls.dns_authoritative", "tls.dns_caa", "tls.clock"} <= findings(seen, "ok")


def test_certificate_files_are_right_for_the_domain_that_is_typed_last() -> None:
    gateway = DemoGateway("fresh", 0)
    for domain in ("a.example.com", "b.example.com"):
        assert look(gateway, CUSTOM.put("tls.domain", domain)).can_start
    old = CUSTOM.put("tls.certificate", "/etc/ssl/old/chain.pem").put("tls.private_key", "/etc/ssl/old/key.pem")
    assert findings(look(gateway, old), "blocked") == {"tls.certificate_refused"}
    absent = CUSTOM.put("tls.certificate", "/etc/ssl/absent.pem")
    assert findings(look(gateway, absent), "blocked") == {"tls.certificate"}


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("vllm.unit", "llm.service", "preflight.vllm_unit"),
        ("vllm.launch_script", "/opt/elsewhere.sh", "preflight.launch_script"),
        ("vllm.env_file", "/etc/elsewhere.env", "preflight.env_file"),
        ("caddy.key_fingerprint", "A" * 40, "caddy.keyring"),
    ],
)
def test_answer_of_a_visitor_that_the_server_does_not_know_is_a_finding(key: str, value: str, found: str) -> None:
    assert findings(look(DemoGateway("fresh", 0), INTERNAL.put(key, value)), "blocked") == {found}


def test_what_no_answer_names_and_no_description_has_is_an_error() -> None:
    gateway = DemoGateway("fresh", 0)
    server = gateway._stage.server
    with pytest.raises(NotDescribed):
        server.read("/etc/passwd")
    with pytest.raises(NotDescribed):
        server.query(("uname", "-a"))
    with pytest.raises(NotDescribed):
        server.names("/etc")


# ── a run ──


def keys(events: list[Document]) -> dict[str, set[str]]:
    return {event["event"]: set(event) for event in events}


def test_events_have_the_shapes_of_a_journal(own_paths: Path) -> None:
    name = "20261124T101500Z-1f3a"
    look, _ = scenario.load("exposed").overlaid()
    journal.prepare(name, {"command": "apply", "began": 0.0}, INTERNAL.dump(), {})
    book = journal.Journal(name, look.mask)
    walk(STEPS, look, book)
    book.command("true")
    book.output("said\n")
    book.ended(0, 0.1)
    book.progress("loading")
    book.tested(TestRow("api.models", True, "200", 1.0))
    book.close()
    events, _ = journal.read_events(name)
    own = {"run": {"at", "event", "run", "command"}, "end": {"at", "event", "exit_code"}}
    assert keys(run(DemoGateway("fresh", 0)).events) == {**keys(events), **own}


def test_run_tells_what_a_person_would_see() -> None:
    followed = run(DemoGateway("fresh", 0))
    assert (followed.events[0]["event"], followed.events[-1]["event"]) == ("run", "end")
    assert "Loading safetensors checkpoint shards:  67% Completed | 2/3" in followed.progress
    assert "a packet from outside reached SSH, and the rules let the operator in" in followed.progress
    said = "".join(event["text"] for event in followed.of("output"))
    assert "Setting up caddy (2.11.7)" in said and "Firewall is active" in said
    changed = [event["change"] for event in followed.of("action_began")]
    assert changed == [change for step in followed.report["steps"] for change in step["changes"]]
    assert followed.report["run"] == followed.events[0]["run"] == "20261124T101500Z-demo"


def test_run_is_followed_from_its_beginning_whenever_one_comes() -> None:
    gateway = DemoGateway("fresh", 0)
    followed = run(gateway)
    name = followed.report["run"]
    assert list(gateway.follow(name)) == followed.events
    assert "ended with exit code 0" in gateway.log(name)
    with pytest.raises(SetupError):
        gateway.report("20200101T000000Z-0000")


def test_stop_ends_the_run_after_the_action_that_it_is_at() -> None:
    gateway = DemoGateway("fresh", 0.002)

    def stop(event: Document, name: str) -> None:
        if event["event"] == "action_began" and event["step"] == "firewall":
            gateway.stop(name)

    stopped = run(gateway, at=stop)
    assert stopped.report["exit_code"] == 1
    firewall = next(step for step in stopped.report["steps"] if step["id"] == "firewall")
    assert "stopped as asked" in firewall["findings"][0]["summary"]
    assert {step["status"] for step in stopped.report["steps"][2:]} == {"skipped"}
    assert len(stopped.of("action_began")) == len(stopped.of("action_ended"))
    assert run(gateway).report["exit_code"] == 0


def test_firewall_that_no_packet_proves_is_confirmed_by_a_person() -> None:
    gateway = DemoGateway("fresh", QUICK, proof=False)

    def confirm(event: Document, name: str) -> None:
        if event["event"] == "progress" and "Open a second SSH session now" in event["text"]:
            gateway.confirm()

    confirmed = run(gateway, at=confirm)
    assert "the operator has confirmed that SSH lets new connections in" in confirmed.progress
    statuses = {step["id"]: step["status"] for step in confirmed.report["steps"]}
    assert {statuses[name] for name in ("firewall", "bind", "caddy", "tls")} == {"changed"}
    assert "firewall.enabled" in findings(look(gateway, INTERNAL), "ok")


def test_firewall_that_nobody_proves_is_put_back() -> None:
    gateway = DemoGateway("fresh", 0, proof=False)
    before = findings(look(gateway, INTERNAL), "drift")
    late = run(gateway)
    assert late.report["exit_code"] == 1
    assert [event["line"] for event in late.of("command")].count(f"systemctl start {paths.REVERT_SERVICE}") == 1
    firewall = next(step for step in late.report["steps"] if step["id"] == "firewall")
    assert "The firewall was put back as it was before" in firewall["findings"][0]["summary"]
    assert findings(look(gateway, INTERNAL), "drift") == before


def test_a_look_and_a_proof_go_on_beside_a_run() -> None:
    gateway = DemoGateway("fresh", 0.002)

    def beside(event: Document, name: str) -> None:
        if event["event"] == "step_ended":
            assert gateway.open().run in (name, None)
            look(gateway, INTERNAL, again=True)
            rows(gateway, INTERNAL)

    assert run(gateway, at=beside).report["exit_code"] == 0


# ── what leaves it ──


def test_key_is_masked_in_all_that_comes_out() -> None:
    gateway = DemoGateway("fresh", 0)
    seen = look(gateway, CUSTOM)
    script = gateway.export(CUSTOM)
    followed = run(gateway, CUSTOM)
    told = [followed.events, followed.report, [step.report for step in seen.steps]]
    shown = json.dumps(told) + gateway.log(followed.report["run"]) + script
    assert KEY not in shown and "PRIVATE KEY" not in shown and "/etc/ssl/llm/key.pem" in shown
    state = gateway._stage.server.read("/etc/vllm/vllm.env")
    assert state is not None and KEY in state.text


def test_nothing_is_written_and_it_is_said() -> None:
    gateway = DemoGateway("fresh", 0)
    with pytest.raises(SetupError, match="this is the demo: nothing is written"):
        gateway.write("/root/answers.yaml", INTERNAL.dump().decode())
    gateway.keep(ACME)
    assert gateway.open().draft == INTERNAL
    gateway.settle(ACME)
    assert gateway.open().draft == ACME


def test_plan_is_exported_as_a_script_for_the_simulated_server() -> None:
    gateway = DemoGateway("fresh", 0)
    script = gateway.export(ACME)
    assert script.startswith("#!/bin/sh") and "gpu-01" in script and "llm.example.com" in script
    assert DemoGateway("blocked", 0).export(INTERNAL) == ""


def test_request_of_the_operator_arrives_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = DemoGateway("fresh")
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert gateway.arrived(993.0) == ""
    assert gateway.arrived(991.9) == "198.51.100.20 has used it: 200"


def test_answers_that_lack_something_are_not_started() -> None:
    gateway = DemoGateway("fresh", 0)
    draft = Draft({"version": 1, "tls": {"mode": "acme"}})
    seen = look(gateway, draft)
    assert not seen.can_start
    with pytest.raises(AnswersError):
        gateway.start(draft, seen)


def test_pinned_key_is_nowhere_an_answer() -> None:
    """The simulated repository has another key than the real one: no draft and no default speaks of it."""
    gateway = DemoGateway("fresh", 0)
    assert gateway.open().draft.given("caddy.key_fingerprint") is None
    assert Answers.defaults().caddy.key_fingerprint != gateway._stage.fingerprint


def test_what_was_hardened_is_turned_off_again_and_not_reported_as_left() -> None:
    gateway = DemoGateway("fresh", 0)
    for draft in (Draft({**LEAST, "harden": {"watch": True, "metrics_from": ["10.0.0.9"]}}), INTERNAL):
        run = gateway.start(draft, look(gateway, draft, again=True))
        for _ in gateway.follow(run):
            pass
        report = gateway.report(run)
        assert (report["exit_code"], report["changed"]) == (0, True)
    assert [step["findings"] for step in report["steps"] if step["id"] == "harden"] == [[]]
