"""The exported script: plain shell, right for each described server, and with no secret in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.servers import scenario
from tests.servers.recording import CANARY
from wizard import script
from wizard.described import DescribedMachine
from wizard.endpoint import base_url
from wizard.engine import Look, Step, StepResult, walk
from wizard.facts import Facts
from wizard.mask import Mask
from wizard.model import Finding, Level, Run, SetupError, Status, Wait, Write
from wizard.overlay import Overlay
from wizard.script import Notes, write_script
from wizard.server import FileState
from wizard.session import plan_exit_code
from wizard.steps import STEPS

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
LAUNCH = "/opt/vllm/start-vllm.sh"
TOKEN = "hf_Kd83nXw0ZzPq51Lm"


def planned(look: Look) -> tuple[tuple[StepResult, ...], Notes]:
    notes = Notes()
    return walk(STEPS, replace(look, server=Overlay(look.server)), notes), notes


def scriptable() -> list[str]:
    """The described servers whose plan can be carried out."""
    return [name for name in scenario.names() if plan_exit_code(scenario.load(name).planned()) == 0]


def export(look: Look) -> str:
    results, notes = planned(look)
    return write_script(look, results, notes, base_url(look), "2026-11-24 10:15:00 UTC")


def export_actions(actions: Sequence[Run | Write | Wait], look: Look) -> str:
    """A script of just these, as one finding's fix."""
    finding = Finding("tls.test", Level.DRIFT, "as a test has it", fix=tuple(actions))
    step = Step("tls", "TLS", lambda look: [finding])
    notes = Notes()
    for action in actions:
        before = look.server.read(action.path) if isinstance(action, Write) else None
        notes.planned.setdefault("tls", []).append(script.Planned(action, before))
    results = [StepResult(step, Status.CHANGED, (finding,), actions=tuple(actions))]
    return write_script(look, results, notes, "", "now")


def with_file(look: Look, path: str, state: FileState) -> Look:
    """The same server, with another file in one place."""
    machine = look.server
    assert isinstance(machine, Facts)
    assert isinstance(machine.machine, DescribedMachine)
    described = machine.machine.description
    changed = replace(described, files={**described.files, path: state})
    return replace(look, server=Facts(DescribedMachine(changed)), mask=Mask())


@pytest.fixture
def exposed() -> Look:
    return scenario.load("exposed").look()


