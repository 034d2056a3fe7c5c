"""A recording answers as the machine did that it was made of, and has no secret of it."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from urllib.parse import quote

import pytest
import tomli_w

from tests.servers import scenario
from tests.servers.recording import CANARY, LEFT_OUT, RecordingMachine, ask_everything, describe
from wizard.described import DescribedMachine, Description, read_description
from wizard.engine import Look
from wizard.facts import Facts
from wizard.mask import DOTS

KEY = "another/key+of=the-server=="


def recorded(described: Description) -> str:
    """The text of a recording that is made of a described server."""
    machine = RecordingMachine(DescribedMachine(described))
    first = scenario.Scenario("again", described, {}).look()
    machine.read(scenario.OWNED)
    look: Look = replace(first, server=Facts(machine))
    ask_everything(look)
    return tomli_w.dumps(describe(machine, look), multiline_strings=True)


def with_key(described: Description, key: str) -> Description:
    """The same server with another API key, which one of its commands says aloud."""
    files = {
        path: state and replace(state, content=state.content.replace(CANARY.encode(), key.encode()))
        for path, state in described.files.items()
    }
    commands = {
        asked: replace(output, err=f"{key} {quote(key, safe='')} https://user:word@host/")
        for asked, output in described.commands.items()
    }
    return replace(described, files=files, commands=commands)


@pytest.mark.parametrize("name", ["exposed", "finished", "ufw-active-with-rules", "caddyfile-of-others-kept"])
def test_recording_of_a_recording_says_the_same(name: str) -> None:
    described = scenario.load(name).description
    text = recorded(described)
    again = read_description(text)
    # What is asked no more is no fault: a recording may know more than is asked today.
    for kind in ("commands", "files", "directories", "exchanges", "fetches", "reached"):
        answers = getattr(again, kind)
        assert answers == {asked: getattr(described, kind)[asked] for asked in answers}
    assert (again.listeners, again.addresses, again.now) == (described.listeners, described.addresses, described.now)
    assert recorded(read_description(text)) == text


def test_other_key_is_replaced_by_the_canary_and_what_else_is_secret_by_dots() -> None:
    described = scenario.load("exposed").description
    text = recorded(with_key(described, KEY))
    assert KEY not in text and quote(KEY, safe="") not in text
    again = tomllib.loads(text)
    assert read_description(text).files["/etc/vllm/vllm.env"] == described.files["/etc/vllm/vllm.env"]
    said = [one["err"] for one in again["commands"] if one.get("err")]
    assert f"{CANARY} {quote(CANARY, safe='')} https://{DOTS}@host/" in said


def test_programs_are_recorded_without_their_content() -> None:
    described = scenario.load("exposed").description
    program = described.files["/usr/sbin/ufw"]
    assert program is not None and (program.kind, program.mode, program.content) == ("file", 0o755, LEFT_OUT)
