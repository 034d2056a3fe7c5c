"""The proxies that are compared: ours as the program renders it, the guide's as it stands, nginx as is usual."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.load import Address
from tests.lab import cache
from tests.lab.archive import caddy_binary
from tests.lab.machine import CommandFailed, run
from tests.servers import scenario
from tests.unit.certificates import CHAIN, LEAF
from wizard.caddyfile import ADDITIONS, render_caddyfile

HERE = Path(__file__).parent
HOST = "llm.example.com"
UPSTREAM = "127.0.0.1:8000"
# Ubuntu's nginx has the same defaults; what is added is what the web says about streaming: no buffering, HTTP/1.1
# with kept connections to vLLM, long timeouts.
NGINX = """
worker_processes auto;
worker_rlimit_nofile 65536;
error_log {directory}/error.log;
pid {directory}/pid;
daemon off;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
	access_log {directory}/access.log;
	client_body_temp_path {directory}/body;
	proxy_temp_path {directory}/proxy;
	fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
	keepalive_requests 100000;
	upstream vllm {{ server {upstream}; keepalive 32; {keep_alive} }}
	server {{
		listen 127.0.0.1:{port} ssl http2 backlog=4096;
		ssl_certificate {directory}/certificate.pem;
		ssl_certificate_key {directory}/key.pem;
		ssl_session_cache shared:SSL:10m;
		location /v1/ {{
			proxy_pass http://vllm;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
			proxy_buffering off;
			proxy_cache off;
			proxy_read_timeout 3600s;
			proxy_send_timeout 3600s;
		}}
		location / {{ return 404; }}
	}}
}}
"""


@dataclass(frozen=True)
class Kind:
    """What is to be started: a configuration for a port and an upstream, what it is run with, and its name."""

    name: str
    text: Callable[[int, str], str]
    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = "caddy"
    note: str = ""


def ours() -> Kind:
    """Our Caddyfile in mode internal, with its access log, as the program writes it for a described server."""
    look = scenario.load("finished").look()
    tls = look.answers.tls.model_copy(update={"hosts": [HOST]})
    look = replace(look, answers=look.answers.model_copy(update={"tls": tls}))

    def text(port: int, upstream: str) -> str:
        rendered = render_caddyfile(look, upstream)
        admin = "\tadmin localhost:2019\n"
        assert admin in rendered
        return rendered.replace(admin, _global_options(port))

    return Kind("ours", text)


def guides() -> Kind:
    """The Caddyfile in the guide's script."""
    (heredoc,) = re.findall(r"<<CADDYFILE\n(.*?)\nCADDYFILE\n", (HERE / "guide.sh").read_text(), flags=re.S)

    def text(port: int, upstream: str) -> str:
        site = heredoc.replace("$address", HOST).replace("$tls", "tls internal").replace(UPSTREAM, upstream)
        # Its CA would become one of this machine's: the one thing that is not left as it stands.
        return f"{{\n{_global_options(port)}\tskip_install_trust\n}}\n{site}\n"

    return Kind("guide", text)


def nginx() -> Kind:
    """nginx with the usual settings for event streams."""

    def text(port: int, upstream: str) -> str:
        return NGINX.format(port=port, upstream=upstream, directory="{directory}", connections=16384, keep_alive="")

    return Kind("nginx", text, program="nginx")


def _global_options(port: int) -> str:
    return f"\tadmin off\n\thttp_port {free_port()}\n\thttps_port {port}\n\tdefault_bind 127.0.0.1\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def nginx_binary() -> Path | None:
    """nginx from the Debian archive that apt here knows, kept in the lab's cache; None where it can't be had."""
    if there := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Path(there)

    def build(into: Path) -> None:
        run(["apt-get", "-q", "update"])
        run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "nginx"], cwd=into)
        (package,) = into.glob("nginx_*.deb")
        run(["dpkg-deb", "-x", package, into / "root"])
        run([into / "root/usr/sbin/nginx", "-V"])

    try:
        return cache.built("nginx", cache.key("nginx", "1"), build) / "root/usr/sbin/nginx"
    except (CommandFailed, OSError, ValueError):
        return None


class Proxy:
    """A running proxy. `directory` has its configuration, storage and logs."""

    def __init__(self, kind: Kind, upstream: str, directory: Path, *, files: int = 0) -> None:
        """With `files`, that is how many files and connections it may have open."""
        self.kind = kind
        directory.mkdir(parents=True)
        port = free_port()
        text = kind.text(port, upstream)
        if kind.program == "nginx":
            binary = nginx_binary()
            assert binary is not None
            text = text.replace("{directory}", str(directory))
            if files:
                text = text.replace("worker_rlimit_nofile 65536;", f"worker_rlimit_nofile {files};")
            argv = [str(binary), "-c", str(directory / "configuration"), "-p", str(directory), "-e", "stderr"]
        else:
            for place in ("/var/log/caddy", ADDITIONS):
                text = text.replace(place, str(directory))
            argv = [str(caddy_binary()), "run", "--adapter", "caddyfile"]
            argv += ["--config", str(directory / "configuration")]
        (directory / "configuration").write_text(text)
        (directory / "certificate.pem").write_bytes(CHAIN)
        (directory / "key.pem").write_bytes(LEAF.key_pem)
        environment = {"HOME": str(directory), "PATH": os.environ["PATH"], **kind.environment}
        if files:
            argv = ["prlimit", f"--nofile={files}:{files}", *argv]
        with open(directory / "output", "wb") as output:
            self._process = subprocess.Popen(argv, env=environment, stdout=output, stderr=output)
        self.address = Address(HOST, port)
        self._await(directory / "output")

    def _await(self, output: Path) -> None:
        until = time.monotonic() + 20
        while True:
            try:
                self.address.connect().close()
                return
            except (OSError, ssl.SSLError):
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{self.kind.name} did not start: {output.read_text()[-2000:]}") from None
                time.sleep(0.05)

    def _processes(self) -> Sequence[int]:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu(self) -> float:
        """Seconds of CPU that it has used, of all threads that live."""
        total = 0
        for pid in self._processes():
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Bytes of its own memory that are resident (anonymous pages: not the program's file)."""
        total = 0
        for pid in self._processes():
            found = re.search(r"^Anonymous: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), flags=re.M)
            total += int(found[1]) * 1024 if found else 0
        return total

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
