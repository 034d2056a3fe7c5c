"""A command under way: in a session of its own, its words told as they come, its whole group ended with it."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, cast

from .mask import strip_control
from .model import TIMED_OUT, Output
from .paths import PROGRAMS

if TYPE_CHECKING:
    from .system import Observer

ENVIRONMENT = {"PATH": ":".join(PROGRAMS), "LC_ALL": "C.UTF-8", "HOME": "/root"}
GRACE_S = 2.0


class Process:
    """A command under way, in a session of its own.

    As a context manager it ends the whole process group on leaving, whatever happened. It is started by subprocess,
    which runs no Python between fork and exec: commands are started in several threads at once, and a copy of this
    process in which another thread's lock is held for ever would hang there (CPython issue 6721).
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        *,
        reads_later: bool = False,
    ):
        """One that `reads_later` waits for what `give` gives it; where nobody does, its standard input ends with us."""
        program = shutil.which(argv[0], path=":".join(PROGRAMS))
        if program is None:
            raise FileNotFoundError(errno.ENOENT, "command not found", argv[0])
        self._stdin = stdin
        self._process = subprocess.Popen(
            argv,
            executable=program,
            env={**ENVIRONMENT, **(environment or {})},
            cwd="/",
            stdin=subprocess.PIPE if stdin or reads_later else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, stdin: bytes) -> None:
        """All of its standard input, at once: no more than a pipe holds, 64 KiB (pipe(7))."""
        pipe, self._process.stdin = self._process.stdin, None
        assert pipe is not None
        # Who has ended already says why where its end is waited for.
        with contextlib.suppress(BrokenPipeError), pipe:
            pipe.write(stdin)

    def wait(self, timeout_s: float, observer: Observer) -> Output:
        """Its whole output, told to the observer as it comes; exit code 124 where the time ran out and it was ended."""
        assert self._process.stdout is not None and self._process.stderr is not None
        streams = {self._process.stdout: Lines(observer), self._process.stderr: Lines(observer)}
        until, expired = time.monotonic() + timeout_s, False
        with selectors.DefaultSelector() as selector:
            for stream in streams:
                selector.register(stream, selectors.EVENT_READ)
            if self._process.stdin is not None:
                selector.register(self._process.stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                ready = selector.select(min(max(until - time.monotonic(), 0), GRACE_S))
                if not ready:
                    # Who waits for lines that come close together has them all: a long download begins so.
                    observer.output("")
                if not ready and time.monotonic() >= until:
                    if expired:
                        break  # who has left its process group and holds the pipes is not waited for
                    expired = True
                    self.end()
                    until = time.monotonic() + GRACE_S
                elif not ready and self._process.poll() is not None:
                    break  # a daemon that it has started holds the pipes, and says nothing
                for key, _ in ready:
                    if key.fileobj is self._process.stdin:
                        self._write(selector)
                    elif data := os.read(key.fd, 65536):
                        streams[cast("IO[bytes]", key.fileobj)].take(data)
                    else:
                        selector.unregister(key.fileobj)
        try:
            # It may have closed its output, and go on.
            code = self._process.wait(max(until - time.monotonic(), GRACE_S))
        except subprocess.TimeoutExpired:
            expired, code = True, 0
            self.end()
        out, err = (lines.end() for lines in streams.values())
        return Output(TIMED_OUT if expired else code, out, err)

    def _write(self, selector: selectors.BaseSelector) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            # What a pipe takes for sure when it is ready: a longer piece could wait for the reader.
            written = os.write(stdin.fileno(), self._stdin[: select.PIPE_BUF])
        except BrokenPipeError:
            written = len(self._stdin)
        self._stdin = self._stdin[written:]
        if not self._stdin:
            selector.unregister(stdin)
            stdin.close()

    def end(self) -> None:
        """SIGTERM to its group, and SIGKILL to what is left of it: grandchildren that hold the pipes end too."""
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, sent)
            except ProcessLookupError:
                return
            until = time.monotonic() + GRACE_S
            while time.monotonic() < until and self._process.poll() is None:
                time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self.end()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


class Lines:
    """What comes on one stream: told line by line, without what drives a terminal, and kept."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._kept: list[str] = []

    def take(self, data: bytes, *, last: bool = False) -> None:
        text = self._rest + self._decoder.decode(data, last)
        *lines, self._rest = text.split("\n")
        for line in lines:
            self._tell(f"{line}\n")

    def end(self) -> str:
        """All that came."""
        self.take(b"", last=True)
        if self._rest:
            self._tell(self._rest)
            self._rest = ""
        return "".join(self._kept)

    def _tell(self, line: str) -> None:
        clean = strip_control(line)
        self._kept.append(clean)
        self._observer.output(clean)
