"""The proxy's benchmark with the real Caddy: clients of both protocols lose no token, and Caddy takes each variant."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bench import http1, http2
from tests.bench.load import CHAT, Answer, Connection, Requests, Streams, chat
from tests.bench.paced import Model
from tests.bench.proxies import Proxy, free_port, guides, ours
from tests.bench.variants import VARIANTS, make
from tests.lab.archive import caddy_binary
from wizard.caddyfile import ADDITIONS

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.allow_commands("caddy"),
    pytest.mark.allow_network("127.0.0.1"),
]
BOTH = pytest.mark.parametrize("speaking", [http1.Connection, http2.Connection], ids=["http1", "http2"])
FAST = 0.001  # seconds between two tokens of a stream


@pytest.fixture
def model() -> Iterator[Model]:
    one = Model(1)
    yield one
    one.end()


@pytest.fixture
def proxy(request: pytest.FixtureRequest, model: Model, tmp_path: Path) -> Iterator[Proxy]:
    one = Proxy(request.param(), f"127.0.0.1:{model.ports[0]}", tmp_path / "proxy")
    yield one
    one.end()


@BOTH
@pytest.mark.parametrize("proxy", [ours, guides], indirect=True)
def test_tokens_and_answers_are_counted(
    speaking: type[Connection], proxy: Proxy, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So little that a stream, and a connection, stand still at once where what was read is not given back.
    monkeypatch.setattr(http2, "STREAM_WINDOW", 2048)
    monkeypatch.setattr(http2, "CONNECTION_WINDOW", http2.DEFAULT_WINDOW + 1)
    monkeypatch.setattr(http2.Connection, "streams", 2)
    streams = Streams(speaking, proxy.address)
    assert streams.open(3) == {"streams": 3}
    assert model.set(0, FAST) == len(streams) == 3
    window = streams.read(0.1, 0.02)
    assert window.first and min(window.first) > 0
    while window.tokens < 1000:
        before, more = window.tokens, streams.read(0.3)
        window.tokens, window.size = window.tokens + more.tokens, window.size + more.size
        assert window.tokens > before, "the streams stand still"
    # Compressed by the guide's Caddyfile, as they are by ours.
    low, high = (10, 60) if proxy.kind.name == "guide" else (225, 260)
    assert low < window.size / window.tokens < high
    assert min(window.delays) > 0
    streams.close()

    requests = Requests(speaking, proxy.address, "/v1/700", 10, b"{}")
    assert requests.burst() == 10
    count = requests.repeat(0.1)
    assert requests.statuses == {200: 10 + count} and count >= 10
    assert len(requests.times) == 10 + count
    requests.close()


@BOTH
def test_errors_are_told_apart_from_streams(speaking: type[Connection], tmp_path: Path) -> None:
    proxy = Proxy(ours(), f"127.0.0.1:{free_port()}", tmp_path / "proxy")
    streams = Streams(speaking, proxy.address)
    assert streams.open(2) == {"502": 2}
    requests = Requests(speaking, proxy.address, "/v1/700", 3)
    requests.burst()
    assert requests.statuses == {502: 3}
    requests.close()
    streams.close()
    proxy.end()


def test_stream_that_is_given_up_leaves_the_others(tmp_path: Path, model: Model) -> None:
    proxy = Proxy(ours(), f"127.0.0.1:{model.ports[0]}", tmp_path / "proxy")
    connection = http2.Connection(proxy.address, CHAT, chat())
    kept, other = connection.ask(), connection.ask()
    connection.flush()
    began: set[Answer] = set()
    while began != {kept, other}:
        began |= {answer for answer, stamps in connection.wait(time.monotonic() + 20) if stamps}
    connection.give_up(other)
    until = time.monotonic() + 20
    while model.set(0, 0.01) == 2:
        assert time.monotonic() < until, "vLLM goes on with a stream that nobody reads"
    assert any(answer is kept and stamps for _ in range(20) for answer, stamps in connection.wait(until))
    assert len(connection) == 1 and kept.status == 200
    connection.close()
    proxy.end()


def test_server_without_http2_is_an_error(tmp_path: Path, model: Model) -> None:
    proxy = Proxy(make(ours(), "http1"), f"127.0.0.1:{model.ports[0]}", tmp_path / "proxy")
    with pytest.raises(OSError):
        http2.Connection(proxy.address, CHAT, chat())
    proxy.end()


def test_caddy_takes_each_variant(tmp_path: Path) -> None:
    def validate(name: str) -> str:
        file = tmp_path / name
        text = make(ours(), name).text(4443, "127.0.0.1:8000")
        for place in ("/var/log/caddy", ADDITIONS):
            text = text.replace(place, str(tmp_path))
        file.write_text(text)
        argv = [str(caddy_binary()), "adapt", "--adapter", "caddyfile", "--config", str(file)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env={"HOME": str(tmp_path)})
        return done.stderr if done.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        refused = {name: said for name, said in zip(VARIANTS, pool.map(validate, VARIANTS), strict=True) if said}
    assert not refused
