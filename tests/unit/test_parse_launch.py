"""Launch scripts: what is edited is run before and after, and what vLLM then gets is compared.

The scripts, and what is expected of each, are in tests/recorded/launch.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stub_vllm import Machine, split_host
from wizard.parse.launch import Edit, bind_to, parse_launch
from wizard.parse.vllm_config import VllmConfig, parse_vllm_config

pytestmark = pytest.mark.allow_commands("bash", "sh")

SCRIPTS = Path(__file__).parents[1] / "recorded" / "launch"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((SCRIPTS / "expected.toml").read_text())
EDITED = [name for name in EXPECTED if name.startswith("edit-")]
KEPT = [name for name in EXPECTED if name.startswith("keep-")]
REFUSED = [name for name in EXPECTED if name.startswith("refuse-")]
# Variables that scripts take the host from: whoever sets them later must not open vLLM again.
HOSTS = "HOST VLLM_HOST VLLM_BIND BIND BIND_ADDRESS SERVER_HOST LLM_SERVER_HOST PUBLIC"
ELSEWHERE = dict.fromkeys(HOSTS.split(), "192.0.2.99")
EVERYWHERE = dict.fromkeys(("EXTRA_ARGS", "VLLM_EXTRA_ARGS"), "--host 0.0.0.0")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def script(name: str) -> bytes:
    return (SCRIPTS / f"{name}.sh").read_bytes()


def environment_of(name: str) -> dict[str, str]:
    return {"MODEL": "org/model", "PORT": "8000", "VLLM_API_KEY": "k", **EXPECTED[name].get("environment", {})}


def bound(name: str, content: bytes | None = None, host: str = "127.0.0.1") -> Edit:
    """What becomes of the script (or of this content of it) where its unit gives what the data file says."""
    arguments = bool(EXPECTED[name].get("arguments"))
    return bind_to(script(name) if content is None else content, host, environment_of(name), arguments=arguments)


def edited(name: str) -> bytes:
    edit = bound(name)
    assert edit.refusal is None
    assert edit.content is not None
    return edit.content


@pytest.mark.parametrize("name", EDITED)
def test_edited_script_gives_vllm_loopback_and_all_else_as_before(name: str, machine: Machine) -> None:
    arguments = EXPECTED[name].get("arguments", [])
    before = machine.run(script(name), *arguments, **environment_of(name))
    after = machine.run(edited(name), *arguments, **environment_of(name))
    assert len(before) == 1
    assert split_host(before[0])[0] != "127.0.0.1"
    assert [split_host(call) for call in after] == [("127.0.0.1", split_host(before[0])[1])]


@pytest.mark.parametrize("name", EDITED)
def test_edited_script_stays_on_loopback_whatever_its_environment_says_later(name: str, machine: Machine) -> None:
    later = environment_of(name) | ELSEWHERE | EVERYWHERE
    calls = machine.run(edited(name), *EXPECTED[name].get("arguments", []), **later)
    assert [split_host(call)[0] for call in calls] == ["127.0.0.1"] * len(calls)
    assert calls


@pytest.mark.parametrize("name", [*EDITED, *KEPT])
def test_editing_twice_is_editing_once(name: str) -> None:
    once = bound(name).content
    assert bound(name, once).content == once


@pytest.mark.parametrize("name", EDITED)
def test_edit_changes_these_lines_and_no_other_byte(name: str) -> None:
    before, after = script(name).split(b"\n"), edited(name).split(b"\n")
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [[old.decode(), new.decode()] for old, new in changed] == EXPECTED[name]["changed"]


@pytest.mark.parametrize("name", KEPT)
def test_script_on_loopback_stays_byte_for_byte(name: str) -> None:
    assert bound(name) == Edit(script(name), None, None)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_proven_is_refused_with_a_reason_and_what_to_write_instead(name: str) -> None:
    edit = bound(name)
    assert edit.content is None
    assert EXPECTED[name]["said"] in (edit.refusal or "")
    assert EXPECTED[name]["do"] in (edit.remedy or "")
    assert "\n" not in f"{edit.refusal}{edit.remedy}"


def test_every_script_has_its_expectation() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.sh")} == set(EXPECTED)
    assert set(EXPECTED) == {*EDITED, *KEPT, *REFUSED}


def test_corpus_is_as_large_as_it_should_be() -> None:
    assert len(EXPECTED) >= 60
    assert len([one for one in EXPECTED.values() if one.get("public")]) >= 30
    assert len(REFUSED) >= 20


def test_arguments_that_the_unit_does_not_give_are_not_reckoned_with() -> None:
    source = b'vllm serve m --host 127.0.0.1 "$@"\n'
    assert bind_to(source, arguments=False).content == source
    assert bind_to(source, arguments=True).content == b'vllm serve m --host 127.0.0.1 "$@" --host 127.0.0.1\n'


def test_arguments_of_a_function_are_not_the_units() -> None:
    source = b'start() {\n  vllm serve m --host 127.0.0.1 "$@"\n}\nstart --host 0.0.0.0\n'
    assert (bind_to(source, arguments=False).content or b"").count(b"--host 127.0.0.1") == 2


def test_environment_decides_what_a_variable_is() -> None:
    source = b'HOST="${HOST:-0.0.0.0}"\nPORT=${PORT:-8123}\nexec vllm serve m --host "$HOST" --port "$PORT"\n'
    hosts = {
        value: [(one.host, one.port) for one in parse_launch(source, environment).commands]
        for value, environment in {
            "unset": {},
            "empty": {"HOST": "", "PORT": ""},
            "set": {"HOST": "::1", "PORT": "9000"},
            "unknown": None,
        }.items()
    }
    default = [("0.0.0.0", 8123)]
    assert hosts == {"unset": default, "empty": default, "set": [("::1", 9000)], "unknown": [(None, 8123)]}
    assert parse_launch(source, {}).asked == {"HOST", "PORT"}


@pytest.mark.parametrize(
    "before", ["source other.conf", "eval $X", "export $(cat .env)", "read HOST < f", "declare -g $X", "HOST=a; HOST=b"]
)
def test_what_a_script_may_have_set_itself_is_not_taken_from_the_environment(before: str) -> None:
    launch = parse_launch(f"{before}\nexec vllm serve m --host $HOST\n".encode(), {"HOST": "127.0.0.1"})
    assert [(one.host, one.dynamic_host) for one in launch.commands] == [(None, True)]


def test_later_value_of_a_variable_is_not_taken_for_an_earlier_one() -> None:
    launch = parse_launch(b"A=$B\nB=127.0.0.1\nexec vllm serve m --host $A\n", {})
    assert [one.host for one in launch.commands] == [None]


CONFIG = b"vllm serve m --config /etc/vllm/config.yaml\n"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (b"host: 127.0.0.1\nport: 8000\n", CONFIG),
        (b"host: localhost\n", CONFIG),
        (b"host: 0.0.0.0\n", CONFIG.replace(b" m ", b" m --host 127.0.0.1 ")),
        (b"port: 8000\n", CONFIG.replace(b" m ", b" m --host 127.0.0.1 ")),
        (b"uds: /run/vllm.sock\n", None),
    ],
)
def test_config_file_is_overridden_on_the_command_line_where_it_does_not_say_loopback(
    text: bytes, content: bytes | None
) -> None:
    config = parse_vllm_config("/etc/vllm/config.yaml", text)
    edit = bind_to(CONFIG, config=config)
    assert edit.content == content
    assert content is not None or "uds in /etc/vllm/config.yaml" in (edit.refusal or "")


@pytest.mark.parametrize(
    "text", [b"", b"- a\n", b"{", b"host: [\n", b"\xff", b"a: &a [*a]\n", b"host: {a: b}\nport: x\n"]
)
def test_config_file_that_is_none_says_nothing(text: bytes) -> None:
    assert parse_vllm_config("f", text) in (None, VllmConfig("f"))


def test_config_file_says_where_vllm_listens() -> None:
    assert parse_vllm_config("f", b"model: m\nhost: '::'\nport: 8123\n") == VllmConfig("f", "::", 8123)


def test_another_host_can_be_asked_for(machine: Machine) -> None:
    after = machine.run(bind_to(b"#!/bin/bash\nvllm serve m --host 127.0.0.1\n", "0.0.0.0").content or b"")
    assert split_host(after[0])[0] == "0.0.0.0"


def test_a_host_that_a_shell_would_read_is_refused() -> None:
    assert bind_to(b"vllm serve m\n", "127.0.0.1; reboot").content is None


def test_command_is_read_with_its_variables_filled_in() -> None:
    launch = parse_launch(b'PORT=9000\nexec vllm serve "$MODEL" --host 0.0.0.0 --port "$PORT"\n')
    (command,) = launch.commands
    assert launch.refusal is None
    assert (command.host, command.port, command.dynamic_host) == ("0.0.0.0", 9000, False)
    assert command.argv == ("exec", "vllm", "serve", '"$MODEL"', "--host", "0.0.0.0", "--port", "9000")


def test_absent_host_is_none_and_not_dynamic() -> None:
    (command,) = parse_launch(b"vllm serve m\n").commands
    assert (command.host, command.dynamic_host, command.loopback) == (None, False, False)


def test_port_with_a_default_is_the_default_and_marked() -> None:
    (command,) = parse_launch(b"vllm serve m --port ${PORT:-8123}\n").commands
    assert (command.port, command.dynamic_port) == (8123, True)


@pytest.mark.parametrize(
    "words", ["--api-key canary/+=", "--api-key=canary/+=", '--api_key "canary/+="', "--api-key canary/+= x"]
)
def test_key_on_the_command_line_is_found_and_never_shown(words: str) -> None:
    launch = parse_launch(f"vllm serve m {words} --port 8000\n".encode())
    (command,) = launch.commands
    assert command.api_key_on_command_line
    assert command.api_keys[0] == "canary/+="
    assert "canary" not in repr(launch)
    assert command.port == 8000


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(source: bytes) -> None:
    edit = bind_to(source)
    assert (edit.content is None) == (edit.refusal is not None)


WORDS = r"""vllm serve exec m --host --host= 0.0.0.0 $H ${A[@]} " ' \ ( ) A=( A+=( H= ; fi $( ` { } && | > # $@"""
PIECES = st.sampled_from([*WORDS.split(), "\n", " ", "if true; then", "<<E", "--port 8000", "vllm serve m"])


@given(st.lists(PIECES, max_size=25))
def test_any_shell_pieces_give_a_proven_edit_or_a_refusal(pieces: list[str]) -> None:
    source = " ".join(pieces).encode()
    edit = bind_to(source)
    if edit.content is None:
        assert edit.refusal
    else:
        assert all(command.host == "127.0.0.1" for command in parse_launch(edit.content).commands)
        assert bind_to(edit.content).content == edit.content
