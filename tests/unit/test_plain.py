"""The wizard line by line, on described servers: every way through it, and not one escape byte."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.servers import scenario
from tests.servers.gateway import RUN, DescribedGateway
from tests.unit import certificates
from tests.unit.test_dns import ELSEWHERE, HERE, Internet, zone
from wizard import paths
from wizard.answers import AnswersError, load
from wizard.described import DescribedMachine, NotDescribed
from wizard.draft import Draft
from wizard.engine import fingerprints
from wizard.gateway import Document, Opening
from wizard.model import Output, TestRow
from wizard.plain import PAGES, Plain
from wizard.plain_lines import Console, Lines, Teller
from wizard.progress import OPEN_ANOTHER, PROOF
from wizard.runs import Busy, Holder
from wizard.safety import Proof
from wizard.server import Address, DnsAnswer, FileState, Listener, Request, Response

ENTER = ""
TYPED_NOTHING = 0.002
TYPES = Callable[["Script"], str | None]


class Script(Lines):
    """Types these lines, then nothing more: the line is lost. `meanwhile` is asked while a run is followed."""

    def __init__(self, *lines: str, encoding: str = "utf-8", meanwhile: TYPES | None = None) -> None:
        self.encoding = encoding
        self.left = list(lines)
        self.shown = ""
        self._meanwhile = meanwhile

    def write(self, text: str) -> None:
        self.shown += text

    def read(self) -> str:
        if not self.left:
            raise EOFError
        line = self.left.pop(0)
        self.shown += f"<{line}>\n"
        return line

    def forget(self) -> None:
        """Each line is typed at its own question."""

    def typed(self, wait_s: float) -> str | None:
        time.sleep(TYPED_NOTHING)
        return self._meanwhile(self) if self._meanwhile is not None else None


class Enters(Script):
    """Enter for ever."""

    def read(self) -> str:
        self.left = [ENTER]
        return super().read()


def walk(gateway: DescribedGateway, *lines: str, meanwhile: TYPES | None = None) -> tuple[int, str]:
    script = Script(*lines, meanwhile=meanwhile)
    return run(gateway, script), script.shown


def run(gateway: DescribedGateway, script: Script) -> int:
    """The exit code; what was shown has passed the checks that hold for all output."""
    code = Plain(gateway, script).run()
    assert not [char for char in script.shown if (ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0]
    # What is there to be copied is as it is: a shell takes no broken line.
    told = script.shown.partition("Your API is at")[0]
    assert [line for line in told.split("\n") if len(line) > 79] == []
    assert all(char not in script.shown for char in "✓✗")
    script.shown.encode(script.encoding)
    return code


def gateway_of(name: str, **more: Any) -> DescribedGateway:
    return DescribedGateway(scenario.load(name), **more)


def opening(gateway: DescribedGateway, **more: Any) -> Opening:
    return replace(gateway.open(), **more)


def to_step(name: str) -> list[str]:
    """Enter up to the step's first question, from the opening on, where no step before it asks anything."""
    return [ENTER] * next(number for number, step in enumerate(PAGES, 1) if step.id == name)


# ── the way through ──


def test_enter_alone_sets_up_mode_internal() -> None:
    gateway, script = gateway_of("exposed"), Enters()
    assert run(gateway, script) == 0
    assert [draft.data["tls"] for draft in gateway.started] == [{"mode": "internal"}]
    assert all(f"Step {number} of 6: {step.title}" in script.shown for number, step in enumerate(PAGES, 1))
    assert "vLLM restarts once: some minutes without an API" in script.shown and "SSH stays open" in script.shown
    assert f"/var/log/vllm-https-setup/{RUN}.log" in script.shown
    assert "https://10.91.1.2/v1" in script.shown and "phi-4-mini" in script.shown


def test_plan_that_is_started_is_the_one_that_was_shown() -> None:
    gateway, script = gateway_of("exposed"), Enters()
    assert run(gateway, script) == 0
    planned = scenario.load("exposed").planned()
    assert any(fingerprints(planned).values())
    for change in (change for result in planned for change in result.changes if change.kind == "run"):
        assert "".join(" ".join(change.argv).split()) in "".join(script.shown.replace("'", "").split()), change


