"""Who answers may be anybody: an answer that drips, that breaks off, or that is no HTTP ends in time, as a sentence."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from wizard import exchange
from wizard.model import Secret
from wizard.server import Request

pytestmark = pytest.mark.allow_network("127.0.0.1")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
PATIENCE_S = 0.4
# Long enough that only one that goes on for ever would be longer.
FOR_EVER_S = 20


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each connection gets this."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                taken, _ = server.accept()
                with taken:
                    taken.recv(65536)
                    answer(taken)
            except OSError:
                pass  # hung up on, as it should be

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join(FOR_EVER_S)
        assert not thread.is_alive()


def drip(before: bytes) -> Callable[[socket.socket], None]:
    """The beginning, then a byte now and then: none of them late by itself."""

    def answer(taken: socket.socket) -> None:
        taken.sendall(before)
        until = time.monotonic() + FOR_EVER_S
        while time.monotonic() < until:
            taken.sendall(b"x")
            time.sleep(0.05)

    return answer


def ask(port: int, bearer: str | None = None) -> tuple[int, str]:
    request = Request("127.0.0.1", port, timeout_s=PATIENCE_S, bearer=None if bearer is None else Secret(bearer))
    response = exchange.exchange(request)
    return response.status, response.error


@pytest.mark.parametrize("before", [b"", HEAD, HEAD + b"X: ", HEAD + b"Content-Length: 999999\r\n\r\n", HEAD + b"\r\n"])
def test_answer_that_drips_ends_in_time(before: bytes) -> None:
    began = time.monotonic()
    with answering(drip(before)) as port:
        assert ask(port) == (0, "no answer in time")
    assert time.monotonic() - began < FOR_EVER_S


def test_answer_that_breaks_off_is_none() -> None:
    with answering(lambda taken: taken.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")) as port:
        assert ask(port) == (0, "the answer ended before all of it had come")


def test_whole_answer_is_one() -> None:
    with answering(lambda taken: taken.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")) as port:
        assert ask(port) == (200, "")


@pytest.mark.parametrize("answer", [b"", b"\0" * 100, b"HTTP/9 x\r\n\r\n", b"SSH-2.0-x\r\n", HEAD + b"A: b\r\n" * 200])
def test_what_is_no_http_is_an_error_in_words(answer: bytes) -> None:
    with answering(lambda taken: taken.sendall(answer)) as port:
        status, error = ask(port)
    assert status == 0 and error and "\n" not in error.strip()


@pytest.mark.parametrize("key", ["two\nlines", "ключ", "a\rb"])
def test_key_that_no_header_can_carry_is_an_error_in_words(key: str) -> None:
    with answering(lambda taken: None) as port:
        status, error = ask(port, key)
        with socket.create_connection(("127.0.0.1", port)):
            pass
    assert status == 0 and "none can have" in error and key not in error


def test_half_a_file_is_no_file() -> None:
    with answering(lambda taken: taken.sendall(HEAD + b"Content-Length: 4000\r\n\r\n-----BEGIN PGP")) as port:
        response = exchange.fetch(f"http://127.0.0.1:{port}/gpg.key", 5)
    assert (response.status, response.error) == (0, "it ended after 14 bytes, with 3986 to come")


def test_file_that_comes_too_slowly_is_given_up() -> None:
    with answering(drip(HEAD + b"Content-Length: 4000\r\n\r\n")) as port:
        response = exchange.fetch(f"http://127.0.0.1:{port}/gpg.key", PATIENCE_S)
    assert (response.status, response.error) == (0, "not all of it came within 0 s")
