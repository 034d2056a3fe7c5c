"""Launch scripts: what is edited is run before and after, and what vLLM then gets is compared."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.launch import Edit, bind_to, parse_launch

pytestmark = pytest.mark.allow_commands("bash", "sh")

SCRIPTS = Path(__file__).parents[1] / "recorded" / "launch"
EDITED = sorted(SCRIPTS.glob("edit-*.sh"))
KEPT = sorted(SCRIPTS.glob("keep-*.sh"))
REFUSED = sorted(SCRIPTS.glob("refuse-*.sh"))

# What each refusal must tell its reader.
SAID = {
    "alternative-expansion": "variable",
    "array-conditional-host": "variable",
    "bash-c": "`bash`",
    "bash-c-variable": "`bash`",
    "command-put-together": "put together",
    "comment-only": "no command",
    "config": "/etc/vllm/config.yaml",
    "config-equals": "config.yaml",
    "docker": "container",
    "docker-vllm": "container",
    "either-or": "2 vllm commands",
    "eval": "`eval`",
    "expansion-default": "variable",
    "function-named-vllm": "function",
    "here-document": "here-document",
    "other-script": "no command",
    "own-function": "`run`",
    "python": "not a shell script",
    "split-quotes": "quoted pieces",
    "su": "`su`",
    "syntax-error": "syntax",
    "tmux": "`tmux`",
    "two-commands": "2 vllm commands",
    "uds": "--uds",
    "value-missing": "without a value",
    "array-split-elements": "variable",
    "sudo-shell": "`sudo`",
    "variable-before-command": "variable",
    "variable-conditional": "variable",
    "variable-default-set": "variable",
    "variable-exported-again": "variable",
    "variable-in-subshell": "variable",
    "variable-default": "variable",
    "variable-from-options": "variable",
    "variable-from-outside": "variable",
    "variable-read": "variable",
    "variable-shared": "`ray`",
    "variable-then-sourced": "local.conf",
    "vllm-variable": "VLLM_HOST_IP",
    "windows-line-ends": "Windows",
}
VLLM = """#!{python}
import json, sys
with open({record!r}, "a") as record:
    record.write(json.dumps(sys.argv[1:]) + "\\n")
"""
# Stands for python3, uv, numactl and the like: finds vLLM among its arguments.
RUNNER = """#!{python}
import json, sys
with open({record!r}, "a") as record:
    if any("vllm" in word for word in sys.argv[1:]):
        record.write(json.dumps(sys.argv[1:]) + "\\n")
"""


STARTS = re.compile(r"^serve$|entrypoints")


class Machine:
    """A folder in the place of /opt/vllm, whose programs write down the arguments that they get."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "record"
        self.programs = root / "venv" / "bin"
        self.programs.mkdir(parents=True)
        (self.programs / "activate").write_text("")
        self._install(VLLM, "vllm")
        self._install(RUNNER, "python", "python3", "uv", "numactl", "conda", "nvidia-smi")

    def _install(self, text: str, *names: str) -> None:
        for name in names:
            program = self.programs / name
            program.write_text(text.format(python=sys.executable, record=str(self.record)))
            program.chmod(0o755)

    def run(self, content: bytes, *arguments: str, **environment: str) -> list[list[str]]:
        script = self.root / "start.sh"
        script.write_bytes(content.replace(b"/opt/vllm", str(self.root).encode()))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        shell = "/bin/sh" if content.startswith(b"#!/bin/sh") else "bash"
        self.record.write_text("")
        variables = {"MODEL": "org/model", "PORT": "8000", "VLLM_API_KEY": "k", **environment}
        subprocess.run(
            [shell, str(script), *arguments],
            env={"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.root), **variables},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        calls = (json.loads(line) for line in self.record.read_text().splitlines())
        return [call for call in calls if "--help" not in call and any(map(STARTS.search, call))]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def split_host(call: list[str]) -> tuple[str | None, list[str]]:
    """The host that argparse would take, and the other arguments."""
    host, others, words = None, [], iter(call)
    for word in words:
        if word == "--host":
            host = next(words, None)
        elif word.startswith("--host="):
            host = word.removeprefix("--host=")
        else:
            others.append(word)
    return host, others


def shared(one: bytes, other: bytes) -> int:
    """The number of bytes at their beginning in which the two agree."""
    same = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(same) if a != b), min(len(one), len(other)))


