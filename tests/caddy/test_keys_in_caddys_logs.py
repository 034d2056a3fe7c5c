"""The real Caddy with our Caddyfile, on loopback: whatever way a request brings its key, no log of Caddy's has it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers import scenario
from tests.unit.certificates import CHAIN, DOMAIN, LEAF
from wizard.caddyfile import ADDITIONS, CERTIFICATES, render_caddyfile, render_catch_all, render_site
from wizard.endpoint import find_hosts, url_host
from wizard.engine import Look

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.allow_commands("caddy"),
    pytest.mark.allow_network("127.0.0.1"),
]

CADDY = Path(sys.executable).with_name("caddy")
CANARY = "sk-canary"
ADMIN = "\tadmin localhost:2019\n"
# An answer that breaks off: Caddy tells of it beside the access log.
BROKEN = "/v1/broken"
ANSWER = f"HTTP/1.1 200 OK\r\nLocation: /?key={CANARY}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()


class Upstream:
    """Answers in vLLM's place; `asked` has the first lines of the requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    asked = connection.recv(65536)
                    self.asked.append(asked.decode().partition("\r\n")[0])
                    connection.sendall(ANSWER.replace(b": 2", b": 200") if BROKEN.encode() in asked else ANSWER)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class Caddy:
    """Runs with this configuration; `{ports}` in it is where its global options say the ports."""

    def __init__(self, directory: Path, text: str) -> None:
        self._directory = directory
        self._journal = directory / "journal"
        self._access = directory / "vllm-https.log"
        self._text = text
        for place in ("/var/log/caddy", ADDITIONS, CERTIFICATES):
            self._text = self._text.replace(place, str(directory))
        for _ in range(20):
            self.http, self.https = _free_port(), _free_port()
            if self._start():
                return
        raise AssertionError(self._journal.read_text())

    def _start(self) -> bool:
        """False where another has taken one of the ports meanwhile."""
        ports = f"\tadmin off\n\thttp_port {self.http}\n\thttps_port {self.https}\n\tdefault_bind 127.0.0.1\n"
        (self._directory / "Caddyfile").write_text(self._text.replace("{ports}", ports))
        argv = [str(CADDY), "run", "--adapter", "caddyfile", "--config", str(self._directory / "Caddyfile")]
        environment = {"HOME": str(self._directory), "PATH": os.environ["PATH"]}
        with open(self._journal, "wb") as journal:
            self._process = subprocess.Popen(argv, env=environment, stdout=journal, stderr=journal)
        until = time.monotonic() + 20
        while "serving initial configuration" not in (said := self._journal.read_text()):
            if self._process.poll() is not None and "address already in use" in said:
                return False
            assert self._process.poll() is None and time.monotonic() < until, said
            time.sleep(0.02)
        return True

    def ask(self, host: str, path: str = "/v1/models", *, tls: bool = True, headers: bool = True) -> int:
        """The status of a request that brings its key in every way there is, or in its address alone."""
        query = f"{'&' if '?' in path else '?'}api_key={CANARY}&key={CANARY}"
        lines = [f"GET {path}{query} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"X-Api-Key: {CANARY}", f"Authorization: Bearer {CANARY}"] if headers else []
        with self._connect(tls) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = b""
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                while more := connection.recv(65536):
                    answer += more
        return int(answer.split()[1])

    def _connect(self, tls: bool) -> socket.socket:
        """Until the certificate is made, Caddy has none to show."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        until = time.monotonic() + 20
        while True:
            plain = socket.create_connection(("127.0.0.1", self.https if tls else self.http), 10)
            if not tls:
                return plain
            try:
                return context.wrap_socket(plain, server_hostname=DOMAIN)
            except ssl.SSLError:
                plain.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def end(self) -> tuple[str, list[dict[str, Any]]]:
        """What it has written when it has ended: to its default log, and to ours."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(20)
        lines = self._access.read_text().splitlines() if self._access.exists() else []
        return self._journal.read_text(), [json.loads(line) for line in lines]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Caddy]]:
    (tmp_path / "certificate.pem").write_bytes(CHAIN)
    (tmp_path / "key.pem").write_bytes(LEAF.key_pem)
    started: list[Caddy] = []

    def one(text: str) -> Caddy:
        started.append(Caddy(tmp_path, text))
        return started[-1]

    yield one
    for caddy in started:
        caddy.end()


