"""Clients of a proxy: event streams whose tokens say when they left, and requests for JSON as fast as answers come.

One loop for both, over connections that speak HTTP/1.1 (http1.py) or HTTP/2 (http2.py).
"""

from __future__ import annotations

import functools
import re
import select
import socket
import ssl
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

STAMP = re.compile(rb'"content":"(\d+)\."')
ACCEPT = "gzip, deflate"  # what Python's OpenAI client says
CHAT = "/v1/chat/completions"
PATIENCE = 20  # seconds


def fields(body: bytes) -> list[tuple[str, str]]:
    """The header of a request with this body, as a client with an API key sends it."""
    always = [("Accept-Encoding", ACCEPT), ("Accept", "application/json"), ("User-Agent", "bench")]
    always += [("Authorization", "Bearer sk-0123456789abcdef")]
    return [*always, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))] if body else always


def chat(*, max_tokens: int = 4096) -> bytes:
    """The body of a request for a stream."""
    text = b'{"model":"phi-4-mini","messages":[{"role":"user","content":"Say hello in French"}],"stream":true,'
    return text + b'"max_tokens":%d}' % max_tokens


@functools.cache
def trusting(protocol: str) -> ssl.SSLContext:
    """A client's TLS for this protocol that asks for no proof: certificates are not what is measured."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


@dataclass(frozen=True)
class Address:
    """Where a proxy, or the stand-in itself (without TLS), is called."""

    host: str
    port: int
    tls: bool = True

    def connect(self, timeout: float = PATIENCE, protocol: str = "http/1.1") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return connection
        try:
            return trusting(protocol).wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise


class Tokens:
    """The body of an event stream as it comes in, unpacked where it is compressed."""

    def __init__(self) -> None:
        self._unpack: zlib._Decompress | None = None
        self._text = b""

    def unpack(self) -> None:
        """From now on it is gzip."""
        self._unpack = zlib.decompressobj(31)

    def feed(self, data: bytes) -> list[int]:
        """The stamps, in microseconds, that have come whole with this."""
        if self._unpack is not None:
            data = self._unpack.decompress(data)
        text = self._text + data
        found = [int(one) for one in STAMP.findall(text)]
        self._text = text[text.rfind(b"\n") + 1 :] if found else text[-400:]
        return found


class Answer:
    """One answer as it comes in. `asked` is when (monotonic seconds); `status` is 0 until it is known."""

    def __init__(self) -> None:
        self.asked = time.monotonic()
        self.status = 0
        self.done = False
        self.tokens = Tokens()


class Connection(ABC):
    """A connection all of whose requests are the same. OSError: it can't be had, or is over."""

    protocol: str  # as ALPN names it
    streams = 1  # how many event streams it carries at the most
    requests = 1  # how many requests for JSON at once

    def __init__(self, address: Address, path: str, body: bytes = b"", timeout: float = PATIENCE) -> None:
        self.socket = address.connect(timeout, self.protocol)
        self.socket.setblocking(False)
        self.size = 0  # bytes that have come, decrypted but as they were sent
        self.came = 0  # when the last of them did, in microseconds of the monotonic clock

    @abstractmethod
    def __len__(self) -> int:
        """How many of its requests have no whole answer yet."""

    @abstractmethod
    def ask(self) -> Answer:
        """One request more; it leaves with `flush`."""

    @abstractmethod
    def flush(self) -> None: ...

    @abstractmethod
    def give_up(self, answer: Answer) -> None:
        """Nobody waits for this answer any more."""

    @abstractmethod
    def _feed(self, data: bytes) -> Sequence[tuple[Answer, list[int]]]: ...

    def receive(self) -> Sequence[tuple[Answer, list[int]]]:
        """The answers of which something has come, each once, with the stamps that are whole with it."""
        try:
            data = self.socket.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return ()
        self.came = time.monotonic_ns() // 1000
        if not data:
            raise ConnectionError("the other end has closed a connection")
        self.size += len(data)
        return self._feed(data)

    def wait(self, until: float) -> Sequence[tuple[Answer, list[int]]]:
        """The same, when something has come."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(max(until - time.monotonic(), 0) * 1000):
            raise TimeoutError("nothing has come in time")
        return self.receive()

    def close(self) -> None:
        self.socket.close()


@dataclass
class Window:
    """What came in a span of time."""

    tokens: int = 0
    size: int = 0  # bytes, decrypted but as they were sent
    delays: list[int] = field(default_factory=list)  # microseconds from the stand-in's hand into the client's
    first: list[float] = field(default_factory=list)  # microseconds until a request's first token


class Streams:
    """Many open streams of one proxy, read by one loop; and one more connection that asks for first tokens."""

    def __init__(self, speaking: type[Connection], address: Address) -> None:
        self._speaking, self._address = speaking, address
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._newest: Connection | None = None
        self._probe = speaking(address, CHAT, chat(max_tokens=1))
        self._asked: Answer | None = None
        self._epoll.register(self._probe.socket, select.EPOLLIN)

    def open(self, count: int, timeout: float = PATIENCE) -> dict[str, int]:
        """Opens streams one after another until so many were tried; what became of them."""
        became: dict[str, int] = {}
        for _ in range(count):
            how = self._open_one(timeout)
            became[how] = became.get(how, 0) + 1
        return became

    def _open_one(self, timeout: float) -> str:
        until = time.monotonic() + timeout
        try:
            connection = self._with_room(timeout)
        except TimeoutError:
            return "no answer"
        except OSError:
            return "refused"
        answer = connection.ask()
        try:
            connection.flush()
            while not answer.done:
                if any(one is answer and stamps for one, stamps in connection.wait(until)):
                    return "streams"
        except TimeoutError:
            connection.give_up(answer)
            return "no answer"
        except OSError:
            self._lose(connection)
            return f"{answer.status or 'connection'} ended"
        finally:
            if not len(connection):
                self._lose(connection)
        return str(answer.status or "reset")

    def _with_room(self, timeout: float) -> Connection:
        """The newest, as long as it may carry another stream: streams stay open, so no older one has room."""
        if self._newest is None or len(self._newest) >= self._speaking.streams:
            self._newest = self._speaking(self._address, CHAT, chat(), timeout)
            self._open[self._newest.socket.fileno()] = self._newest
            self._epoll.register(self._newest.socket, select.EPOLLIN)
        return self._newest

    def _lose(self, connection: Connection) -> None:
        if self._open.pop(connection.socket.fileno(), None):
            self._epoll.unregister(connection.socket)
        if connection is self._newest:
            self._newest = None
        connection.close()

    def read(self, seconds: float, ask_every: float = 0.0) -> Window:
        """What comes in so many seconds, or longer until something has; with requests for a first token in between."""
        window = Window()
        until = time.monotonic() + seconds
        again = time.monotonic()
        while (now := time.monotonic()) < until or (ask_every and not (window.first and window.tokens)):
            if now > until + PATIENCE:
                raise TimeoutError(f"no first token has come for {PATIENCE} s")
            if ask_every and self._asked is None and now >= again:
                self._asked, again = self._probe.ask(), now + ask_every
                self._probe.flush()
            for number, _ in self._epoll.poll(0.002):
                if connection := self._open.get(number):
                    self._read_one(connection, window)
                else:
                    self._read_probe(window)
        return window

    def _read_probe(self, window: Window) -> None:
        for answer, stamps in self._probe.receive():
            if stamps:
                window.first.append(self._probe.came - answer.asked * 1e6)
            if answer.done:
                self._asked = None

    def _read_one(self, connection: Connection, window: Window) -> None:
        before = connection.size
        try:
            found = connection.receive()
        except OSError:
            self._lose(connection)
            return
        window.size += connection.size - before
        for _, stamps in found:
            window.tokens += len(stamps)
            window.delays += [connection.came - stamp for stamp in stamps]

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()
        self._probe.close()
        self._epoll.close()


class Requests:
    """So many requests at once, over connections that are kept."""

    def __init__(self, speaking: type[Connection], address: Address, path: str, count: int, body: bytes = b"") -> None:
        self._epoll = select.epoll()
        self._connections: dict[int, tuple[Connection, int]] = {}
        while count > 0:
            connection = speaking(address, path, body)
            self._connections[connection.socket.fileno()] = connection, min(count, speaking.requests)
            self._epoll.register(connection.socket, select.EPOLLIN)
            count -= speaking.requests
        self.statuses: dict[int, int] = {}
        self.times: list[float] = []

    def repeat(self, seconds: float) -> int:
        """Asks as fast as answers come; how many came."""
        until = time.monotonic() + seconds
        return self._run(lambda now: now < until)

    def burst(self) -> int:
        """All at once, each one time."""
        return self._run(lambda _: False)

    def _run(self, more: Callable[[float], bool]) -> int:
        waiting = count = 0
        for connection, at_once in self._connections.values():
            for _ in range(at_once):
                connection.ask()
            connection.flush()
            waiting += at_once
        give_up = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < give_up:
            for number, _ in self._epoll.poll(1):
                connection, _ = self._connections[number]
                for answer, _ in connection.receive():
                    if not answer.done:
                        continue
                    now = time.monotonic()
                    count += 1
                    self.times.append((now - answer.asked) * 1e6)
                    self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                    if more(now):
                        connection.ask()
                    else:
                        waiting -= 1
                connection.flush()
        if waiting:
            raise TimeoutError(f"{waiting} requests had no answer in {PATIENCE} s")
        return count

    def close(self) -> None:
        for connection, _ in self._connections.values():
            connection.close()
        self._epoll.close()
