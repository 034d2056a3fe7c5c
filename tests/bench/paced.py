"""A stand-in for vLLM that sends tokens at a fixed pace, each stamped with the moment in which it leaves.

Every port is for one proxy and has a pace of its own, so that the streams of several proxies can be open at once while
those of one flow. What it speaks is uvicorn's HTTP/1.1: chunked event streams, JSON, idle connections closed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

STREAM = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 02 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
TOKEN = (
    b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"phi-4-mini","choices":[{"index":0,"delta":{"content":"%d."},"logprobs":null,"finish_reason":null}]}\n\n'
)
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
JSON = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 02 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
)


def json_answer(size: int) -> bytes:
    """A whole answer with a body of this many bytes, of words as a model's answer has them."""
    words = b"the quick brown fox jumps over the lazy dog and answers in French "
    head, tail = b'{"object":"chat.completion","choices":[{"message":{"content":"', b'"}}]}'
    body = head + (words * (size // len(words) + 1))[: size - len(head) - len(tail)] + tail
    return JSON % (len(body), body)


def token() -> bytes:
    """One token's chunk; its content is the monotonic clock in microseconds."""
    data = TOKEN % (time.monotonic_ns() // 1000)
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass
class _Port:
    listener: socket.socket
    pace: float = 0.0  # seconds between two tokens of a stream; 0: they wait
    turn: float = 0.0  # when the next stream of the queue is due
    keep_alive: float = 3600.0
    streams: deque[_Client] = field(default_factory=deque)


@dataclass
class _Client:
    socket: socket.socket
    port: _Port
    pending: bytes = b""
    unsent: bytes = b""
    streams: bool = False
    idle_since: float = 0.0


class _Server:
    """The loop; told by a pipe what a port's pace and keep-alive are."""

    def __init__(self, told: Connection, count: int) -> None:
        self._told = told
        self._epoll = select.epoll()
        self._epoll.register(told.fileno(), select.EPOLLIN)
        self._clients: dict[int, _Client] = {}
        self._idle: dict[int, _Client] = {}
        self._answers: dict[int, bytes] = {}
        self._ports = [_Port(socket.create_server(("127.0.0.1", 0), backlog=2048)) for _ in range(count)]
        for port in self._ports:
            port.listener.setblocking(False)
            self._epoll.register(port.listener.fileno(), select.EPOLLIN)
        self._listening = {port.listener.fileno(): port for port in self._ports}
        told.send([port.listener.getsockname()[1] for port in self._ports])

    def run(self) -> None:
        swept = 0.0
        while True:
            flowing = any(port.pace for port in self._ports)
            for number, _ in self._epoll.poll(0 if flowing else 0.005):
                if number == self._told.fileno():
                    if not self._obey():
                        return
                elif number in self._listening:
                    self._accept(self._listening[number])
                elif number in self._clients:
                    self._read(self._clients[number])
            active = [port for port in self._ports if port.pace]
            for port in active:
                self._send_due(port)
            if (now := time.monotonic()) - swept > 0.001:
                swept = now
                self._close_idle(now)
            if active:
                due = min(port.turn for port in active)
                time.sleep(min(max(due - time.monotonic(), 0), 0.001))

    def _obey(self) -> bool:
        try:
            index, pace, keep_alive = self._told.recv()
        except EOFError:
            return False
        port = self._ports[index]
        port.pace, port.keep_alive, port.turn = pace, keep_alive, time.monotonic()
        self._told.send(len(port.streams))
        return True

    def _accept(self, port: _Port) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = port.listener.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients[accepted.fileno()] = _Client(accepted, port)
                self._epoll.register(accepted.fileno(), select.EPOLLIN)

    def _read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        self._idle.pop(client.socket.fileno(), None)
        client.pending += data
        while (end := client.pending.find(b"\r\n\r\n") + 4) >= 4:
            head = client.pending[:end].lower()
            _, found, length = head.partition(b"content-length: ")
            whole = end + (int(length.split(b"\r\n")[0]) if found else 0)
            if len(client.pending) < whole:
                return
            body, client.pending = client.pending[end:whole], client.pending[whole:]
            self._answer(client, head, body)

    def _answer(self, client: _Client, head: bytes, body: bytes) -> None:
        """By the path's last word: how many bytes of JSON, `break`, or else a stream of what the body says."""
        last = head.split(b" ")[1].rpartition(b"/")[2]
        if last.isdigit():
            size = int(last)
            if size not in self._answers:
                self._answers[size] = json_answer(size)
            self._send(client, self._answers[size])
            self._rest(client)
        elif last == b"break":
            self._send(client, STREAM + token())
            self._drop(client)
        elif b'"max_tokens":1' in body:
            self._send(client, STREAM + token() + END)
            self._rest(client)
        else:
            self._send(client, STREAM + token())
            client.streams = True
            client.port.streams.append(client)

    def _rest(self, client: _Client) -> None:
        if (number := client.socket.fileno()) in self._clients:
            client.idle_since = time.monotonic()
            self._idle[number] = client

    def _send_due(self, port: _Port) -> None:
        """One token to each stream that is due, in turn; a stream whose reader is late gets none."""
        streams = port.streams
        now = time.monotonic()
        if not streams:
            port.turn = now + 0.001
            return
        step = port.pace / len(streams)
        due = min(int((now - port.turn) / step) + 1, len(streams)) if now >= port.turn else 0
        for _ in range(due):
            if not streams:
                break
            client = streams[0]
            streams.rotate(-1)
            self._send(client, token())
        port.turn = max(port.turn + due * step, now - port.pace)

    def _send(self, client: _Client, data: bytes) -> None:
        """What does not fit into the socket waits for the stream's next turn, and takes that token's place."""
        data = client.unsent or data
        try:
            client.unsent = data[client.socket.send(data) :]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _close_idle(self, now: float) -> None:
        for client in list(self._idle.values()):
            if now - client.idle_since >= client.port.keep_alive:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        number = client.socket.fileno()
        self._idle.pop(number, None)
        if self._clients.pop(number, None):
            client.socket.close()
        if client.streams:
            client.streams = False
            client.port.streams.remove(client)


class Model:
    """The stand-in in a process of its own, with one port for each proxy."""

    def __init__(self, count: int) -> None:
        self._told, other = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_serve, args=(other, self._told, count), daemon=True)
        self._process.start()
        other.close()
        self.ports: Sequence[int] = self._told.recv()

    def set(self, index: int, pace: float = 0.0, keep_alive: float = 3600.0) -> int:
        """From now on these are the port's pace and keep-alive; returns how many streams it has."""
        self._told.send((index, pace, keep_alive))
        count: int = self._told.recv()
        return count

    def end(self) -> None:
        self._told.close()
        self._process.join(5)


def _serve(told: Connection, other: Connection, count: int) -> None:
    other.close()
    with contextlib.suppress(KeyboardInterrupt):
        _Server(told, count).run()