def look_at(mode: str = "internal", *, access_log: bool = True, name: str = "finished") -> Look:
    look = scenario.load(name).look()
    proxy = look.answers.proxy.model_copy(update={"access_log": access_log})
    tls = look.answers.tls.model_copy(update={"mode": mode, "domain": DOMAIN if mode == "custom" else None})
    return replace(look, answers=look.answers.model_copy(update={"proxy": proxy, "tls": tls}))


def own_caddyfile(look: Look, upstream: Upstream) -> str:
    text = render_caddyfile(look, upstream.address)
    assert ADMIN in text
    return text.replace(ADMIN, "{ports}")


def spellings(look: Look) -> list[str]:
    """Our hosts as a client may write them in Host; each is served."""
    hosts = [url_host(host) for host in find_hosts(look)]
    assert any(host.startswith("[") for host in hosts)
    return [*hosts, *(host.upper() for host in hosts if host != host.upper()), *(f"{host}:443" for host in hosts)]


@pytest.mark.parametrize("access_log", [True, False])
def test_key_is_in_no_log_however_the_host_is_written(
    access_log: bool, upstream: Upstream, run: Callable[[str], Caddy]
) -> None:
    look = look_at(access_log=access_log)
    caddy = run(own_caddyfile(look, upstream))
    assert {caddy.ask(host) for host in spellings(look)} == {200}
    assert caddy.ask("unknown.example") == 404
    assert caddy.ask(spellings(look)[0], BROKEN) == 200
    journal, records = caddy.end()
    assert "aborting with incomplete response" in journal
    assert CANARY not in journal + json.dumps(records)
    asked = [*spellings(look), "unknown.example", spellings(look)[0]] if access_log else []
    assert [record["request"]["host"] for record in records] == asked


@pytest.mark.parametrize("access_log", [True, False])
def test_key_over_http_is_in_no_log(access_log: bool, upstream: Upstream, run: Callable[[str], Caddy]) -> None:
    caddy = run(own_caddyfile(look_at("custom", access_log=access_log), upstream))
    assert {caddy.ask(host) for host in (DOMAIN, DOMAIN.upper())} == {200}
    for headers in (True, False):
        assert {caddy.ask(host, tls=False, headers=headers) for host in (DOMAIN, DOMAIN.upper())} == {403}
    assert caddy.ask("unknown.example", tls=False) == 404
    journal, records = caddy.end()
    assert CANARY not in journal + json.dumps(records)
    asked = [DOMAIN, DOMAIN.upper(), "unknown.example"] if access_log else []
    assert [record["request"]["host"] for record in records] == asked


def test_key_in_the_address_does_not_reach_vllm(upstream: Upstream, run: Callable[[str], Caddy]) -> None:
    caddy = run(own_caddyfile(look_at(), upstream))
    for path in ("/v1/models", "/v1/x?b=%2F+2&a=1", "/v1/y?a&a"):
        assert caddy.ask("llm", path) == 200
    assert upstream.asked == [
        "GET /v1/models HTTP/1.1",
        "GET /v1/x?a=1&b=%2F+2 HTTP/1.1",
        "GET /v1/y?a=&a= HTTP/1.1",
    ]


@pytest.mark.parametrize("access_log", [True, False])
def test_log_of_the_operators_own_brings_no_request_into_the_journal(
    access_log: bool, upstream: Upstream, run: Callable[[str], Caddy], tmp_path: Path
) -> None:
    (tmp_path / "own.caddy").write_text(f"log {{\n\toutput file {tmp_path}/own.log\n}}\n")
    look = look_at(access_log=access_log)
    caddy = run(own_caddyfile(look, upstream))
    assert {caddy.ask(host) for host in spellings(look)} == {200}
    journal, records = caddy.end()
    assert "handled request" not in journal
    assert len(records) == (len(spellings(look)) if access_log else 0)
    assert '"host":"llm"' in (tmp_path / "own.log").read_text()


