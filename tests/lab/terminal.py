"""A person's terminal: the real SSH client on a pty of its own, each byte counted, the screen read as text."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.emulator import Emulator
from tests.lab.machine import SEARCH_PATH
from tests.lab.server import Server
from tests.lab.space import Deadline

KEYS = {
    "enter": b"\r",
    "escape": b"\x1b",
    "tab": b"\t",
    "shift+tab": b"\x1b[Z",
    "space": b" ",
    "backspace": b"\x7f",
    "up": b"\x1b[A",
    "down": b"\x1b[B",
    "right": b"\x1b[C",
    "left": b"\x1b[D",
    "home": b"\x1b[H",
    "end": b"\x1b[F",
    "pageup": b"\x1b[5~",
    "pagedown": b"\x1b[6~",
    "f1": b"\x1bOP",
}
# What terminals of today answer where a program asks them; by default nothing is answered, as by many.
MODERN = {b"\x1b[?2026$p": b"\x1b[?2026;2$y", b"\x1b[c": b"\x1b[?62;22c"}
NAME = "LC_TERMINAL_OF_LAB"  # sshd takes LC_*: how the far side's processes of this login are known


@dataclass(frozen=True)
class Piece:
    """Bytes that came at once: when (monotonic), and where they end in all that came."""

    at: float
    end: int


@dataclass(frozen=True)
class Mark:
    """A moment of a terminal: when, and how many bytes had come."""

    at: float
    bytes: int


class Terminal:
    """A login with a terminal. Without a command: a shell. `bytes` is all that ever came."""

    def __init__(
        self,
        server: Server,
        command: str = "",
        *,
        rows: int = 24,
        columns: int = 80,
        term: str = "xterm-256color",
        env: Mapping[str, str] | None = None,
        answers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.emulator = Emulator(rows, columns)
        self.bytes = bytearray()
        self.pieces: list[Piece] = []
        self.id = uuid.uuid4().hex
        self._server = server
        self._answers = dict(answers or {})
        self._fed = 0
        self._asked = 0
        self._reading = threading.Lock()
        self._ended = False
        self._master, slave = os.openpty()
        self._set_size(rows, columns)
        # sshd takes LANG and LC_* from a client, as Debian and Ubuntu set both up
        given = {"LANG": "C.UTF-8", NAME: self.id, **(env or {})}
        options = ["-e", "none", "-o", "SetEnv=" + " ".join(f"{name}={value}" for name, value in given.items())]
        login = server.ssh_argv(command, tty=True, options=options)
        self._process = subprocess.Popen(
            # The pty is the client's own terminal: it is told of a new size, and of its end, whoever ignores that here.
            ["env", "--default-signal=HUP,INT,QUIT,TERM", "setsid", "--ctty", *login],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "TERM": term},
        )
        os.close(slave)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    # ── what comes ──

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if self._ended:
                return
            if not ready:
                continue
            with self._reading:
                try:
                    data = os.read(self._master, 65536)
                except OSError:  # nobody holds the other side any more
                    return
                self.bytes += data
                self.pieces.append(Piece(time.monotonic(), len(self.bytes)))
            self._answer()

    def _answer(self) -> None:
        for question, answer in self._answers.items():
            if (found := self.bytes.find(question, self._asked)) >= 0:
                self._asked = found + len(question)
                os.write(self._master, answer)

    def _feed(self) -> None:
        new = bytes(self.bytes[self._fed :])
        self._fed += len(new)
        self.emulator.feed(new)

    @property
    def screen(self) -> list[str]:
        """What is on the screen now."""
        self._feed()
        return self.emulator.lines

    @property
    def text(self) -> str:
        return "\n".join(self.screen)

    def shown(self) -> str:
        """The screen as a failure message shows it."""
        rule = "─" * self.emulator.columns
        body = "\n".join(self.screen).rstrip()
        return f"\n{rule}\n{body}\n{rule}\n({len(self.bytes)} bytes came, the last: {bytes(self.bytes[-60:])!r})"

    def mark(self) -> Mark:
        return Mark(time.monotonic(), len(self.bytes))

    def bytes_since(self, mark: Mark) -> int:
        return len(self.bytes) - mark.bytes

    def wait_for(self, sign: str | Callable[[str], bool], timeout: float = 20) -> Self:
        """Wait until this text is on the screen, or the screen's text is so."""
        what = repr(sign) if isinstance(sign, str) else "what was expected on the screen"

        def is_so() -> bool:
            return sign in self.text if isinstance(sign, str) else sign(self.text)

        return self.wait_until(is_so, what, timeout)

    def wait_until(self, is_so: Callable[[], bool], what: str, timeout: float = 20) -> Self:
        until = Deadline(what, timeout)
        while not is_so():
            alive = self._thread.is_alive()
            if not alive and not is_so():
                raise AssertionError(f"the terminal ended without {what}{self.shown()}")
            try:
                until.tick(0.005)
            except TimeoutError as error:
                raise AssertionError(f"{error}{self.shown()}") from None
        return self

    def wait_still(self, quiet: float = 0.4, timeout: float = 20) -> Mark:
        """Wait until nothing has come for so long; the moment at which it was still."""
        until = Deadline(f"the terminal to be still for {quiet} s", timeout)
        begun = time.monotonic()
        while time.monotonic() - max(begun, self.pieces[-1].at if self.pieces else 0) < quiet:
            try:
                until.tick(0.01)
            except TimeoutError as error:
                raise AssertionError(f"{error}{self.shown()}") from None
        return self.mark()

    def listen(self, seconds: float) -> bytes:
        """All that comes within this time."""
        before = len(self.bytes)
        time.sleep(seconds)
        return bytes(self.bytes[before:])

    def seconds_to_answer(self, mark: Mark, timeout: float = 20) -> float:
        """From a moment to the first byte that came after it."""
        self.wait_until(lambda: len(self.bytes) > mark.bytes, "an answer", timeout)
        return next(piece.at for piece in self.pieces if piece.end > mark.bytes) - mark.at

    def seconds_until_still(self, mark: Mark, quiet: float = 0.4) -> float:
        """From a moment to the last byte that came before it was still."""
        self.wait_still(quiet)
        return self.pieces[-1].at - mark.at

    # ── what is done ──

    def press(self, *keys: str) -> Mark:
        """Press keys by name ("enter", "ctrl+q", "x"), one after the other; the moment before the first."""
        mark = self.mark()
        for key in keys:
            self._write(key_bytes(key))
        return mark

    def type_in(self, text: str) -> Mark:
        mark = self.mark()
        self._write(text.encode())
        return mark

    def _write(self, data: bytes) -> None:
        os.write(self._master, data)

    def resize(self, rows: int, columns: int) -> Mark:
        mark = self.mark()
        self._feed()
        self.emulator.resize(rows, columns)
        self._set_size(rows, columns)
        return mark

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """The line carries nothing: what the program writes fills what lies between, and then its writes block.

        An SSH connection alone takes in a megabyte more; so the far side's sshd is stopped too.
        """
        forwarders = self.forwarders()
        assert forwarders, "the far side has no sshd for this terminal"
        with self._reading:
            for pid in forwarders:
                os.kill(pid, signal.SIGSTOP)
            try:
                yield
            finally:
                for pid in forwarders:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)

    def cut(self) -> None:
        """The SSH client dies at once, and with it the connection."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def hang_up(self) -> None:
        """The terminal's window is closed: the kernel tells the SSH client, which ends the connection."""
        self._ended = True
        self._thread.join()
        os.close(self._master)
        self._master = -1
        self._process.wait(20)

    def end(self, timeout: float = 60) -> int:
        """Wait for the end; the exit code that the command had on the far side."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {timeout} s{self.shown()}") from None
        self._thread.join(10)
        self._feed()
        return code

    @property
    def printed(self) -> str:
        """What was printed after the alternate screen was left; all that was printed where it never was."""
        self._feed()
        return bytes(self.emulator.printed).decode(errors="replace").replace("\r\n", "\n")

    def left_over(self) -> list[str]:
        """What the far side has changed at this terminal and not put back."""
        self._feed()
        return self.emulator.left_over()

    # ── the far side ──

    def processes(self) -> dict[int, str]:
        """The far side's processes of this login, as the machine numbers them, and their command lines."""
        marker = f"{NAME}={self.id}".encode()
        found = {}
        for pid in _host_processes(self._server):
            with suppress(OSError):
                if marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return found

    def forwarders(self) -> list[int]:
        """The sshd of this login: what carries its bytes on the far side."""
        mine = self.processes()
        parents = {_parent(pid) for pid in mine} - mine.keys()
        return sorted(pid for pid in parents if _name(pid).startswith("sshd"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        self._ended = True
        self._thread.join()
        if self._master >= 0:
            os.close(self._master)


def key_bytes(key: str) -> bytes:
    """What a terminal sends for a key."""
    if key in KEYS:
        return KEYS[key]
    if key.startswith("ctrl+") and len(key) == 6:
        return bytes([ord(key[5].upper()) & 0x1F])
    if len(key) == 1:
        return key.encode()
    raise ValueError(f"no such key: {key}")


def processor_seconds(pid: int) -> float:
    """How long the threads of a process have kept a processor busy; 0 where it is gone."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            total += int(thread.read_text().split()[0])
    return total / 1e9


def _host_processes(server: Server) -> list[int]:
    """All processes of a host, as the machine numbers them."""
    groups = Path(f"/proc/{server.leader}/root/sys/fs/cgroup")
    found = []
    for group, _, names in os.walk(groups):
        if "cgroup.procs" in names:
            with suppress(OSError):
                found += [int(word) for word in Path(group, "cgroup.procs").read_text().split()]
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
