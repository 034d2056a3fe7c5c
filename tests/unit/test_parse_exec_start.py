"""ExecStart= of unit files: what is edited is read by another reader before and after, and the arguments compared.

The files, and what is expected of each, are in tests/recorded/exec_start. That systemd reads the edit so, too, is
tested on a booted server (tests/lab/test_bind.py).
"""

import configparser
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stub_vllm import Machine, split_host
from wizard.parse.exec_start import bind_exec, exec_lines, holds_command, parse_exec, parse_set
from wizard.parse.launch import Edit
from wizard.parse.vllm_config import VllmConfig

FILES = Path(__file__).parents[1] / "recorded" / "exec_start"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((FILES / "expected.toml").read_text())
EDITED = [name for name in EXPECTED if name.startswith("edit-")]
IN_SHELL = [name for name in EDITED if re.search("bash|sh-c", name)]
LATER = {"VLLM_HOST": "192.0.2.9", "HOST": "::", "VLLM_ARGS": "m --host 0.0.0.0"}
KEPT = [name for name in EXPECTED if name.startswith("keep-")]
REFUSED = [name for name in EXPECTED if name.startswith("refuse-")]


def unit(name: str) -> bytes:
    return (FILES / f"{name}.service").read_bytes()


def environment_of(name: str) -> dict[str, str]:
    known: dict[str, str] = EXPECTED[name].get("environment", {})
    return known


def bound(name: str, content: bytes | None = None) -> Edit:
    return bind_exec(unit(name) if content is None else content, environment=environment_of(name))


def edited(name: str) -> bytes:
    edit = bound(name)
    assert edit.refusal is None
    assert edit.content is not None
    return edit.content


def words_given(content: bytes, environment: dict[str, str]) -> list[str]:
    """The words of the command as systemd would give them, by the standard library's readers."""
    text = content.decode("utf-8", "replace").replace("\r", "")
    text = re.sub(r"(?m)^[ \t]*[#;].*\n", "", text).replace("\\\n", " ")
    reader = configparser.RawConfigParser(
        strict=False, delimiters=("=",), comment_prefixes=(), empty_lines_in_values=False
    )
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    reader.read_string("\n".join(line.strip() for line in text.splitlines()))
    words: list[str] = []
    value = reader["Service"]["ExecStart"]
    for word in shlex.split(value.lstrip("-@:+!")):
        if found := re.fullmatch(r"\$(\w+)", word):
            words += environment.get(found[1], "").split()
            continue
        word = word.replace("%h", environment.get("HOME", "%h")).replace("%%", "%")
        if not value.startswith(":"):
            known = re.sub(r"\$\$|\$\{(\w+)\}", lambda one: environment.get(one[1], "") if one[1] else "$", word)
            word = known
        words.append(word)
    return words


@pytest.mark.parametrize("name", sorted({*EDITED} - {*IN_SHELL}))
@pytest.mark.parametrize("later", [{}, LATER])
def test_edited_unit_gives_vllm_loopback_and_all_else_as_before(name: str, later: dict[str, str]) -> None:
    environment = environment_of(name) | later
    before, after = (split_host(words_given(content, environment)) for content in (unit(name), edited(name)))
    assert before[0] != "127.0.0.1"
    assert after == ("127.0.0.1", before[1])


@pytest.mark.allow_commands("bash", "sh", "env")
@pytest.mark.parametrize("name", IN_SHELL)
@pytest.mark.parametrize("later", [{}, LATER])
def test_edited_program_of_a_shell_gives_vllm_loopback_and_all_else_as_before(
    name: str, later: dict[str, str], tmp_path: Path
) -> None:
    """Run by the shell that the unit names, with the words that systemd would give it."""
    machine = Machine(tmp_path)
    environment = {"HOME": str(tmp_path), **environment_of(name), **later}
    before, after = (
        machine.start(
            [word.replace("/opt/vllm", str(tmp_path)) for word in words_given(content, environment)], environment
        )
        for content in (unit(name), edited(name))
    )
    ((host, others),) = map(split_host, before)
    assert host != "127.0.0.1"
    assert [split_host(call) for call in after] == [("127.0.0.1", others)]


@pytest.mark.parametrize("name", EDITED)
def test_edit_changes_these_lines_and_no_other_byte(name: str) -> None:
    before, after = unit(name).split(b"\n"), edited(name).split(b"\n")
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [[old.decode(), new.decode()] for old, new in changed] == EXPECTED[name]["changed"]


@pytest.mark.parametrize("name", [*EDITED, *KEPT])
def test_editing_twice_is_editing_once(name: str) -> None:
    once = bound(name).content
    assert bound(name, once) == Edit(once, None, None)


