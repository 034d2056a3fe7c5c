"""Clients of a proxy: event streams whose tokens say when they left, and requests for JSON as fast as answers come."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

STAMP = re.compile(rb'"content":"(\d+)\."')
ACCEPT = "gzip, deflate"  # what Python's OpenAI client says


def request(host: str, path: str, body: bytes = b"") -> bytes:
    """A whole request, as a client with an API key sends it."""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {host}", f"Accept-Encoding: {ACCEPT}"]
    lines += ["Accept: application/json", "User-Agent: bench", "Authorization: Bearer sk-0123456789abcdef"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def chat(host: str, *, max_tokens: int = 4096) -> bytes:
    """The request for a stream."""
    text = b'{"model":"phi-4-mini","messages":[{"role":"user","content":"Say hello in French"}],"stream":true,'
    return request(host, "/v1/chat/completions", text + b'"max_tokens":%d}' % max_tokens)


@dataclass(frozen=True)
class Address:
    """Where a proxy, or the stand-in itself, is called."""

    host: str
    port: int
    context: ssl.SSLContext | None

    def connect(self, timeout: float = 20) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            return connection
        try:
            return self.context.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise


def trusting() -> ssl.SSLContext:
    """A client's TLS that asks for no proof: certificates are not what is measured."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Answer:
    """One answer as it comes in: `status`, and the stamps of its tokens, unpacked where it is compressed."""

    def __init__(self) -> None:
        self.status = 0
        self.done = False
        self._head = b""
        self._rest = b""
        self._left: int | None = None  # bytes of the body that are still to come; None: chunked
        self._unpack: zlib._Decompress | None = None
        self._text = b""

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
                self._unpack = zlib.decompressobj(31)
            if b"content-length: " in head:
                self._left = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        if self._left is not None:
            self._left -= len(data)
            self.done = self._left <= 0
            return self._stamps(data)
        if self._unpack is None:
            # Unchunking is left out: no stamp has a line break in it, but one may be cut by a chunk's end.
            self.done = data.endswith(b"0\r\n\r\n")
            return self._stamps(data)
        return self._stamps(self._unchunk(data))

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

    def _stamps(self, data: bytes) -> list[int]:
        if self._unpack is not None:
            data = self._unpack.decompress(data)
        text = self._text + data
        found = [int(one) for one in STAMP.findall(text)]
        self._text = text[text.rfind(b"\n") + 1 :] if found else text[-400:]
        return found


@dataclass
class Window:
    """What came in a span of time."""

    tokens: int = 0
    size: int = 0  # bytes, decrypted but as they were sent
    delays: list[int] = field(default_factory=list)  # microseconds from the stand-in's hand into the client's
    first: list[float] = field(default_factory=list)  # microseconds until a request's first token


class Streams:
    """Many open streams of one proxy, read by one loop; and one more connection that asks for first tokens."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._epoll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Answer]] = {}
        self._probe = address.connect()
        self._asked = 0.0
        self._answer = Answer()
        self._probe.setblocking(False)
        self._epoll.register(self._probe.fileno(), select.EPOLLIN)

    def open(self, count: int, timeout: float = 20) -> dict[str, int]:
        """Opens streams one after another until so many were tried; what became of them."""
        became: dict[str, int] = {}
        for _ in range(count):
            how = self._open_one(timeout)
            became[how] = became.get(how, 0) + 1
        return became

    def _open_one(self, timeout: float) -> str:
        answer = Answer()
        connection = None
        try:
            connection = self._address.connect(timeout)
            connection.sendall(chat(self._address.host))
            while not answer.feed(data := connection.recv(65536)):
                if not data:
                    return f"{answer.status or 'connection'} ended"
                if answer.done:
                    connection.close()
                    return str(answer.status)
        except TimeoutError:
            if connection is not None:
                connection.close()
            return "no answer"
        except OSError:
            return "refused" if connection is None else "connection ended"
        connection.setblocking(False)
        self._open[connection.fileno()] = connection, answer
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        return "streams"

    def read(self, seconds: float, ask_every: float = 0.0) -> Window:
        """What comes in so many seconds, or longer until something has; with requests for a first token in between."""
        window = Window()
        until = time.monotonic() + seconds
        again = time.monotonic()
        while (now := time.monotonic()) < until or (ask_every and not (window.first and window.tokens)):
            if now > until + 20:
                raise TimeoutError("no first token has come for 20 s")
            if ask_every and not self._asked and now >= again:
                self._answer, self._asked, again = Answer(), now, now + ask_every
                self._probe.send(chat(self._address.host, max_tokens=1))
            for number, _ in self._epoll.poll(0.002):
                if number == self._probe.fileno():
                    self._read_probe(window)
                else:
                    self._read_one(number, window)
        return window

    def _read_probe(self, window: Window) -> None:
        try:
            data = self._probe.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        now = time.monotonic()
        if self._answer.feed(data):
            window.first.append((now - self._asked) * 1e6)
        if self._answer.done:
            self._asked = 0.0

    def _read_one(self, number: int, window: Window) -> None:
        connection, answer = self._open[number]
        try:
            data = connection.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            data = b""
        now = time.monotonic_ns() // 1000
        if not data:
            self._epoll.unregister(number)
            self._open.pop(number)[0].close()
            return
        stamps = answer.feed(data)
        window.tokens += len(stamps)
        window.size += len(data)
        window.delays += [now - stamp for stamp in stamps]

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        for connection, _ in self._open.values():
            connection.close()
        self._open.clear()
        self._probe.close()
        self._epoll.close()


class Requests:
    """Connections that are kept, each with one request at a time."""

    def __init__(self, address: Address, path: str, count: int, body: bytes = b"") -> None:
        self._request = request(address.host, path, body)
        self._epoll = select.epoll()
        self._connections = {}
        for _ in range(count):
            connection = address.connect()
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._epoll.register(connection.fileno(), select.EPOLLIN)
        self.statuses: dict[int, int] = {}
        self.times: list[float] = []

    def repeat(self, seconds: float) -> int:
        """Asks as fast as answers come; how many came."""
        until = time.monotonic() + seconds
        return self._run(lambda now: now < until)

    def burst(self) -> int:
        """One request on each connection, all at once."""
        return self._run(lambda _: False)

    def _run(self, more: Callable[[float], bool]) -> int:
        waiting: dict[int, tuple[Answer, float]] = {}
        count = 0
        for number in self._connections:
            self._ask(number, waiting)
        give_up = time.monotonic() + 20
        while waiting and time.monotonic() < give_up:
            for number, _ in self._epoll.poll(1):
                answer, asked = waiting[number]
                try:
                    data = self._connections[number].recv(65536)
                except (ssl.SSLWantReadError, BlockingIOError):
                    continue
                if not data:
                    raise ConnectionError(f"a kept connection was closed (status {answer.status})")
                answer.feed(data)
                if answer.done:
                    now = time.monotonic()
                    count += 1
                    self.times.append((now - asked) * 1e6)
                    self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                    del waiting[number]
                    if more(now):
                        self._ask(number, waiting)
        if waiting:
            raise TimeoutError(f"{len(waiting)} requests had no answer in 20 s")
        return count

    def _ask(self, number: int, waiting: dict[int, tuple[Answer, float]]) -> None:
        waiting[number] = Answer(), time.monotonic()
        self._connections[number].send(self._request)

    def close(self) -> None:
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.close()
        self._epoll.close()