@pytest.mark.parametrize("access_log", [True, False])
@pytest.mark.parametrize("imported", [False, True])
def test_key_for_a_further_service_is_in_no_log_and_not_in_what_reaches_it(
    imported: bool, access_log: bool, upstream: Upstream, run: Callable[[str], Caddy]
) -> None:
    look = look_at(access_log=access_log, name="several-services-finished")
    port = int(upstream.address.rpartition(":")[2])
    (by_path,) = (one.model_copy(update={"port": port}) for one in look.answers.vllm.more)
    by_name = by_path.model_copy(update={"path": None, "host": "embed.example.com"})
    vllm = look.answers.vllm.model_copy(update={"more": (by_path, by_name)})
    look = replace(look, answers=look.answers.model_copy(update={"vllm": vllm}))
    text = own_caddyfile(look, upstream)
    if imported:
        ours = [render_site(look, upstream.address, imported=True), render_catch_all(look, imported=True)]
        text = "\n".join([GLOBALS.format(find_hosts(look)[0], CREDENTIALS), LOGGED, *ours])
    caddy = run(text)
    assert caddy.ask("llm", "/embed/v1/models?a=1") == 200
    assert {caddy.ask(host) for host in ("embed.example.com", "EMBED.example.com", "embed.example.com:443")} == {200}
    assert caddy.ask("embed.example.com", "/embed/v1/models") == 404, "each name has its own service alone"
    # What breaks off is told in the default log, which in a Caddyfile of others is theirs.
    broken = [] if imported else [BROKEN]
    assert [caddy.ask("embed.example.com", path) for path in broken] == [200] * len(broken)
    journal, records = caddy.end()
    assert CANARY not in journal + json.dumps(records)
    assert len(records) == (5 + len(broken) if access_log else 0)
    paths = ["/v1/models?a=1", *["/v1/models"] * 3, *broken]
    assert upstream.asked == [f"GET {path} HTTP/1.1" for path in paths]


GLOBALS = (
    "{{\n{{ports}}\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_sni {0}\n\tfallback_sni {0}\n{1}}}\n"
)
CREDENTIALS = "\tservers {\n\t\tlog_credentials\n\t}\n"
SITE = "https://other.example.com {\n\ttls internal\n\trespond hello\n}\n"
LOGGED = SITE.replace("\trespond", "\tlog\n\trespond")
# What others have in their Caddyfile: its global options, its sites, and whether one of them answers unknown hosts.
THEIRS = {
    "logs nothing": ("", SITE, False),
    "logs everything, credentials too": (CREDENTIALS, SITE, False),
    "logs a site of its own": (CREDENTIALS, LOGGED, False),
    "logs unknown hosts": (CREDENTIALS, LOGGED.replace("other.example.com", ""), True),
    "logs what comes over http": ("", LOGGED + "http://other.example.com {\n\tlog\n\trespond hello\n}\n", False),
}


@pytest.mark.parametrize("mode", ["internal", "custom"])
@pytest.mark.parametrize("access_log", [True, False])
@pytest.mark.parametrize("which", THEIRS)
def test_key_is_in_no_log_where_our_site_is_imported(
    which: str, access_log: bool, mode: str, upstream: Upstream, run: Callable[[str], Caddy]
) -> None:
    options, sites, answer_unknown = THEIRS[which]
    look = look_at(mode, access_log=access_log)
    hosts = spellings(look) if mode == "internal" else [DOMAIN, DOMAIN.upper()]
    ours = [render_site(look, upstream.address, imported=True)]
    ours += [] if answer_unknown else [render_catch_all(look, imported=True)]
    caddy = run("\n".join([GLOBALS.format(find_hosts(look)[0], options), sites, *ours]))
    assert {caddy.ask(host) for host in hosts} == {200}
    if not answer_unknown:
        assert caddy.ask("unknown.example") == 404
    if mode == "custom":
        assert {caddy.ask(host, tls=False) for host in hosts} == {403}
        assert answer_unknown or caddy.ask("unknown.example", tls=False) == 404
    journal, records = caddy.end()
    assert CANARY not in journal + json.dumps(records)
    assert [record["request"]["host"] for record in records] == (hosts if access_log else [])