@pytest.mark.parametrize("name", KEPT)
def test_unit_on_loopback_stays_byte_for_byte(name: str) -> None:
    assert bound(name) == Edit(unit(name), None, None)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_proven_is_refused_with_a_reason_and_what_to_write_instead(name: str) -> None:
    edit = bound(name)
    assert edit.content is None
    assert EXPECTED[name]["said"] in (edit.refusal or "")
    assert EXPECTED[name]["do"] in (edit.remedy or "")


def test_every_file_has_its_expectation() -> None:
    assert {path.stem for path in FILES.glob("*.service")} == set(EXPECTED)


def test_variable_of_the_unit_is_known_and_one_that_nobody_sets_is_empty() -> None:
    content = b"[Service]\nExecStart=/usr/bin/vllm serve m --host ${HOST} --port $PORT\n"
    for environment, host in (({"HOST": "::1", "PORT": "8123"}, "::1"), ({"PORT": "8123"}, "")):
        launch = parse_exec(content, environment)
        assert [(one.host, one.port) for one in launch.commands] == [(host, 8123)]
    assert launch.asked == {"HOST", "PORT"}
    assert [one.dynamic_host for one in parse_exec(content).commands] == [True]


def test_colon_before_the_program_leaves_variables_as_they_are() -> None:
    (command,) = parse_exec(b"[Service]\nExecStart=:/usr/bin/vllm serve m --host ${HOST}\n", {"HOST": "::1"}).commands
    assert command.host == "${HOST}"


def test_doubled_signs_are_the_signs() -> None:
    (command,) = parse_exec(b"[Service]\nExecStart=/usr/bin/vllm serve a%%b$$c --host 127.0.0.1\n", {}).commands
    assert command.argv[2] == "a%b$c"


def test_config_file_counts_as_for_scripts() -> None:
    content = unit("edit-config")
    assert bind_exec(content, config=VllmConfig("/etc/vllm/config.yaml", "127.0.0.1")).content == content


def test_empty_value_clears_those_before_it() -> None:
    lines = exec_lines(b"[Service]\nExecStart=/a\nExecStart=\nExecStart=/b\n")
    assert [line.text for line in lines] == [b"", b"/b"]


def test_environment_is_what_the_last_file_says() -> None:
    texts = ['[Service]\nEnvironment=A=1 "B=two words"\nEnvironment=C=100%%\n', "[Service]\nEnvironment=A=2\n"]
    assert dict(parse_set(texts)) == {"A": "2", "B": "two words", "C": "100%"}
    assert dict(parse_set([*texts, "[Service]\nEnvironment=\nEnvironment=D=4 'unfinished\n"])) == {"D": "4"}


@pytest.mark.parametrize(
    ("argv", "holds"),
    [
        ("/usr/bin/vllm serve m", True),
        ("/opt/vllm/venv/bin/python -m vllm.entrypoints.openai.api_server --model m", True),
        ("/usr/bin/numactl --membind=0 /usr/bin/vllm serve m", True),
        ("/bin/bash -lc vllm serve m", True),
        ("/usr/bin/docker run vllm/vllm-openai", True),
        ("/opt/vllm/start-vllm.sh", False),
        ("/bin/bash /opt/vllm/start-vllm.sh serve", False),
        ("/bin/bash -e /opt/vllm/start-vllm.sh", False),
        ("", False),
    ],
)
def test_unit_that_starts_vllm_itself_is_told_from_one_with_a_script(argv: str, holds: bool) -> None:
    assert holds_command(argv.split()) is holds


WORDS = ("[Service]\n", "ExecStart=", "/usr/bin/vllm serve m", " --host ", "0.0.0.0", "\n", "\\\n", "# c\n", "'", '"')
SHELL = (
    "/bin/bash -c '",
    '/bin/sh -lc "',
    "exec vllm serve m",
    '\\"',
    "; ",
    " & ",
    "${A:-::}",
    "x=0.0.0.0",
    "$x",
    "\\t",
)
SIGNS = ("$A", "${B}", "%h", "%%", "$$", " ", "-", "--host=", "\\", "\r\n", ";", "::")
PIECES = st.sampled_from([*WORDS, *SIGNS, *SHELL])


@given(st.lists(PIECES, max_size=25))
def test_any_pieces_give_a_proven_edit_or_a_refusal(pieces: list[str]) -> None:
    source = "".join(pieces).encode()
    edit = bind_exec(source, environment={})
    if edit.content is None:
        assert edit.refusal
        assert edit.remedy
    else:
        assert all(command.host == "127.0.0.1" for command in parse_exec(edit.content, {}).commands)
        assert bind_exec(edit.content, environment={}).content == edit.content
