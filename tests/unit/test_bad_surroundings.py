"""A disk that takes no more, a lock that is never let go, no process to be had, a strange caller: a sentence each time,
nothing half done, and the next apply completes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.servers import scenario
from tests.unit.test_laws import Book, applied, has_fix
from wizard import apt, caller, live, shortage
from wizard.engine import Step, walk
from wizard.mask import Mask
from wizard.model import Action, Change, Output, Remove, Run, SetupError, Status, Write
from wizard.overlay import Overlay
from wizard.process import Process
from wizard.server import FileState
from wizard.steps import STEPS
from wizard.system import Nobody, RealMachine, own_command

FULL = SetupError("/x could not be written: No space left on device. It is as it was.", "see: df -h /")
SERVERS = ("exposed", pytest.param("ufw-active-with-rules", marks=pytest.mark.thorough))
ROOM = Path(__file__).resolve().parents[2]


class FullOverlay(Overlay):
    """A server on which the action of this number fails, as a write does on a full disk."""

    fails_at = -1

    def perform(self, action: Action) -> Output:
        if len(self.performed) == self.fails_at and isinstance(action, Write | Remove):
            self.fails_at = -1
            raise FULL
        return super().perform(action)


def writes_of(name: str) -> list[int]:
    book, _, _ = applied(name)
    return [number for number, action in enumerate(book.actions) if isinstance(action, Write | Remove)]


@pytest.mark.parametrize("name", SERVERS)
def test_write_that_fails_stops_its_step_with_a_sentence_and_the_next_apply_completes(name: str) -> None:
    book, whole, _ = applied(name)
    numbers = writes_of(name)
    for number in numbers:
        overlay = FullOverlay(whole.below)
        overlay.fails_at = number
        failing = Book(replace(scenario.load(name).look(), server=overlay))
        results = walk(STEPS, failing.look, failing)
        where = f"no space for {book.actions[number]}"
        failed = [one for one in results if one.status is Status.FAILED]
        assert [one.problem for one in failed] and "No space left on device" in failed[0].problem, where
        begun = results.index(failed[0])
        assert all(one.status is Status.SKIPPED for one in results[begun + 1 :] if one.concerned), where
        again = Book(failing.look)
        assert not any(one.problem for one in walk(STEPS, again.look, again)), where
        assert overlay.differences() == whole.differences(), where
        assert not has_fix(walk(STEPS, again.look)), where
    assert len(numbers) > 5


@dataclass
class Unwritten(Book):
    """A journal that can't be written any more when the action of this number is to begin, or has ended."""

    fails_at: int = -1
    at_the_end: bool = False

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None:
        if len(self.performed) == self.fails_at and not self.at_the_end:
            raise FULL
        super().action_began(step, action, change, before)

    def action_ended(self, step: Step, action: Action, output: Output) -> None:
        if len(self.performed) - 1 == self.fails_at and self.at_the_end:
            raise FULL
        super().action_ended(step, action, output)


