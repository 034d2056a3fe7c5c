"""The watch as the step harden has it, what it delivers, and when it looks away; metrics, and who reads them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.altered import with_answers, with_files, with_listeners, with_new_command
from tests.unit.test_firewall import server as firewalled
from wizard import answers, certificate_end, commands, files, notices, paths, runs, watch
from wizard.caddyfile import render_caddyfile
from wizard.changes import Memory
from wizard.engine import Look, walk
from wizard.harden import metrics
from wizard.harden import watch as part
from wizard.model import TIMED_OUT, Finding, Level, Output, Remove, Run, Status
from wizard.owned import Owned
from wizard.prometheus import HEADING, exposition
from wizard.queries import show_units
from wizard.server import NOTHING, FileState, Listener, Request, Response
from wizard.steps import firewall, harden

COMMAND, HOOK = "/usr/local/bin/notify", "https://hook.example.com/T0KEN-of-the-hook"
PROM, PLACE = "/var/lib/metrics/vllm.prom", "/var/lib/metrics"
DIRECTORY, PROGRAM = FileState("directory", mode=0o755), FileState("file", b"#!/bin/sh\n", 0o755)
NOT_THERE = f"Id={paths.WATCH_TIMER}\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
ABOVE = {"/usr": DIRECTORY, "/usr/local": DIRECTORY, "/usr/local/bin": DIRECTORY}


def server(text: str, changed: Mapping[str, FileState | None] | None = None) -> Scenario:
    there = {**ABOVE, part.TIMER: None, part.SERVICE: None, COMMAND: PROGRAM, PLACE: DIRECTORY, PROM: None}
    base = with_new_command(scenario.load("finished"), show_units(paths.WATCH_TIMER), NOT_THERE)
    base = with_files(base, {**there, **(changed or {})})
    return with_answers(base, f"harden: {{{text}}}")


def found(scene: Scenario, owned: Owned | None = None) -> dict[str, Finding]:
    look = scene.look_within()
    return {one.key: one for one in part.check(replace(look, owned=owned) if owned else look)}


def test_watch_is_set_up_once_and_all_that_it_writes_is_known_as_ours() -> None:
    look, overlay = server(f"watch: true, prometheus_file: {PROM}").overlaid()
    look.server.units(*scenario.load("finished").units)
    (result,) = walk([harden.STEP], look)
    assert result.status is Status.CHANGED, result.problem
    timer = overlay.read(part.TIMER)
    assert timer is not None and "OnUnitInactiveSec=15min\n" in timer.text and "RandomizedDelaySec=90s\n" in timer.text
    assert [result.status for result in walk([harden.STEP], look)] == [Status.OK]
    undone = [one.argv for action in result.actions if isinstance(action, Run) for one in action.undo]
    assert ("systemctl", "disable", "--now", paths.WATCH_TIMER) in undone
    assert ("systemctl", "stop", paths.WATCH_SERVICE) in undone and ("rm", "-f", "--", PROM) in undone


def test_time_limit_leaves_the_model_its_own_twice() -> None:
    scene = server("watch: true}\ntest: {timeout: 1000")
    assert "TimeoutStartSec=5000s\n" in part.unit_files(scene.look())[part.SERVICE]


def test_nothing_is_looked_for_where_no_watch_is_wanted_or_known() -> None:
    look = scenario.load("finished").look_within()
    assert list(part.check(look)) == [], "the described server knows nothing of the units, and is not asked"


def test_what_an_earlier_run_left_goes_with_the_watch() -> None:
    units = {part.TIMER: FileState("file", b"x"), part.SERVICE: FileState("file", b"x"), PROM: FileState("file", b"")}
    make, gone = (*part.MAKE, PROM), ("rm", "-f", "--", PROM)
    owned = (
        Owned().after_write(part.TIMER, b"x").after_write(part.SERVICE, b"x").before_command(make, (gone,), "harden")
    )
    seen = found(server("max_body: 1MB", units), owned)
    assert [key for key, one in seen.items() if one.level is Level.DRIFT] == [
        "harden.prometheus_left",
        "harden.watch_left",
    ]
    fix = [one for finding in seen.values() for one in finding.fix]
    assert [one.path for one in fix if isinstance(one, Remove)] == [part.TIMER, part.SERVICE]
    assert next(one.argv for one in fix if isinstance(one, Run)) == gone
    again = found(server("max_body: 1MB", {**units, part.TIMER: None}), owned)
    assert [one.path for one in again["harden.watch_left"].fix if isinstance(one, Remove)] == [part.SERVICE]


FLAWS: dict[str, tuple[dict[str, FileState | None], str]] = {
    "missing": ({COMMAND: None}, "there is no such file"),
    "a link": ({COMMAND: FileState("link", b"/tmp/x")}, "is a link, not a program"),
    "another's": ({COMMAND: replace(PROGRAM, owner="alice")}, "belongs to alice"),
    "a group's": ({COMMAND: replace(PROGRAM, mode=0o775)}, "writable by others (mode 0775)"),
    "everybody's": ({COMMAND: replace(PROGRAM, mode=0o757)}, "writable by others (mode 0757)"),
    "no program": ({COMMAND: replace(PROGRAM, mode=0o644)}, "can't be executed (mode 0644)"),
    "in another's directory": ({"/usr/local": replace(DIRECTORY, owner="alice")}, "/usr/local belongs to alice"),
    "in an open directory": (
        {"/usr/local/bin": replace(DIRECTORY, mode=0o777)},
        "/usr/local/bin is writable by others",
    ),
    "behind a link": ({"/usr/local": FileState("link", b"/home/alice")}, "/usr/local is a link"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_program_that_others_could_change_is_refused(flaw: str) -> None:
    files, words = FLAWS[flaw]
    one = found(server(f"watch: true, notify_command: {COMMAND}", files))["harden.notify_command"]
    assert one.level is Level.BLOCKED and words in one.summary and one.remedy


PLACES: dict[str, tuple[dict[str, FileState | None], str]] = {
    "no directory": ({PLACE: None}, "there is no such directory"),
    "another's directory": ({PLACE: replace(DIRECTORY, owner="prometheus")}, "belongs to prometheus"),
    "open directory": ({PLACE: replace(DIRECTORY, mode=0o1777)}, "writable by others"),
    "another's file": ({PROM: FileState("file", b"other 1\n")}, "not from here"),
    "a link": ({PROM: FileState("link", b"/etc/shadow")}, "not from here"),
}


@pytest.mark.parametrize("place", PLACES)
def test_metrics_are_written_over_nothing_of_others(place: str) -> None:
    files, words = PLACES[place]
    one = found(server(f"watch: true, prometheus_file: {PROM}", files))["harden.prometheus_file"]
    assert one.level is Level.BLOCKED and words in one.summary


def test_address_of_the_webhook_is_masked() -> None:
    scene = server(f'watch: true, notify_url: "{HOOK}"')
    look = scene.look_within()
    (one, *_) = part.check(look)
    assert (one.key, one.summary) == ("harden.notify_url", "changes are posted to hook.example.com")
    assert "T0KEN" not in look.mask.text(f"posted to {HOOK}, and refused")


# ── delivery ──


TAKEN, ACCEPTED = Output(0), Response(204)


@dataclass
class Ways:
    """A machine whose program and web address answer as they are told; what each was given."""

    output: Output = TAKEN
    response: Response = ACCEPTED
    told: list[Any] = field(default_factory=list)

    def command(self, argv: tuple[str, ...], *, stdin: bytes = b"", timeout_s: float = 60) -> Output:
        self.told.append((argv, timeout_s, json.loads(stdin)))
        return self.output

    def exchange(self, request: Request) -> Response:
        self.told.append((request, request.timeout_s, json.loads(request.body)))
        return self.response


def deliver(ways: Ways, memory: Memory, text: str = f'notify_command: {COMMAND}, notify_url: "{HOOK}"') -> Any:
    look, said, kept = server(f"watch: true, {text}").look_within(), list[str](), list[Memory]()
    memory = notices.deliver(ways, look, memory, kept.append, lambda line, is_bad: said.append(line))  # type: ignore[arg-type]
    assert not kept or kept[-1] == memory
    return memory, said


NEWS = ({"text": "first"}, {"text": "second"})


def test_each_change_goes_every_way_in_its_order() -> None:
    ways = Ways()
    memory, said = deliver(ways, notices.add(Memory(), (notices.COMMAND, notices.URL), NEWS))
    assert [told for _, _, told in ways.told] == [*NEWS, *NEWS] and said == []
    assert (ways.told[0][0], ways.told[0][1]) == ((COMMAND,), 30)
    request = ways.told[2][0]
    assert (request.method, request.address, request.port, request.path) == (
        "POST",
        "hook.example.com",
        443,
        "/T0KEN-of-the-hook",
    )
    assert (request.tls, request.server_name, request.ca_file, request.timeout_s) == (True, "hook.example.com", "", 10)
    assert dict(memory.waiting) == {notices.COMMAND: (), notices.URL: ()}


REFUSALS = {
    "exit code": (Ways(Output(3, "", "no relay")), f"{COMMAND} ended with exit code 3: no relay"),
    "time": (Ways(Output(TIMED_OUT)), f"{COMMAND} took longer than 30 s, and was ended"),
    "redirect": (Ways(response=Response(302)), "hook.example.com answered 302"),
    "silence": (Ways(response=replace(NOTHING, error="no answer in time")), "hook.example.com: no answer in time"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_is_said_once_and_kept_until_it_is_taken(case: str) -> None:
    ways, words = REFUSALS[case]
    way = notices.COMMAND if COMMAND in words else notices.URL
    memory, said = deliver(ways, notices.add(Memory(), (notices.COMMAND, notices.URL), NEWS))
    assert said == [f"{way}: {words}; it is tried again with each look"]
    assert memory.waiting[way] == NEWS, "the first that is refused holds up those after it"
    memory, said = deliver(ways, notices.add(memory, (way,), ()))
    assert said == []
    memory, said = deliver(Ways(), memory)
    assert said == [f"{way}: takes notices again"] and memory.waiting[way] == () and memory.refused == {}


# ── a look ──

STATUS: dict[str, Any] = {
    "exit_code": 0,
    "endpoint": {"base_url": "https://10.0.0.5/v1"},
    "steps": [],
    "tests": [{"id": "api.chat", "ok": True, "detail": "", "remedy": None}],
}
BROKEN = {**STATUS, "exit_code": 1, "tests": [{"id": "api.chat", "ok": False, "detail": "no answer", "remedy": None}]}


@dataclass
class Looks:
    """What each look finds, the last one again and again; and how often there was one."""

    finds: list[dict[str, Any]]
    count: int = 0
    said: list[str] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        self.count += 1
        return self.finds.pop(0) if len(self.finds) > 1 else self.finds[0]

    def watch(self, pause_s: float = 0) -> list[str]:
        self.said.clear()
        watch.watch(lambda line, is_bad: self.said.append(line), pause_s)
        return list(self.said)


@pytest.fixture
def looks(own_paths: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looks]:
    found = Looks([STATUS])
    files.write(paths.ANSWERS, b"version: 1\ntls: {mode: internal}\nharden: {watch: true}\n", mode=0o600)
    files.make_directories(paths.STATE)
    monkeypatch.setattr(paths, "WATCH_SEEN", f"{paths.STATE}/watch.json")
    monkeypatch.setattr(commands, "status", found.status)
    monkeypatch.setattr(certificate_end, "find_ending", lambda look: None)
    yield found


def test_failure_that_passes_is_not_told_and_one_that_lasts_is_told_once(looks: Looks) -> None:
    assert (looks.watch(), looks.count) == ([], 1)
    looks.finds = [BROKEN, STATUS]
    assert (looks.watch(), looks.count) == ([], 3)
    looks.finds = [BROKEN]
    assert looks.watch() == ["api.chat failed: no answer"]
    assert (looks.watch(), looks.count) == ([], 6), "what was told needs no second look"
    looks.finds = [STATUS]
    assert looks.watch() == ["api.chat works again:"]
    assert os.stat(paths.WATCH_SEEN).st_mode & 0o777 == 0o600


def test_run_that_is_under_way_is_not_looked_at(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    looks.finds = [BROKEN]
    with runs.Lock("r1", "apply"):
        assert (looks.watch(), looks.count) == ([], 0)
    began: list[runs.Holder | None] = [None, runs.Holder("r2", "apply", 1, "now")]
    monkeypatch.setattr(runs, "find_holder", lambda: began.pop(0) if len(began) > 1 else began[0])
    assert (looks.watch(), looks.count) == ([], 1)
    assert not Path(paths.WATCH_SEEN).exists()
    stranger = runs.Holder("", "sleep", 1, "", "alice")
    monkeypatch.setattr(runs, "find_holder", lambda: stranger)
    assert looks.watch() == ["api.chat failed: no answer"], "nobody can silence the watch by holding the lock"


def test_two_at_once_are_one(looks: Looks) -> None:
    descriptor = os.open(paths.STATE, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert (looks.watch(), looks.count) == ([], 0)
    os.close(descriptor)
    looks.watch()
    assert looks.count == 1


@pytest.mark.parametrize("text", ["", "nonsense", '{"troubles": 7}', "\0"])
def test_memory_that_is_damaged_is_made_anew(looks: Looks, text: str) -> None:
    Path(paths.WATCH_SEEN).write_text(text)
    looks.finds = [BROKEN]
    assert looks.watch() == ["api.chat failed: no answer"]
    assert looks.watch() == []


def test_server_that_was_never_set_up_is_said_to_be_one(looks: Looks) -> None:
    Path(paths.ANSWERS).unlink()
    with pytest.raises(commands.NoAnswers):
        looks.watch()


# ── metrics ──


def test_text_file_says_what_was_seen() -> None:
    rows = [{"id": "api.chat", "ok": None}, {"id": 'a"b', "ok": False}, {"id": "net.open", "ok": True}]
    steps = [{"findings": [{"level": "ok"}, {"level": "ok"}, {"level": "drift"}]}]
    text = exposition({"exit_code": 1, "tests": rows, "steps": steps}, None, 1795594005.6)
    assert text.startswith(HEADING)
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert samples == [
        "vllm_https_setup_up 0",
        'vllm_https_setup_test_ok{id="api.chat"} NaN',
        'vllm_https_setup_test_ok{id="a\\"b"} 0',
        'vllm_https_setup_test_ok{id="net.open"} 1',
        'vllm_https_setup_findings{level="ok"} 2',
        'vllm_https_setup_findings{level="info"} 0',
        'vllm_https_setup_findings{level="warn"} 0',
        'vllm_https_setup_findings{level="drift"} 1',
        'vllm_https_setup_findings{level="blocked"} 0',
        "vllm_https_setup_last_run_timestamp_seconds 1795594006",
    ]


def test_metrics_are_a_site_of_their_own_for_the_scrapers_and_this_server() -> None:
    look = server("metrics_from: [10.0.0.9, 'fd00:1::/64']").look()
    text = render_caddyfile(look, "127.0.0.1:8000")
    site = text[text.index("# Metrics") :]
    assert "http://:9180 {\n\t@stranger not remote_ip 127.0.0.0/8 ::1 10.0.0.9 fd00:1::/64\n" in site
    assert "\n\tmetrics\n" in text[: text.index("# Metrics")]
    plain = render_caddyfile(server("metrics_from: []").look(), "127.0.0.1:8000")
    assert "metrics" not in plain and plain.endswith("}\n")


def look_of(text: str, *more: Listener, answers: str = "") -> Look:
    return with_listeners(
        server(f"metrics_from: [{text}]}}\n{answers or 'firewall: {manage: true'}"), *more
    ).look_within()


def test_what_metrics_cost_and_what_is_in_their_way_is_said() -> None:
    site = FileState("file", b"x")

    def keys(look: Look) -> dict[str, Level]:
        return {one.key: one.level for one in metrics.check(look)}

    assert keys(look_of("10.0.0.9")) == {"harden.metrics": Level.OK}
    assert keys(look_of("10.0.0.9, 8.8.8.8"))["harden.metrics_public"] is Level.WARN
    busy = look_of("10.0.0.9", Listener("0.0.0.0", 9180, "mongod", 7, "mongod.service"))
    assert keys(busy) == {"harden.metrics_port": Level.BLOCKED}
    assert "harden.metrics" in keys(look_of("10.0.0.9", Listener("::", 9180, "caddy", 7, "caddy.service")))
    assert keys(look_of("10.0.0.9", answers="firewall: {manage: false"))["harden.metrics_open"] is Level.INFO
    kept = with_files(server("metrics_from: [10.0.0.9]"), {"/etc/caddy/vllm-https.caddy": site})
    assert keys(kept.look_within())["harden.metrics_option"] is Level.WARN


CONFLICTS = {
    "metrics_from: [0.0.0.0/0]": ["harden.metrics_from[0]"],
    "metrics_from: [10.0.0.9, '::/0']": ["harden.metrics_from[1]"],
    "metrics_from: [10.0.0.9], metrics_port: 443": ["harden.metrics_port"],
    "metrics_from: [10.0.0.9], metrics_port: 2019": ["harden.metrics_port"],
    "metrics_from: [10.0.0.9], metrics_port: 8000": ["harden.metrics_port"],
    "metrics_from: [10.0.0.9], metrics_port: 22": ["harden.metrics_port"],
    "metrics_from: [10.0.0.9], metrics_port: 9200": [],
    "metrics_port: 443": [],
}


@pytest.mark.parametrize("text", CONFLICTS)
def test_port_of_the_metrics_is_nobody_elses(text: str) -> None:
    known: list[str] = []
    try:
        answers.load(f"version: 1\ntls: {{mode: internal}}\nharden: {{{text}}}\n".encode())
    except answers.AnswersError as error:
        known = [one.key for one in error.errors]
    assert known == CONFLICTS[text]


def test_firewall_lets_each_scraper_in_and_closes_again() -> None:
    asked = "harden: {metrics_from: [10.0.0.9, 'fd00:1::/64'], metrics_port: 9200}"
    scene = firewalled("guide", answers=f"version: 1\ntls: {{mode: internal}}\n{asked}\n")
    look, overlay = scene.overlaid()
    look.server.units(*scene.units)
    (result,) = walk([firewall.STEP], look)
    assert result.status is Status.CHANGED, result.problem
    rules = [one for one in result.actions if isinstance(one, Run) and "9200" in one.argv]
    assert [one.argv for one in rules] == [
        ("ufw", "allow", "from", source, "to", "any", "port", "9200", "proto", "tcp", "comment", "metrics")
        for source in ("10.0.0.9", "fd00:1::/64")
    ]
    assert [one.status for one in walk([firewall.STEP], look)] == [Status.OK]
    owned = Owned()
    for one in rules:
        owned = owned.before_command(one.argv, tuple(undo.argv for undo in one.undo), "firewall")
    off = replace(look, answers=firewalled("guide").look().answers, owned=owned)
    (result,) = walk([firewall.STEP], off)
    assert [one.argv[:2] for one in result.actions if isinstance(one, Run) and "9200" in one.argv] == [
        ("ufw", "delete")
    ] * 2
    assert not [rule for rule in overlay.firewall().rules if rule.port == "9200"]