def test_failing_row_of_the_final_test_says_what_to_do_and_ends_with_5() -> None:
    row = TestRow("api.chat", False, "502", 1, "ask vLLM itself")
    gateway, script = gateway_of("exposed", rows=(row,)), Enters()
    assert run(gateway, script) == 5
    assert "FAILED    api.chat: 502" in script.shown and "ask vLLM itself" in script.shown


def test_every_word_fits_an_ascii_terminal() -> None:
    gateway, script = gateway_of("exposed"), Enters(encoding="ascii")
    assert run(gateway, script) == 0
    assert script.shown.isascii()
    assert "... SSH proved from outside" in script.shown


def test_demo_is_marked_on_every_page() -> None:
    script = Enters()
    run(gateway_of("exposed", is_demo=True), script)
    titles = [line for line in script.shown.splitlines() if line.startswith(("Step ", "Review"))]
    assert len(titles) == len(PAGES) + 1
    assert "DEMO" in script.shown and all(title.endswith("(demo)") for title in titles)


# ── the modes ──


class OnTheInternet(DescribedMachine):
    """In the world of test_dns, with a chain and a key on disk; what is not described is not there."""

    address = HERE
    files: Mapping[str, bytes] = {}

    def read(self, path: str) -> FileState | None:
        if path in self.files:
            return FileState("file", self.files[path], 0o600, "root", "root")
        return self.description.files.get(path)

    def command(self, argv: Sequence[str], **more: Any) -> Output:
        """A unit that nobody described is one that systemd does not know."""
        try:
            return super().command(argv, **more)
        except NotDescribed:
            assert tuple(argv[:2]) == ("systemctl", "show"), argv
            units = argv[argv.index("--") + 1 :]
            blocks = (f"Id={unit}\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n" for unit in units)
            return Output(0, "\n".join(blocks))

    def names(self, directory: str) -> tuple[str, ...]:
        return self.description.directories.get(directory, ())

    def addresses(self) -> tuple[Address, ...]:
        return (Address("eth0", HERE, primary=True),)

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer:
        return Internet(zone(A=(self.address,))).resolve(name, kind, server)

    def exchange(self, request: Request) -> Response:
        try:
            return super().exchange(request)
        except NotDescribed:
            return Response(404)

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response:
        return self.description.fetches.get(url, Response(200, b'{"newOrder": "https://ca/"}'))


class Elsewhere(OnTheInternet):
    address = ELSEWHERE


class WithGrafana(OnTheInternet):
    def listeners(self) -> tuple[Listener, ...]:
        return (*self.description.listeners, Listener("0.0.0.0", 3000, "grafana", 77, "grafana.service"))


def test_mode_acme_asks_for_what_it_needs_and_looks_at_dns() -> None:
    gateway = gateway_of("exposed", machine=OnTheInternet)
    code, shown = walk(gateway, *to_step("tls"), "2", "llm.example.com", "ops@example.com", ENTER, ENTER, ENTER, "yes")
    assert code == 0
    assert gateway.started[0].data["tls"] == {
        "mode": "acme",
        "domain": "llm.example.com",
        "email": "ops@example.com",
    }
    assert f"llm.example.com leads to this server: {HERE}" in shown
    assert gateway.kept[-1] == gateway.started[0]


def test_wrong_dns_blocks_and_is_looked_at_again_after_another_domain() -> None:
    gateway = gateway_of("exposed", machine=Elsewhere)
    lines = [*to_step("tls"), "acme", "llm.example.com", "ops@example.com"]
    code, shown = walk(gateway, *lines, ENTER, "b", "b", "b", "1", *[ENTER] * 5)
    assert code == 0
    assert "TLS is BLOCKED" in shown and ELSEWHERE in shown
    # What was answered for the other mode is not lost.
    assert gateway.started[0].data["tls"] == {
        "mode": "internal",
        "domain": "llm.example.com",
        "email": "ops@example.com",
    }


PAIR = ("/etc/ssl/llm/chain.pem", "/etc/ssl/llm/key.pem")