@pytest.mark.parametrize("each", [4, pytest.param(1, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_action_that_cannot_be_noted_is_not_begun_and_the_next_apply_completes(at_the_end: bool, each: int) -> None:
    book, whole, _ = applied("exposed")
    for number in range(0, len(book.performed), each):
        overlay = Overlay(whole.below)
        look = replace(scenario.load("exposed").look(), server=overlay)
        unwritten = Unwritten(look, fails_at=number, at_the_end=at_the_end)
        results = walk(STEPS, look, unwritten)
        said = "done, and not noted" if at_the_end else "not begun"
        assert any(said in one.problem for one in results if one.status is Status.FAILED), number
        if not at_the_end:
            assert book.actions[number] not in overlay.performed[number:], number
        again = Book(unwritten.look)
        assert not any(one.problem for one in walk(STEPS, again.look, again)), number
        assert overlay.differences() == whole.differences(), number


# ── apt's lock ──


class Locked(RealMachine):
    """A machine whose apt is locked by another for as long as it is asked."""

    def __init__(self, said: str) -> None:
        super().__init__(Mask(), Told())
        self.said = said
        self.asked = 0

    def command(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        begun: Process | None = None,
    ) -> Output:
        self.asked += 1
        return Output(100, "", self.said)


class Told(Nobody):
    def __init__(self) -> None:
        self.words: list[str] = []

    def progress(self, text: str) -> None:
        self.words.append(text)


LOCK_OF_DPKG = (
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (unattended-upgr)\n"
    "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?\n"
)
LOCK_OF_LISTS = (
    "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4712 (apt-get)\n"
    "E: Unable to lock directory /var/lib/apt/lists/\n"
)


@pytest.mark.parametrize(
    ("said", "holder"), [(LOCK_OF_DPKG, "unattended-upgr (process 4711)"), (LOCK_OF_LISTS, "apt-get (process 4712)")]
)
def test_lock_of_apt_is_waited_for_ten_minutes_and_its_holder_named(
    monkeypatch: pytest.MonkeyPatch, said: str, holder: str
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    machine = Locked(said)
    output = live.LiveServer(machine).perform(apt.install(("caddy",), "Caddy"))
    assert output.code == 100 and output.last_words.endswith(f"apt is locked by {holder}: waiting for it")
    assert apt.LOCK_WAIT_S == 600 and 600 <= clock[0] <= 602
    told = machine.observer
    assert isinstance(told, Told)
    assert machine.asked == len(told.words) + 1 and set(told.words) == {f"apt is locked by {holder}: waiting for it"}


# ── a disk that was full while ufw wrote ──

CUT_OFF = "*filter\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\nCOMM"


class FullForUfw(RealMachine):
    """A machine whose ufw cuts off what it writes, and says nothing."""

    def command(self, argv: Sequence[str], **_: object) -> Output:
        return Output(0, "Rule added" if argv[0] == "ufw" else "")

    def read(self, path: str) -> FileState | None:
        return FileState("file", {"/etc/ufw/user.rules": CUT_OFF}.get(path, "COMMIT\n").encode())


def test_ufw_that_says_nothing_of_a_full_disk_is_not_believed() -> None:
    """After a boot its rules would be gone, and everybody with them locked out."""
    server = live.LiveServer(FullForUfw(Mask()))
    output = server.perform(Run(("ufw", "allow", "443/tcp"), "let HTTPS in"))
    assert not output.ok
    assert "/etc/ufw/user.rules could not be written to the end" in output.last_words
    assert "Make room (df -h /etc/ufw)" in output.last_words and "sudo ufw logging low" in output.last_words
    assert server.perform(Run(("systemctl", "daemon-reload"), "")).ok, "no other command is judged by it"


# ── no process to be had ──


@pytest.mark.allow_commands("true", "sleep")
def test_command_that_cannot_be_started_is_told_with_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with no memory, or no process, left."""

    def refuse(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    machine = RealMachine(Mask())
    machine.command(("true",))
    with monkeypatch.context() as none_left:
        none_left.setattr("subprocess._fork_exec", refuse)
        with pytest.raises(SetupError, match="sleep could not be started: Resource temporarily") as refused:
            machine.command(("sleep", "60"))
    assert "TasksMax" in refused.value.remedy


SHORT_OF_MEMORY: Mapping[str, Exception] = {
    "MemoryError": MemoryError(),
    "ENOMEM": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "a library": ImportError("x.so: failed to map segment from shared object"),
}


@pytest.mark.parametrize("how", SHORT_OF_MEMORY)
def test_memory_that_python_lacks_is_a_sentence(how: str) -> None:
    said = shortage.of_error(SHORT_OF_MEMORY[how])
    assert said is not None and "no memory left" in said.message
    assert "free -m" in said.remedy and "the same command goes on" in said.remedy


def test_thread_that_can_not_be_started_is_a_sentence_and_other_errors_are_defects() -> None:
    said = shortage.of_error(RuntimeError("can't start new thread"))
    assert said is not None and "TasksMax" in said.remedy
    for defect in (RuntimeError("x"), ImportError("No module named x"), OSError(errno.ENOENT, "x"), KeyError("x")):
        assert shortage.of_error(defect) is None


NOT_LOADED = "systemctl: error while loading shared libraries: libc.so.6: failed to map segment from shared object"


@pytest.mark.allow_commands("sh")
@pytest.mark.parametrize("script", ["kill -KILL $$", f"echo '{NOT_LOADED}' >&2; exit 127"])
def test_command_that_memory_had_no_room_for_is_no_answer(script: str) -> None:
    """Else no package would be installed, and no unit there."""
    with pytest.raises(SetupError, match="memory") as refused:
        RealMachine(Mask()).command(("sh", "-c", script))
    assert "free -m" in refused.value.remedy
    assert RealMachine(Mask()).command(("sh", "-c", "exit 127")).code == 127


def test_command_that_a_signal_ended_is_said_so() -> None:
    assert Output(-11).outcome == "ended by signal 11 (Segmentation fault)"
    assert Output(100, "", "E: x").outcome == "exit code 100: E: x"


# ── the caller ──

CALLERS = {
    "HTTPS_PROXY": "http://user:password@192.0.2.1:3128",
    "http_proxy": "http://192.0.2.1:3128",
    "SSL_CERT_FILE": "/nowhere.pem",
    "OPENSSL_CONF": "/nowhere.cnf",
    "PYTHONPATH": "/nowhere",
    "LD_PRELOAD": "/nowhere.so",
    "PATH": "/nowhere",
    "HOME": "/nowhere",
    "XDG_CONFIG_HOME": "/nowhere",
    "TMPDIR": "/nowhere",
    "TEXTUAL_DRIVER": "nowhere:Driver",
    "BASH_ENV": "/nowhere",
    "IFS": "x",
    "TZ": ":/nowhere",
    "LC_ALL": "tr_TR.UTF-8",
}


def test_of_the_callers_environment_only_the_terminals_and_sudos_words_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {"TERM": "xterm", "NO_COLOR": "1", "SUDO_UID": "1000"}
    monkeypatch.setattr(os, "environ", {**CALLERS, **kept})
    caller.leave_behind()
    assert {name: os.environ[name] for name in kept} == kept
    assert set(os.environ) == {*kept, "PATH", "PYDANTIC_DISABLE_PLUGINS"} and os.environ["PATH"].startswith(
        "/usr/local/sbin:"
    )


PROBE = "import os, sys; sys.argv[1:] = ['answers', 'check', '/nowhere']; from wizard.cli import main; code = main();"


@pytest.mark.allow_commands("python")
def test_nothing_of_it_is_left_in_a_process_that_was_called() -> None:
    """Not for the libraries either: what OpenSSL and curl read is the process's own environment."""
    code = f"{PROBE} import ctypes; get = ctypes.CDLL(None).getenv; get.restype = ctypes.c_char_p"
    code += f"; print(sorted(os.environ), [get(name.encode()) for name in {sorted(set(CALLERS) - {'PATH'})}], code)"
    quiet = {name: value for name, value in CALLERS.items() if name not in ("LD_PRELOAD", "PYTHONPATH", "OPENSSL_CONF")}
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**quiet, "TERM": "x"}, capture_output=True, text=True, cwd=ROOM, check=False
    )
    assert ended.stdout.strip() == f"['PATH', 'PYDANTIC_DISABLE_PLUGINS', 'TERM'] {[None] * (len(CALLERS) - 1)} 2", (
        ended.stderr
    )


CALL = (
    "import runpy, sys; sys.path.insert(0, {room!r}); sys.argv[1:] = {words!r}; "
    "runpy.run_module('wizard', {{}}, '__main__')"
)


def called(*words: str, out: str) -> subprocess.CompletedProcess[str]:
    """The program itself, to its very end."""
    argv = ("sh", "-c", f'exec "$@" >{out}', "sh", sys.executable, "-Ic", CALL.format(room=str(ROOM), words=[*words]))
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.allow_commands("sh")
@pytest.mark.parametrize("words", ["answers schema", "answers example", "--help", "--version"])
def test_output_that_cannot_be_written_is_a_failure_and_one_sentence(words: str) -> None:
    ended = called(*words.split(), out="/dev/full")
    assert ended.returncode == 1
    assert "could be written" in ended.stderr and "Traceback" not in ended.stderr and "Exception" not in ended.stderr


@pytest.mark.allow_commands("sh")
@pytest.mark.parametrize(("words", "code"), [("answers example", 0), ("--help", 0), ("answers check /nowhere", 2)])
def test_output_is_whole_and_the_code_the_commands(tmp_path: Path, words: str, code: int) -> None:
    ended = called(*words.split(), out=str(tmp_path / "out"))
    assert (ended.returncode, bool(ended.stderr)) == (code, code == 2)
    assert (tmp_path / "out").read_text().endswith("\n") == (code == 0)


STRANGE: dict[str, tuple[dict[str, str], Sequence[str]]] = {
    "an empty environment": ({}, ()),
    "an empty PATH": ({"PATH": ""}, ()),
    "Turkish, of another encoding": ({"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "tr_TR"}, ()),
    "POSIX": ({"LC_ALL": "POSIX"}, ()),
    "C": ({"LC_ALL": "C", "PYTHONUTF8": "0"}, ()),
    "a locale that there is not": ({"LANG": "xx_YY.UTF-8", "LC_CTYPE": "UTF-8"}, ()),
    "a mask that gives nothing": ({}, ("sh", "-c", 'umask 777; exec "$@"', "sh")),
    "a directory that is gone": (
        {},
        ("sh", "-c", 'd=$(mktemp -d "$GONE/x.XXXXXX"); cd "$d"; rmdir "$d"; exec "$@"', "sh"),
    ),
}


@pytest.mark.allow_commands("python", "sh", "mktemp", "rmdir")
@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize(
    "words",
    [
        ("answers", "check", "no-such-\udcff-file"),
        *(pytest.param(words, marks=pytest.mark.thorough) for words in (("answers", "example"), ("--help",))),
    ],
)
def test_strange_caller_gets_what_any_other_gets(tmp_path: Path, what: str, words: Sequence[str]) -> None:
    environment, before = STRANGE[what]
    start = f"import sys; sys.path.insert(0, {str(ROOM)!r}); from wizard.cli import main; sys.exit(main())"
    argv = [*map(os.fsencode, (*before, sys.executable, "-I", "-B", "-c", start, *words))]
    shell = {"GONE": str(tmp_path), "PATH": os.environ["PATH"]} if before else {}
    ended = subprocess.run(argv, env={**shell, **environment}, capture_output=True, check=False, cwd="/")
    assert ended.returncode == (2 if "check" in words else 0), ended
    said = (ended.stdout + ended.stderr).decode("utf-8", "replace")
    assert "Traceback" not in said and "should not have happened" not in said and said.strip()


def test_command_and_run_are_started_isolated() -> None:
    """Neither the directory where it is typed, nor PYTHONPATH, is looked into for modules."""
    first, _, _ = (ROOM / "wizard" / "__main__.py").read_text().partition("\n")
    assert first == "#!/opt/vllm-https-setup/bin/python -I"
    assert own_command("run", "x")[1:] == ("-I", "-m", "wizard", "run", "x")
