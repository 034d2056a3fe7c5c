"""A client's connection that speaks HTTP/1.1: one request at a time."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench import load
from tests.bench.load import PATIENCE, Address, fields


class Answer(load.Answer):
    """An answer with its head, and its body chunked or as long as it says."""

    def __init__(self) -> None:
        super().__init__()
        self._head = b""
        self._rest = b""
        self._left: int | None = None  # bytes of the body that are still to come; None: chunked
        self._packed = False

    def feed(self, data: bytes) -> list[int]:
        """The stamps, in microseconds, that have come whole with this."""
        if not self.status:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return []
            head = head.lower()
            self.status = int(head.split(b" ", 2)[1])
            if b"content-encoding: gzip" in head:
                self._packed = True
                self.tokens.unpack()
            if b"content-length: " in head:
                self._left = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        if self._left is not None:
            self._left -= len(data)
            self.done = self._left <= 0
            return self.tokens.feed(data)
        if not self._packed:
            # Unchunking is left out: no stamp has a line break in it, but one may be cut by a chunk's end.
            self.done = data.endswith(b"0\r\n\r\n")
            return self.tokens.feed(data)
        return self.tokens.feed(self._unchunk(data))

    def _unchunk(self, data: bytes) -> bytes:
        self._rest += data
        out = b""
        while (end := self._rest.find(b"\r\n")) > 0:
            size = int(self._rest[:end], 16)
            if size == 0:
                self.done = True
                break
            if len(self._rest) < end + size + 4:
                break
            out += self._rest[end + 2 : end + 2 + size]
            self._rest = self._rest[end + size + 4 :]
        return out


class Connection(load.Connection):
    protocol = "http/1.1"

    def __init__(self, address: Address, path: str, body: bytes = b"", timeout: float = PATIENCE) -> None:
        super().__init__(address, path, body, timeout)
        lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {address.host}"]
        lines += [f"{name}: {value}" for name, value in fields(body)]
        self._request = "\r\n".join([*lines, "", ""]).encode() + body
        self._unsent = b""
        self._answer: Answer | None = None

    def __len__(self) -> int:
        return int(self._answer is not None)

    def ask(self) -> Answer:
        self._answer = Answer()
        self._unsent = self._request
        return self._answer

    def flush(self) -> None:
        if self._unsent:
            self.socket.send(self._unsent)
            self._unsent = b""

    def give_up(self, answer: load.Answer) -> None:
        self._answer = None

    def _feed(self, data: bytes) -> Sequence[tuple[load.Answer, list[int]]]:
        answer = self._answer
        if answer is None:
            return ()
        stamps = answer.feed(data)
        if answer.done:
            self._answer = None
        return [(answer, stamps)]