@pytest.mark.allow_commands("shellcheck")
@pytest.mark.parametrize("name", scriptable())
def test_script_of_each_described_server_passes_shellcheck(name: str) -> None:
    try:
        text = export(scenario.load(name).look())
    except SetupError as error:
        assert name == "killed-in-firewall", error
        assert "never proved" in error.message
        return
    checked = subprocess.run([SHELLCHECK, "-s", "sh", "-"], input=text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", scriptable())
def test_script_has_each_action_of_the_plan_with_its_reason(name: str) -> None:
    look = scenario.load(name).look()
    try:
        text = export(look)
    except SetupError:
        return
    # Commands are broken into lines at their words.
    whole = " ".join(text.replace("\\\n", " ").replace("\n# ", " ").split())
    results, _ = planned(scenario.load(name).look())
    for result in results:
        for finding in result.seen:
            assert finding.summary in whole
        for action in result.actions:
            if isinstance(action, Run):
                assert script.command(action.argv).replace("\\\n", " ").split()[-1] in whole.split()
            assert isinstance(action, Wait) or " ".join(action.why.split()) in whole
            if isinstance(action, Wait):
                assert action.shell in whole


@pytest.mark.parametrize("name", scriptable())
def test_script_has_no_secret(name: str) -> None:
    try:
        text = export(scenario.load(name).look())
    except SetupError as error:
        text = f"{error.message} {error.remedy}"
    assert CANARY not in text


def test_secret_beside_the_edited_line_of_a_launch_script_is_not_shown(exposed: Look) -> None:
    state = exposed.server.read(LAUNCH)
    assert state is not None
    told = state.content.replace(b"set -eu", f"export HF_TOKEN={TOKEN}\nset -eu".encode(), 1)
    told = told.replace(b"  --host 0.0.0.0", f"  --api-key {CANARY} --host 0.0.0.0 --hf-token {TOKEN}".encode())
    assert told.count(TOKEN.encode()) == 2
    text = export(with_file(exposed, LAUNCH, replace(state, content=told)))
    assert CANARY not in text
    assert TOKEN not in text
    assert "printf %s 127.0.0.1" in text


def test_script_that_would_show_a_secret_is_not_written(exposed: Look) -> None:
    results, notes = planned(exposed)
    exposed.mask.add("reverse_proxy")
    with pytest.raises(SetupError, match="would show a secret"):
        write_script(exposed, results, notes, "", "now")


def test_private_file_is_copied_from_its_place_or_refused(exposed: Look) -> None:
    key = b"-----BEGIN PRIVATE KEY-----\nMIIabcdef\n-----END PRIVATE KEY-----\n"
    write = Write("/etc/caddy/vllm-https/key.pem", key, "its key", mode=0o640, group="caddy", private=True)
    there = FileState("file", key, 0o600)
    tls = exposed.answers.tls.model_copy(update={"private_key": "/root/key.pem"})
    look = with_file(exposed, "/root/key.pem", there)
    look = with_file(look, write.path, FileState("file", b"an older one\n", 0o640))
    with pytest.raises(SetupError, match="private"):
        export_actions([write], look)
    text = export_actions([write], replace(look, answers=look.answers.model_copy(update={"tls": tls})))
    assert "MIIabcdef" not in text
    assert "stage /etc/caddy/vllm-https/key.pem 0640 root:caddy cat /root/key.pem" in text


def test_wait_that_no_shell_can_make_is_refused(exposed: Look) -> None:
    with pytest.raises(SetupError, match="can't wait for this: the moon"):
        export_actions([Wait("the moon", "why", 5, lambda server: server)], exposed)


def test_words_of_the_machine_stay_inside_their_comments(exposed: Look) -> None:
    run = Run(("true",), "why\nrm -rf /home\r\x1b[2J # more")
    text = export_actions([run], exposed)
    assert "\nrm -rf /home" not in text
    assert "# why rm -rf /home # more" in text


@pytest.mark.allow_commands("sh")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain\n",
        b"no newline at its end",
        b"$HOME `id` \\ ' \"\n",
        b"END\nEND_\n",
        b"\ttabs\n\n",
        b"\0\xff binary\n",
        "ä € 🦊\n".encode(),
        b"carriage\r\n",
        b"\x1b[31mred\n",
    ],
)
def test_file_arrives_byte_by_byte(content: bytes) -> None:
    lines = script.here("take", content)
    text = 'take() { [ $# -gt 0 ] || set -- cat; "$@"; }\n' + "\n".join(lines) + "\n"
    assert subprocess.run(["sh", "-eu"], input=text.encode(), capture_output=True, check=True).stdout == content


@pytest.mark.allow_commands("sh")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.binary(max_size=12), max_size=6))
@example([], [b"\0"])
@example([], [b"a\rb"])
def test_edit_by_place_makes_the_new_content(
    tmp_path_factory: pytest.TempPathFactory, old: list[bytes], new: list[bytes]
) -> None:
    before, after = b"\n".join([*old, b"same", *new]), b"\n".join([*new, b"same", *old])
    file = tmp_path_factory.mktemp("edit") / "file"
    file.write_bytes(before)
    text = "\n".join([f"file={file}", *script.pieces(script.splice(before, after))])
    # bash and dash both refuse NUL in their text: those bytes come as base64.
    assert subprocess.run(["sh", "-eu"], input=text.encode(), capture_output=True, check=True).stdout == after
