"""The explanations fit what really happens: the errors of real connections, and the rows of a described server."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.certificates import DAY, Made, make, make_ca, make_key
from wizard.described import Question
from wizard.engine import prove
from wizard.exchange import exchange
from wizard.explanations import find
from wizard.explanations.terms import Seen
from wizard.model import TestRow as Row
from wizard.server import Request, Response, Target
from wizard.steps import STEPS

HOST = "llm.example.com"
NOW = datetime.now(UTC).replace(microsecond=0)


def leaf(issuer: Made | None, name: str = HOST, *, begins: int = -1, ends: int = 30) -> Made:
    return make("llm", issuer, names=(name,), key=make_key("p256", 7), begins=NOW + begins * DAY, ends=NOW + ends * DAY)


def root(title: str = "Local Authority", number: int = 1) -> Made:
    return make_ca(title, number=number, begins=NOW - DAY, ends=NOW + 30 * DAY)


ROOT, NEW_ROOT = root(), root(number=5)
Serve = Callable[[socket.socket, Path], None]


def with_certificate(made: Made, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Serve:
    """One TLS handshake, and nothing more."""

    def serve(connection: socket.socket, place: Path) -> None:
        (place / "pair.pem").write_bytes(made.pem + made.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place / "pair.pem")
        context.maximum_version = version
        context.wrap_socket(connection, server_side=True).close()

    return serve


def without_certificate(connection: socket.socket, place: Path) -> None:
    """As Caddy, where it has no certificate for a name: a fatal alert, internal_error (80)."""
    connection.recv(4096)
    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x50")


def plain_http(connection: socket.socket, place: Path) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request")


def hang_up(connection: socket.socket, place: Path) -> None:
    connection.recv(4096)


def stay_silent(connection: socket.socket, place: Path) -> None:
    connection.recv(4096)
    connection.recv(4096)


@contextmanager
def listening(serve: Serve | None, place: Path) -> Iterator[int]:
    """A port on which one connection is served so; None: on which nobody listens."""
    with socket.socket() as waiting:
        waiting.bind(("127.0.0.1", 0))
        port = waiting.getsockname()[1]
        if serve is None:
            yield port
            return
        waiting.listen()

        def answer() -> None:
            connection, _ = waiting.accept()
            with connection:
                connection.settimeout(10)
                try:
                    serve(connection, place)
                except OSError:
                    """The client has gone: that is what is tested."""

        thread = threading.Thread(target=answer)
        thread.start()
        yield port
        thread.join()


# What answers, and the symptoms of tls.handshake and of tls.trusted.
REAL: dict[str, tuple[Serve | None, str, str]] = {
    "nobody": (None, "connection refused, though Caddy runs", "no certificate was seen"),
    "silence": (stay_silent, "no answer in time", "no certificate was seen"),
    "no certificate": (without_certificate, "alert: internal error", "no certificate was seen"),
    "plain http": (plain_http, "no TLS on port 443", "no certificate was seen"),
    "hangs up": (hang_up, "the connection was broken off", "no certificate was seen"),
    "expired": (
        with_certificate(leaf(ROOT, begins=-9, ends=-2)),
        "certificate expired (mode internal)",
        "certificate expired, not yet valid, or for other names",
    ),
    "too early": (
        with_certificate(leaf(ROOT, begins=2)),
        "certificate not yet valid",
        "certificate expired, not yet valid, or for other names",
    ),
    "another name": (
        with_certificate(leaf(ROOT, "other.example.com")),
        "certificate for other names (mode internal)",
        "certificate expired, not yet valid, or for other names",
    ),
    "another root": (
        with_certificate(leaf(NEW_ROOT)),
        "certificate of an unknown issuer",
        "unknown issuer (mode internal)",
    ),
    "its own issuer": (
        with_certificate(leaf(None)),
        "certificate of an unknown issuer",
        "unknown issuer (mode internal)",
    ),
}


def asked(port: int, place: Path, host: str = HOST) -> Response:
    (place / "root.crt").write_bytes(ROOT.pem)
    ca_file = str(place / "root.crt")
    request = Request("127.0.0.1", port, host=host, tls=True, server_name=host, ca_file=ca_file, timeout_s=1)
    return exchange(request)


@pytest.mark.allow_network("127.0.0.1")
@pytest.mark.parametrize("name", REAL)
def test_real_failure_of_a_handshake_has_its_explanation(name: str, tmp_path: Path) -> None:
    serve, *symptoms = REAL[name]
    with listening(serve, tmp_path) as port:
        response = asked(port, tmp_path)
    assert response.status == 0
    assert [find(row, Seen(response)).symptom for row in ("tls.handshake", "tls.trusted")] == symptoms


@pytest.mark.allow_network("127.0.0.1")
def test_certificate_of_another_address_is_seen_as_such(tmp_path: Path) -> None:
    with listening(with_certificate(leaf(ROOT)), tmp_path) as port:
        response = asked(port, tmp_path, "127.0.0.1")
    assert find("tls.handshake", Seen(response)).symptom == "certificate for other names (mode internal)"


@pytest.mark.allow_network("127.0.0.1")
def test_self_signed_certificate_is_seen_as_such_in_mode_custom(tmp_path: Path) -> None:
    with listening(with_certificate(leaf(None)), tmp_path) as port:
        response = asked(port, tmp_path)
    assert find("tls.trusted", Seen(response, mode="custom")).symptom == "self-signed (mode custom)"


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "empty"])
@pytest.mark.allow_network("127.0.0.1")
def test_root_that_cannot_be_read_is_seen_as_such(content: bytes | None, tmp_path: Path) -> None:
    place = tmp_path / "root.crt"
    if content is not None:
        place.write_bytes(content)
    with listening(hang_up, tmp_path) as port:
        request = Request("127.0.0.1", port, host=HOST, tls=True, server_name=HOST, ca_file=str(place))
        response = exchange(request)
    assert find("tls.handshake", Seen(response)).symptom == "no root certificate to compare with"


# ── the rows of a described server, with one thing otherwise ──

FINISHED = scenario.load("finished")
ADDRESS = next(one.address for one in FINISHED.description.addresses if one.primary and "." in one.address)


def otherwise(response: Response, *words: str) -> Scenario:
    """The finished server, every question with these words in it answered so."""

    def is_meant(question: Question) -> bool:
        return all(word in " ".join(question) for word in words)

    exchanges = dict(FINISHED.description.exchanges)
    changed = {question: response for question in exchanges if is_meant(question)}
    assert changed, words
    return replace(FINISHED, description=replace(FINISHED.description, exchanges=exchanges | changed))


def rows(server: Scenario) -> dict[str, Row]:
    return {row.id: row for row in server.tested() if row.ok is not True}


VIA = (("Via", "1.1 Caddy"),)
TEMPLATE = b'{"error":{"message":"default chat template is no longer allowed, so you must provide a chat template"}}'
MODELS, HTTPS = "/v1/models", f"https://{ADDRESS}:443"
# What is answered otherwise, to which questions; the row that fails by it, and words of its explanation.
ANSWERS: dict[str, tuple[Response, tuple[str, ...], str, tuple[str, ...]]] = {
    "open to all": (
        Response(200, b'{"data":[]}', VIA),
        (f"GET {HTTPS}{MODELS} host={ADDRESS} ",),
        "api.unauthorized",
        ("Everybody can use the API", "sudo systemctl restart vllm.service"),
    ),
    "another key": (
        Response(401, b"", VIA),
        (f"{MODELS} host=", " key"),
        "api.models",
        ("another key than /etc/vllm/vllm.env has", "sudo systemctl restart vllm.service"),
    ),
    "key lost on the way": (
        Response(401, b"", VIA),
        (f"{HTTPS}{MODELS}", " key"),
        "api.models",
        ("it is lost on the way", "authorization"),
    ),
    "nobody behind Caddy": (
        Response(502),
        (f"{HTTPS}{MODELS}", " key"),
        "api.models",
        ("vLLM listens on port 8000", "curl -i http://127.0.0.1:8000/v1/models"),
    ),
    "no template": (
        Response(400, TEMPLATE, VIA),
        ("POST", HTTPS, '"stream": false'),
        "api.chat",
        ("--chat-template", "/opt/vllm/start-vllm.sh"),
    ),
    "busy": (
        Response(0, error="no answer in time", tls_version="TLSv1.3"),
        ("POST", HTTPS, '"stream": false'),
        "api.chat",
        ("it had 120 s", "journalctl -u vllm.service -f"),
    ),
    "metrics served": (
        Response(200, b"# HELP", VIA),
        (f"{HTTPS}/metrics",),
        "api.blocked",
        ("vLLM itself answers /metrics", "reverse_proxy"),
    ),
    "any Host served": (
        Response(401, b"", VIA),
        ("host=not-this-server.invalid",),
        "api.blocked",
        ("A name that is not this server's", "repair"),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_row_that_fails_says_the_cause_and_the_next_command(name: str) -> None:
    response, words, row, said = ANSWERS[name]
    server = otherwise(response, *words)
    if name == "no template":
        server = with_other_routes(server, response)
    failed = rows(server)[row]
    assert failed.ok is (None if name == "busy" else False)
    assert [word for word in said if word not in (failed.remedy or "")] == [], failed


def with_other_routes(server: Scenario, response: Response) -> Scenario:
    """The routes that are tried after a 400 of the chat, which no finished server was asked for, answer the same."""
    asked: dict[str, Any] = {"model": "phi-4-mini", "max_tokens": 50, "stream": False}
    bodies = {
        "/v1/completions": {**asked, "prompt": "Say hello in French"},
        "/v1/embeddings": {"model": "phi-4-mini", "input": "Say hello in French"},
    }
    known = dict(server.description.exchanges)
    (chat,) = [one for one in known if "/v1/chat/completions" in one[0] and '"stream": false' in one[4]]
    for route, body in bodies.items():
        key = (chat[0].replace("/v1/chat/completions", route), *chat[1:4], json.dumps(body))
        known[key] = response
    return replace(server, description=replace(server.description, exchanges=known))


@pytest.mark.parametrize(
    ("header", "apart", "said"),
    [
        (("Content-Encoding", "gzip"), 0.0, "compressed (gzip)"),
        # Two TLS records of one answer, and an answer that took long to arrive: collected first, both of them.
        (("Cache-Control", "no-cache"), 0.05, "Lines of yours hold the stream back"),
        (("Content-Length", "88"), 20.0, "collected before it was sent"),
    ],
)
def test_stream_that_came_at_once_says_what_held_it_back(header: tuple[str, str], apart: float, said: str) -> None:
    pieces = tuple((30.0 + number * apart, b'data: {"choices":[]}\n\n') for number in range(4))
    headers = (("Content-Type", "text/event-stream"), header)
    body = b"".join(piece for _, piece in pieces)
    server = otherwise(Response(200, body, headers, tls_version="TLSv1.3", pieces=pieces), "POST", '"stream": true')
    stream = rows(server)["api.stream"]
    assert stream.ok is False
    assert said in (stream.remedy or "")


def test_stream_that_a_busy_server_saw_as_one_is_asked_for_again() -> None:
    """A fast model says all in a few milliseconds: only what is held back comes at once every time."""
    look = FINISHED.look()
    together = tuple((30.0, b'data: {"choices":[]}\n\n') for _ in range(4))
    asked: list[Request] = []

    class Busy(type(look.server)):  # type: ignore[misc]
        def exchange(self, request: Request) -> Response:
            response: Response = super().exchange(request)
            if request.body is None or b'"stream": true' not in request.body:
                return response
            asked.append(request)
            return replace(response, pieces=together) if len(asked) < 3 else response

    look.server.__class__ = Busy
    (stream,) = (row for row in prove(STEPS, look) if row.id == "api.stream")
    assert (stream.ok, len(asked)) == (True, 3)


def met(state: str, port: int) -> Scenario:
    """The finished server, whose port answers packets so."""
    reached = {
        target: replace(one, state=state) if target.port == port else one
        for target, one in FINISHED.description.reached.items()
    }
    assert Target(ADDRESS, port) in reached
    return replace(FINISHED, description=replace(FINISHED.description, reached=reached))


@pytest.mark.parametrize(
    ("state", "port", "row", "said"),
    [
        ("filtered", 443, "net.open", "ufw lets port 443 in: another table drops it first"),
        ("refused", 443, "net.open", "Caddy has another configuration"),
        ("refused", 22, "net.open", "sshd does not listen"),
        ("unknown", 22, "net.open", "nc -vz"),
        ("open", 8000, "net.closed", "No rule of ufw's explains it"),
    ],
)
def test_packets_that_fare_otherwise_are_explained(state: str, port: int, row: str, said: str) -> None:
    failed = rows(met(state, port))[row]
    assert failed.ok is (None if state == "unknown" else False)
    assert said in (failed.remedy or ""), failed


def test_ssh_that_a_rule_opens_to_some_alone_is_not_called_shut() -> None:
    """The packets come from nobody whom that rule knows: that they stay unanswered shows nothing."""
    server = met("filtered", 22)
    rules = {
        path: replace(
            state, content=state.content.replace(b"22 0.0.0.0/0 any 0.0.0.0/0", b"22 0.0.0.0/0 any 10.0.0.0/8")
        )
        for path, state in server.description.files.items()
        if state is not None and path == "/etc/ufw/user.rules"
    }
    files = {**server.description.files, **rules}
    row = rows(replace(server, description=replace(server.description, files=files)))["net.open"]
    assert row.ok is None and "answers only those whom your rule lets in" in row.detail


def test_ipv6_that_ufw_does_not_see_to_is_not_tried() -> None:
    defaults = FINISHED.description.files["/etc/default/ufw"]
    assert defaults is not None and b"IPV6=yes" in defaults.content
    without = replace(defaults, content=defaults.content.replace(b"IPV6=yes", b"IPV6=no"))
    files = {**FINISHED.description.files, "/etc/default/ufw": without}
    silent = {
        target: replace(one, state="filtered") if ":" in target.address else one
        for target, one in FINISHED.description.reached.items()
    }
    seen_to = replace(FINISHED, description=replace(FINISHED.description, reached=silent))
    assert rows(seen_to)["net.open"].ok is False
    assert "net.open" not in rows(replace(seen_to, description=replace(seen_to.description, files=files)))


def test_silence_is_waited_for_once() -> None:
    """Each further request would take as long: sixteen paths at ten seconds."""
    server = otherwise(Response(0, error="no answer in time", ms=10_000), HTTPS)
    failed = rows(server)
    assert (failed["tls.handshake"].ms, failed["api.unauthorized"].ms, failed["api.blocked"].ms) == (10_000, 0, 0)
    assert "This request stays on the server" in (failed["tls.handshake"].remedy or "")
    assert {failed[row].remedy for row in ("api.unauthorized", "api.models", "api.blocked")} == {
        "Nothing of HTTPS works yet: tls.handshake says why."
    }


def test_server_that_has_failed_no_row_explains_none() -> None:
    assert rows(FINISHED) == {}
    assert {row.remedy for row in FINISHED.tested()} == {None}
