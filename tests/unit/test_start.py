"""The call without a command: screens, lines or a sentence. Each in a process of its own, at a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_TERMINAL = "the wizard asks questions, and there is no terminal here: sudo vllm-https-setup apply --answers F\n"
# The program, on a described server in place of this one, and with screens that only say what they are given.
PROGRAM = """
import os, sys, types
os.geteuid = lambda: {uid}
from tests.servers import gateway, scenario
import wizard.gateway, wizard.demo
def described(said, given):
    print(said, given)
    return gateway.DescribedGateway(scenario.load("exposed"))
wizard.gateway.RealGateway = lambda answers: described("answers", answers)
wizard.demo.DemoGateway = lambda scene: described("scene", scene)
app = types.ModuleType("screens.app")
app.run_app = lambda gateway, mouse: print("SCREENS", mouse) or 0
sys.modules["screens.app"] = app
from wizard.cli import main
code = main({words!r})
print("heavy", sorted({heavy} & set(sys.modules)), "umask", oct(os.umask(0)))
sys.exit(code)
"""

pytestmark = [pytest.mark.allow_commands("python", "sh"), pytest.mark.allow_writes("/dev/pts", "/dev/ptmx")]


@dataclass(frozen=True)
class Ended:
    code: int
    shown: str
    said: str


def call(
    *words: str,
    terminals: Sequence[int] = (0, 1, 2),
    uid: int = 0,
    typed: bytes = b"",
    enters: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """The call with these of its streams at a terminal; the others are pipes. `said` is what a piped error had.
    `enters`: Enter at each question."""
    ours, theirs = pty.openpty()
    code = PROGRAM.format(uid=uid, words=list(words), heavy={"textual", "rich"})
    kept = {name: value for name, value in os.environ.items() if name != "TERM"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "TERM": "xterm-256color", **(environment or {})},
        stdin=theirs if 0 in terminals else subprocess.DEVNULL,
        stdout=theirs if 1 in terminals else subprocess.PIPE,
        stderr=theirs if 2 in terminals else subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, typed)
    shown = read_all(ours, enters=enters)
    os.close(ours)
    out, said = process.communicate(timeout=60)
    return Ended(process.returncode, shown + (out or b"").decode(), (said or b"").decode())


def read_all(terminal: int, *, enters: bool = False) -> str:
    """All that is written to the terminal, until nobody has it open any more."""
    seen, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other end was closed
            break
        if not data:
            break
        seen += data
        if enters and seen.endswith(b": "):
            os.write(terminal, b"\n")
    return seen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("terminals", [(), (0,), (1, 2), (2,), (0, 2)], ids=str)
@pytest.mark.parametrize("words", [(), ("--plain",), ("--demo",)], ids=" ".join)
def test_without_a_terminal_it_says_what_to_call_and_ends_with_2(
    words: tuple[str, ...], terminals: tuple[int, ...]
) -> None:
    ended = call(*words, terminals=terminals)
    assert ended.code == 2
    assert NO_TERMINAL in (ended.shown if 2 in terminals else ended.said)
    assert "SCREENS" not in ended.shown and "\x1b" not in ended.shown + ended.said


@pytest.mark.parametrize("words", [(), ("--plain",), ("--mouse",), ("--answers", "/no/such/file")], ids=str)
def test_who_is_not_root_is_told_so(words: tuple[str, ...]) -> None:
    ended = call(*words, uid=1000)
    assert ended.code == 2
    assert " ".join(("this needs root: sudo vllm-https-setup", *words)) + "\n" in ended.shown
    assert "SCREENS" not in ended.shown and "Enter = begin" not in ended.shown


def test_terminal_gets_the_screens() -> None:
    ended = call(environment={"TERM": "xterm-256color"})
    assert ended.code == 0
    assert "answers None\nSCREENS False\n" in ended.shown and "umask 0o22" in ended.shown
    assert "SCREENS True\n" in call("--mouse").shown


@pytest.mark.parametrize("scene", ["fresh", "exposed", "drifted", "blocked", "broken"])
def test_demo_needs_no_root(scene: str) -> None:
    assert f"scene {scene}\nSCREENS False\n" in call("--demo", scene, uid=1000).shown


def test_demo_without_a_scene_is_the_fresh_server() -> None:
    assert "scene fresh\n" in call("--demo", uid=1000).shown
    assert "scene fresh\n" in call("--demo", "--plain", uid=1000, typed=b"q\n").shown


@pytest.mark.parametrize("term", ["dumb", ""])
def test_dumb_terminal_gets_lines_and_not_one_escape_byte(term: str) -> None:
    ended = call(environment={"TERM": term}, enters=True)
    assert ended.code == 0
    assert "Step 5 of 6: TLS" in ended.shown and "/var/log/vllm-https-setup/" in ended.shown
    assert "\x1b" not in ended.shown and "SCREENS" not in ended.shown
    assert "heavy [] umask 0o22" in ended.shown


def test_plain_is_lines_on_any_terminal() -> None:
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = call("--plain", enters=True, environment=ascii_alone)
    assert ended.code == 0
    assert "Step 1 of 6: Preflight" in ended.shown and "... SSH proved from outside" in ended.shown
    assert ended.shown.isascii() and "\x1b" not in ended.shown


def test_screens_are_not_drawn_into_a_file_of_errors() -> None:
    ended = call(terminals=(0, 1), typed=b"q\n")
    assert "Enter = begin" in ended.shown and "SCREENS" not in ended.shown and ended.said == ""


def test_end_of_the_line_leaves_it_like_q() -> None:
    ended = call("--plain", typed=b"\x04")
    assert ended.code == 0 and "Nothing was changed." in ended.shown


def test_answers_are_checked_and_filled_in(tmp_path: Path) -> None:
    given = tmp_path / "answers.yaml"
    given.write_text("version: 1\ntls: {mode: internal}\n")
    given.chmod(0o600)
    environment = {"SUDO_UID": str(os.getuid())}
    ended = call("--answers", str(given), environment=environment)
    assert "answers b'version: 1\\ntls: {mode: internal}\\n'\nSCREENS" in ended.shown
    given.write_text("version: 1\ntls: {mode: acme2}\nproxy: {http3: 1}\n")
    ended = call("--answers", str(given), environment=environment)
    assert ended.code == 2 and "SCREENS" not in ended.shown
    assert "line 2: tls.mode: " in ended.shown and "line 3: proxy.http3: " in ended.shown
    assert "Nothing was changed." in ended.shown


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--plain", "plan"), "--plain"),
        (("--answers", "x", "plan"), "--answers"),
        (("--demo", "fresh", "status"), "--demo"),
        (("--mouse", "test"), "--mouse"),
        (("--demo", "fresh", "--answers", "x"), "--demo"),
        (("--demo", "nonsense"), "nonsense"),
        (("--json",), "--json"),
        (("nonsense",), "nonsense"),
    ],
)
def test_options_that_belong_elsewhere_are_refused(words: tuple[str, ...], named: str) -> None:
    ended = call(*words, terminals=())
    assert ended.code == 2
    assert named in ended.said + ended.shown and NO_TERMINAL not in ended.said


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "iso8859-15"])
def test_terminal_of_another_encoding_gets_lines_that_it_can_show(encoding: str) -> None:
    ended = call(typed=b"q\n", environment={"PYTHONIOENCODING": encoding})
    assert "SCREENS" not in ended.shown and "vllm-https-setup on gpu-01" in ended.shown
    assert "\\u" not in ended.shown


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_stream_is_no_terminal_and_no_file_gets_its_number(closed: str) -> None:
    code = PROGRAM.format(uid=0, words=[], heavy=set()) + "\n"
    code = code.replace("code = main", "opened = lambda: os.open('/dev/null', os.O_RDONLY)\ncode = main")
    code = code.replace("sys.exit(code)", "sys.exit(code if opened() > 2 else 99)")
    ours, theirs = pty.openpty()
    os.write(ours, b"q\n")
    try:
        command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", code]
        process = subprocess.run(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, timeout=60, check=False)
    finally:
        os.close(theirs)
        os.close(ours)
    assert process.returncode == (0 if closed == "2>&-" else 2)