@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_mode_custom_checks_the_files_as_soon_as_both_are_named(
    monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    gateway = gateway_of("exposed", machine=OnTheInternet)
    now = datetime.fromtimestamp(gateway.described.description.now, UTC)
    begins, ends = now - certificates.DAY, now + 60 * certificates.DAY
    ca = certificates.make_ca("Example Root", begins=begins, ends=ends)
    leaf = certificates.make("llm", ca, names=(certificates.DOMAIN,), begins=begins, ends=ends)
    key = (leaf if is_right else certificates.OTHER).key_pem
    monkeypatch.setattr(OnTheInternet, "files", dict(zip(PAIR, (leaf.pem + ca.pem, key), strict=True)))
    code, shown = walk(gateway, *to_step("tls"), "3", certificates.DOMAIN, *PAIR, *[ENTER] * 4)
    assert (code, len(gateway.started)) == ((0, 1) if is_right else (3, 0))
    assert ("TLS is BLOCKED" in shown) != is_right
    assert gateway.kept[-1].data["tls"] == {
        "mode": "custom",
        "domain": certificates.DOMAIN,
        "certificate": PAIR[0],
        "private_key": PAIR[1],
    }
    assert "PRIVATE KEY" not in shown and key.split()[3].decode() not in "".join(shown.split())


# ── answers ──


def problem_in_words(text: str) -> str:
    """What `answers check` says of this one, without its line."""
    with pytest.raises(AnswersError) as raised:
        load(text.encode())
    (problem,) = raised.value.errors
    return str(problem).partition(": ")[2]


WRONG: tuple[tuple[Sequence[str], str], ...] = (
    (["acme2"], "version: 1\ntls: {mode: acme2}\n"),
    (["2", "nonsense"], "version: 1\ntls: {mode: acme, domain: nonsense, email: ops@example.com}\n"),
    (["2", ENTER], "version: 1\ntls: {mode: acme, email: ops@example.com}\n"),
    (["2", "llm.example.com", "nobody"], "version: 1\ntls: {mode: acme, domain: llm.example.com, email: nobody}\n"),
    (["3", "llm.example.com", "chain.pem"], ""),
    (["1", "10.0.0.5, 10.0.0.5"], "version: 1\ntls: {mode: internal, hosts: [10.0.0.5, 10.0.0.5]}\n"),
)


@pytest.mark.parametrize(("lines", "text"), WRONG, ids=lambda value: value[-1] if isinstance(value, list) else "")
def test_wrong_answer_is_asked_again_in_the_words_of_answers_check(lines: Sequence[str], text: str) -> None:
    gateway = gateway_of("exposed", machine=OnTheInternet)
    code, shown = walk(gateway, *to_step("tls"), *lines)
    assert code == 0 and gateway.started == []
    text = text or (
        "version: 1\n"
        "tls: {mode: custom, domain: llm.example.com, certificate: chain.pem, private_key: /etc/ssl/key.pem}\n"
    )
    flat = " ".join(shown.split())
    assert problem_in_words(text) in flat
    # The last question stands again: its prompt is the last line but those of leaving.
    prompts = [line for line in shown.splitlines() if line.rstrip().endswith(":")]
    assert prompts[-1].split(" (")[0] in shown.rpartition(problem_in_words(text)[:20])[2]


def test_number_that_is_not_in_the_list_is_asked_again() -> None:
    code, shown = walk(gateway_of("exposed"), *to_step("tls"), "7", "0", "1")
    assert code == 0
    assert "'7' is not in the list: a number from 1 to 3" in shown and "'0' is not in the list" in shown


def test_answers_are_taken_back_with_a_sign() -> None:
    gateway = gateway_of("exposed")
    walk(gateway, *to_step("tls"), ENTER, "llm.lan, 10.0.0.5", "b", "-")
    assert [draft.data["tls"].get("hosts") for draft in gateway.kept] == [["llm.lan", "10.0.0.5"], None]


def test_services_are_kept_reachable_by_their_numbers() -> None:
    gateway = gateway_of("exposed", machine=WithGrafana)
    code, shown = walk(gateway, ENTER, ENTER, "1", ENTER, "b", "1", ENTER)
    assert code == 0
    rule = {"port": 3000, "comment": "grafana"}
    assert [draft.given("firewall.allow") for draft in gateway.kept] == [[rule], None]
    assert "3000/tcp (grafana) will no longer be reachable" in shown
    assert "  1  no   3000/tcp grafana" in shown and "  1  yes  3000/tcp grafana" in shown


def test_question_mark_explains_the_step_and_the_key() -> None:
    flat = " ".join(walk(gateway_of("exposed"), *to_step("tls"), "?")[1].split())
    assert "who vouches for the certificate" in flat
    assert "Certificate (tls.mode): internal (Caddy's own CA), acme" in flat
    flat = " ".join(walk(gateway_of("exposed"), "?", ENTER, "?")[1].split())
    assert "Answers are kept when you leave" in flat and "vLLM must be a systemd unit" in flat


def test_w_shows_what_a_step_will_do() -> None:
    _, shown = walk(gateway_of("exposed"), *to_step("bind"))
    assert "Will do: 1 command, 1 file written, 1 wait; vLLM restarts" in shown
    assert "$ systemctl restart vllm.service" not in shown
    _, shown = walk(gateway_of("exposed"), *to_step("bind"), "w", "q")
    assert "--host 127.0.0.1" in shown and "$ systemctl restart vllm.service" in shown


# ── back, and leaving ──


def test_back_goes_to_the_question_before_and_the_step_before_and_loses_nothing() -> None:
    gateway = gateway_of("exposed", machine=OnTheInternet)
    there = [*to_step("tls"), "2", "llm.example.com", "ops@example.com"]
    # From the end of TLS: three questions back, then to Caddy, Bind, Firewall; and all the way forward by Enter.
    code, shown = walk(gateway, *there, *"bbbbbb", *[ENTER] * 3, *[ENTER] * 3, *[ENTER] * 4)
    assert code == 0
    assert gateway.started[0].data["tls"] == {
        "mode": "acme",
        "domain": "llm.example.com",
        "email": "ops@example.com",
    }
    assert "[llm.example.com]" in shown and "[ops@example.com]" in shown and "A number [2]" in shown
    assert shown.count("Step 2 of 6") == 2 and shown.count("Step 1 of 6") == 1


def test_back_from_the_first_page_and_from_the_review() -> None:
    _, shown = walk(gateway_of("exposed"), "b", ENTER, "b", ENTER, ENTER)
    assert shown.count("Step 1 of 6") == 2 and shown.count("Enter = begin") == 3
    _, shown = walk(gateway_of("exposed"), *to_step("tls"), *[ENTER] * 5, "b", "q")
    assert shown.count("Step 6 of 6") == 2 and "Review" in shown


@pytest.mark.parametrize("lines", [["q"], [ENTER, "q"], [ENTER] * 8 + ["q"], [ENTER] * 8 + ["no"], [], [ENTER] * 3])
def test_leaving_before_the_start_changes_nothing_and_says_so(lines: list[str]) -> None:
    gateway = gateway_of("exposed")
    code, shown = walk(gateway, *lines)
    assert (code, gateway.started, gateway.settled) == (0, [], [])
    assert shown.endswith("Nothing was changed. Your answers are kept for the next start.\n")


def test_ctrl_c_before_the_start_says_what_state_that_leaves() -> None:
    class Interrupted(Script):
        def read(self) -> str:
            raise KeyboardInterrupt

    script = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        Plain(gateway_of("exposed"), script).run()
    assert "Nothing was changed." in script.shown


# ── a check that blocks ──


def test_blocked_step_says_what_to_type_and_is_left_with_3() -> None:
    gateway = gateway_of("key-refused")
    code, shown = walk(gateway, *to_step("caddy"), ENTER, "q")
    assert code == 3 and gateway.started == []
    assert "ask Caddy's maintainers" in shown and "Step 5" not in shown
    assert [again for _, again in gateway.looks] == [False, True]


def test_blocked_step_left_backwards_is_left_with_0() -> None:
    code, _ = walk(gateway_of("key-refused"), *to_step("caddy"), "b", "q")
    assert code == 0


def test_blocked_step_is_checked_again_and_goes_on_once_it_is_put_right() -> None:
    gateway = gateway_of("no-key", repaired=scenario.load("exposed"))
    script = Enters()
    assert run(gateway, script) == 0
    assert script.shown.count("Preflight is BLOCKED") == 1 and len(gateway.started) == 1


def test_what_may_be_let_pass_is_let_pass() -> None:
    gateway = gateway_of("no-gpu", machine=OnTheInternet)
    code, shown = walk(gateway, ENTER, "1", ENTER)
    assert gateway.kept[-1].data["preflight"] == {"accept": ["preflight.gpu"]}
    assert code == 0 and "Preflight is BLOCKED" not in shown
    assert "warning   no GPU answers" in shown


# ── the review ──


def test_answers_are_saved_and_the_script_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("mine")
    gateway = gateway_of("exposed")
    lines = ["s", ENTER, "x", "there", "n", "x", "there", "y", "s", "b", "x", "there/below"]
    code, shown = walk(gateway, *to_step("tls"), *[ENTER] * 5, *lines, "q")
    assert code == 0 and gateway.started == []
    (saved, text), *_ = gateway.saved
    assert (saved, load(text.encode())) == (f"{tmp_path}/answers.yaml", gateway.open().draft.answers())
    assert (tmp_path / "there").read_text() == "#!/bin/sh\n"
    assert "could not be written" in " ".join(shown.split())


def test_wrong_answers_of_an_earlier_draft_are_named_and_taken_out() -> None:
    gateway = gateway_of("exposed")
    data = {**gateway.open().draft.data, "proxy": {"read_timeout": "soon"}}
    gateway.opening = opening(gateway, draft=Draft(data))
    code, shown = walk(gateway, *to_step("tls"), *[ENTER] * 5, ENTER, ENTER)
    assert code == 0
    assert "proxy.read_timeout: " in shown and "proxy" not in gateway.started[0].data


def test_answers_that_lack_what_the_mode_needs_are_asked_for() -> None:
    gateway = gateway_of("exposed", machine=OnTheInternet)
    gateway.opening = opening(
        gateway, draft=Draft({**gateway.open().draft.data, "tls": {"mode": "acme"}}), was_set_up=True
    )
    code, shown = walk(gateway, ENTER, ENTER, ENTER, "q")
    assert code == 0
    assert "tls.domain: mode acme needs this key" in " ".join(shown.split())
    assert "Domain (the name that clients call)" in shown


# ── a server that was set up before ──


def test_healthy_server_is_tested_and_left_alone() -> None:
    gateway = gateway_of("finished")
    gateway.opening = opening(gateway, was_set_up=True)
    code, shown = walk(gateway, ENTER)
    assert (code, gateway.started, gateway.kept) == (0, [], [])
    assert "All is in order" in shown and "net.closed" in shown and "/etc/vllm-https-setup/root.crt" in shown


@pytest.mark.parametrize("lines", [[ENTER], ["q"], []])
def test_server_whose_final_test_fails_is_left_with_5(lines: list[str]) -> None:
    gateway = gateway_of("finished", rows=(TestRow("api.chat", False, "502", 1, "ask vLLM"),))
    gateway.opening = opening(gateway, was_set_up=True)
    assert walk(gateway, *lines)[0] == 5


def test_healthy_server_can_be_given_other_answers() -> None:
    gateway = gateway_of("finished", machine=OnTheInternet)
    gateway.opening = opening(gateway, was_set_up=True)
    code, shown = walk(gateway, "c", *[ENTER] * 10)
    assert code == 0 and len(gateway.settled) + len(gateway.started) == 1
    assert "Step 1 of 6" in shown


def test_drifted_server_is_put_right_by_enter() -> None:
    gateway = gateway_of("firewall-off-after-finish")
    gateway.opening = opening(gateway, was_set_up=True)
    code, shown = walk(gateway, ENTER, ENTER)
    assert code == 0 and len(gateway.started) == 1
    assert "not as its saved answers say" in shown and "to do     ufw is off" in shown
    assert "Step 1" not in shown and "$ ufw --force enable" in shown


def test_run_that_was_cut_off_is_completed() -> None:
    gateway = gateway_of("killed-in-firewall")
    gateway.opening = opening(gateway, cut_off="20261124T101500Z-0000")
    code, shown = walk(gateway, ENTER, ENTER)
    assert code == 0 and len(gateway.started) == 1
    assert "Run 20261124T101500Z-0000 was cut off" in shown


def test_run_that_was_cut_off_with_nothing_left_to_do_is_settled() -> None:
    gateway = gateway_of("finished")
    gateway.opening = opening(gateway, cut_off="20261124T101500Z-0000", was_set_up=True)
    code, _ = walk(gateway, ENTER)
    assert code == 0 and len(gateway.settled) == 1 and gateway.started == []


# ── a run ──


def at_proof(for_s: float = 57, began: float = 0) -> tuple[Document, Document]:
    change = {
        "kind": "wait",
        "for": "SSH proved from outside (port 22)",
        "timeout_s": for_s,
        "why": "",
        "impact": "none",
    }
    doubt = "no packet could be sent to 10.0.0.5 port 22. Open a second SSH session now: it is noticed by itself"
    at = time.time() - began
    return (
        {"at": at, "event": "action_began", "step": "firewall", "change": change},
        {"at": at, "event": "progress", "text": doubt},
    )


def under_way(*events: Document | Callable[[], bool]) -> DescribedGateway:
    gateway = gateway_of("exposed", events=events)
    gateway.opening = opening(gateway, run=RUN)
    return gateway


def test_run_under_way_is_followed_from_its_beginning() -> None:
    done = {"at": 1.0, "event": "step_began", "step": "preflight", "title": "Preflight"}
    gateway = under_way(done)
    code, shown = walk(gateway)
    assert code == 0 and gateway.looks == []
    assert f"Run {RUN} is under way" in shown and "\nPreflight\n" in shown


def test_the_firewalls_proof_is_known_by_its_words() -> None:
    waits = [change.wait_for for result in scenario.load("exposed").planned() for change in result.changes]
    assert len([what for what in waits if what.startswith(PROOF)]) == 1
    described = scenario.load("exposed")
    about = described.description
    reached = {target: replace(reach, state="unknown") for target, reach in about.reached.items()}
    files = {**about.files, paths.CONFIRMED: None}
    unsure = replace(about, connections={(22,): ()}, files=files, reached=reached)
    look = replace(described, description=unsure).look()
    doubted = Proof(look, (22,))(look.server)
    assert doubted.done is None and OPEN_ANOTHER in doubted.words


def once(line: str) -> TYPES:
    """The line, typed when the program has said what can be typed."""
    typed: list[str] = []

    def type_it(script: Script) -> str | None:
        if typed or "type yes and Enter here" not in " ".join(script.shown.split()):
            return None
        typed.append(line)
        return line

    return type_it


def test_firewall_that_is_not_proved_is_confirmed_by_a_line() -> None:
    gateway = under_way(*at_proof(), lambda: gateway.confirmed > 0)
    code, shown = walk(gateway, meanwhile=once("yes"))
    flat = " ".join(shown.split())
    assert code == 0 and gateway.confirmed == 1
    assert "Open a second SSH session now: it is noticed by itself." in flat
    assert "put back in 57 seconds" in flat or "put back in 56 seconds" in flat


def test_other_words_confirm_nothing() -> None:
    heard: list[bool] = []
    gateway = under_way(*at_proof(), lambda: bool(heard))

    def hear(script: Script) -> str | None:
        if "q and Enter = leave it running" in " ".join(script.shown.split()):
            heard.append(True)
        return once("no")(script)

    _, shown = walk(gateway, meanwhile=hear)
    assert gateway.confirmed == 0 and "Confirmed" not in shown


def test_yes_without_a_doubt_confirms_nothing() -> None:
    gateway = under_way(lambda: "under way. Ctrl-C" in " ".join(script.shown.split()))
    script = Script(meanwhile=lambda _: "yes")
    assert run(gateway, script) == 0
    assert gateway.confirmed == 0


def test_proof_whose_time_is_over_asks_for_nothing() -> None:
    _, shown = walk(under_way(*at_proof(began=600)))
    assert "type yes" not in shown


def interrupting(then: str) -> TYPES:
    """Ctrl-C at first, then this line."""
    steps: Iterator[str | None] = iter([None, then])

    def type_it(script: Script) -> str | None:
        if "Stop after the current action?" not in script.shown:
            os.kill(os.getpid(), signal.SIGINT)
            return None
        return next(steps, None)

    return type_it


def test_ctrl_c_asks_and_stops_after_the_current_action() -> None:
    gateway = under_way(lambda: bool(gateway.stopped))
    code, shown = walk(gateway, meanwhile=interrupting("y"))
    assert code == 0 and gateway.stopped == [RUN]
    assert "the next start completes it" in " ".join(shown.split())


def test_ctrl_c_and_enter_goes_on() -> None:
    gateway = under_way(lambda: "It goes on." in script.shown)
    script = Script(meanwhile=interrupting(ENTER))
    assert run(gateway, script) == 0
    assert gateway.stopped == []


def test_ctrl_c_twice_leaves_the_run_to_itself() -> None:
    def interrupt(script: Script) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    gateway = under_way(lambda: False)
    before = signal.getsignal(signal.SIGINT)
    code, shown = walk(gateway, meanwhile=interrupt)
    assert code == 0 and gateway.stopped == []
    assert shown.endswith("To see it again: sudo vllm-https-setup\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_lost_line_leaves_the_run_to_itself() -> None:
    def lose(script: Script) -> None:
        raise EOFError

    gateway = under_way(lambda: False)
    code, shown = walk(gateway, meanwhile=lose)
    assert code == 0 and "The run goes on by itself" in shown and gateway.stopped == []


def test_q_leaves_the_run_to_itself() -> None:
    code, shown = walk(under_way(lambda: False), meanwhile=lambda _: "q")
    assert code == 0 and "The run goes on by itself" in shown


def test_run_that_somebody_else_began_meanwhile_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> str:
        raise Busy(Holder("20261124T101500Z-ffff", "apply", 7, "just now"))

    gateway, script = gateway_of("exposed", events=({"event": "end"},)), Enters()
    monkeypatch.setattr(gateway, "start", busy)
    monkeypatch.setattr(gateway, "_events", [{"event": "step_began", "title": "Theirs"}])
    assert run(gateway, script) == 0
    assert "another run is under way: apply 20261124T101500Z-ffff" in " ".join(script.shown.split())
    assert "Theirs" in script.shown


def test_run_whose_end_nobody_wrote_ends_as_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from wizard.journal import read_report

    gateway = under_way()
    monkeypatch.setattr(gateway, "report", read_report)
    code, shown = walk(gateway)
    assert code == 1 and "was killed before its end" in shown


# ── lines ──


def test_text_from_the_machine_drives_no_terminal() -> None:
    hostile = "\x1b]0;title\x07\x1b[31mred\x9b5m \x07bell\rback\x1b"
    event = {"at": 1.0, "event": "progress", "text": hostile}
    row = {"event": "test", "id": "api.chat", "ok": False, "detail": hostile, "ms": 1, "remedy": hostile}
    _, shown = walk(under_way(event, row))
    assert "red" in shown and "bell" in shown


@pytest.mark.parametrize("indent", [0, 10, 90, 400])
def test_line_is_never_too_long_and_loses_no_word(indent: int) -> None:
    script = Script()
    words = [f"word{number}" for number in range(40)] + ["x" * 200]
    Teller(script).say(" " * indent + " ".join(words), "  ")
    assert "".join(script.shown.split()) == "".join(words)
    assert max(map(len, script.shown.splitlines())) <= 79


@pytest.fixture
def line() -> Iterator[tuple[int, Console]]:
    """The operator's end of a terminal, and the program's."""
    ours, theirs = pty.openpty()
    with open(theirs, closefd=False) as typed, open(theirs, "w", closefd=False) as shown:
        yield ours, Console(typed, shown)
    for descriptor in (ours, theirs):
        os.close(descriptor)


@pytest.mark.allow_writes("/dev/pts")
def test_console_reads_a_line_at_a_time(line: tuple[int, Console]) -> None:
    ours, console = line
    assert console.typed(0) is None
    os.write(ours, b"one\ntwo\nhal")
    assert [console.read(), console.read(), console.typed(0)] == ["one", "two", None]
    os.write(ours, "f é\n".encode())
    assert console.typed(5) == "half é"
    os.write(ours, b"\x04")
    with pytest.raises(EOFError):
        console.read()