def edited(content: bytes, host: str = "127.0.0.1") -> bytes:
    edit = bind_to(content, host)
    assert edit.refusal is None
    assert edit.content is not None
    return edit.content


@pytest.mark.parametrize("path", EDITED, ids=lambda path: path.stem)
def test_edited_script_gives_vllm_loopback_and_all_else_as_before(path: Path, machine: Machine) -> None:
    before = machine.run(path.read_bytes())
    after = machine.run(edited(path.read_bytes()))
    assert len(before) == 1
    assert len(after) == 1
    assert split_host(before[0])[0] != "127.0.0.1"
    assert split_host(after[0]) == ("127.0.0.1", split_host(before[0])[1])


@pytest.mark.parametrize("path", [*EDITED, *KEPT], ids=lambda path: path.stem)
def test_editing_twice_is_editing_once(path: Path) -> None:
    once = edited(path.read_bytes())
    assert edited(once) == once


@pytest.mark.parametrize("path", EDITED, ids=lambda path: path.stem)
def test_edit_changes_nothing_but_hosts(path: Path) -> None:
    before, after = path.read_bytes(), edited(path.read_bytes())
    assert len(before.split(b"\n")) == len(after.split(b"\n"))
    changed = [(old, new) for old, new in zip(before.split(b"\n"), after.split(b"\n"), strict=True) if old != new]
    assert len(changed) == 1
    old, new = changed[0]
    if b" --host 127.0.0.1" in new and new.replace(b" --host 127.0.0.1", b"", 1) == old:
        return
    # Otherwise one value gave way, and at most an option was added at the end.
    new = new.removesuffix(b" --host 127.0.0.1") if old.endswith((b"}", b"@")) else new
    first = shared(old, new)
    last = shared(old[first:][::-1], new[first:][::-1])
    assert new[first : len(new) - last] in b"127.0.0.1"


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_script_on_loopback_stays_byte_for_byte(path: Path) -> None:
    assert bind_to(path.read_bytes()) == Edit(path.read_bytes(), None, None)


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_what_cannot_be_proven_is_refused_with_a_reason_and_a_remedy(path: Path) -> None:
    edit = bind_to(path.read_bytes())
    assert edit.content is None
    assert SAID[path.stem.removeprefix("refuse-")] in (edit.refusal or "")
    assert edit.remedy


def test_every_refusal_has_a_script() -> None:
    assert {path.stem.removeprefix("refuse-") for path in REFUSED} == set(SAID)


def test_corpus_is_as_large_as_it_should_be() -> None:
    assert len(EDITED) >= 25
    assert len(REFUSED) >= 8


def test_host_added_last_wins_over_arguments_from_outside(machine: Machine) -> None:
    content = (SCRIPTS / "edit-extra-arguments-no-host.sh").read_bytes()
    after = machine.run(edited(content), EXTRA_ARGS="--enforce-eager --host 0.0.0.0")
    assert split_host(after[0])[0] == "127.0.0.1"


def test_host_wins_over_arguments_from_outside_that_follow_it(machine: Machine) -> None:
    content = (SCRIPTS / "edit-extra-arguments-from-outside.sh").read_bytes()
    after = machine.run(edited(content), VLLM_EXTRA_ARGS="--host 0.0.0.0")
    assert split_host(after[0])[0] == "127.0.0.1"


def test_arguments_of_the_script_stay_its_callers() -> None:
    command = parse_launch(b'vllm serve m --host 0.0.0.0 "$@"\n').commands[0]
    assert command.takes_arguments
    assert not command.overridable


def test_another_host_can_be_asked_for(machine: Machine) -> None:
    after = machine.run(edited(b"#!/bin/bash\nvllm serve m --host 127.0.0.1\n", "0.0.0.0"))
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
