"""What answers on the simulated server: vLLM, and Caddy before it; and the firewall's rules as the kernel has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import simulated_internet as internet
from .caddyfile import CERTIFICATE
from .parse.environment import parse_environment
from .parse.netfilter import Ruleset, parse_ruleset
from .parse.ufw import UfwRule
from .paths import ROOT_CERTIFICATE
from .server import CONNECTION_REFUSED, Firewall, Request, Response

if TYPE_CHECKING:
    from .simulated import SimulatedServer

MODEL = "phi-4-mini"
SAID = ("Bonjour", " !", " Comment", " puis", "-je", " vous", " aider", " ?")
REFUSED = Response(0, error=CONNECTION_REFUSED, ms=0.3)
TARGETS = {"allow": "ACCEPT", "limit": "ACCEPT", "deny": "DROP", "reject": "REJECT"}
POLICIES = {"allow": "ACCEPT", "deny": "DROP", "reject": "REJECT"}


def loaded_rules(firewall: Firewall, family: int) -> Ruleset:
    """The filter table that ufw would have loaded."""
    if not firewall.enabled:
        return parse_ruleset("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    ufw = "ufw" if family == 4 else "ufw6"
    lines = [
        "*filter",
        f":INPUT {POLICIES[firewall.defaults.input]} [0:0]",
        f"-A INPUT -j {ufw}-before-input",
        f"-A {ufw}-before-input -i lo -j ACCEPT",
        f"-A {ufw}-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"-A {ufw}-before-input -j {ufw}-user-input",
        *(line for rule in firewall.rules if rule.family == family for line in _lines(rule, ufw)),
        "COMMIT",
    ]
    return parse_ruleset("\n".join(lines))


def _lines(rule: UfwRule, ufw: str) -> Iterator[str]:
    source = "" if rule.source.endswith("/0") else f" -s {rule.source}"
    for protocol in ("tcp", "udp") if rule.protocol == "any" else (rule.protocol,):
        port = "" if rule.port == "any" else f" -m multiport --dports {rule.port}"
        yield f"-A {ufw}-user-input -p {protocol}{source}{port} -j {TARGETS[rule.action]}"


class Web:
    """The requests that programs of the server answer."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server

    def listens(self, address: str, port: int) -> bool:
        """Whether a connection to this address of the server would be taken up."""
        local = address.startswith("127.")
        if port == 80 and re.search(r"^http://", self._server.running_caddyfile(), re.M):
            return True
        return any(
            one.port == port and (one.is_wildcard or one.address == address or (local and one.is_loopback))
            for one in self._server.listeners()
        )

    def answer(self, request: Request) -> Response | None:
        """None for what is not on this server."""
        own = {one.address for one in self._server.addresses()}
        if not request.address.startswith("127.") and request.address not in own:
            return None
        if not self.listens(request.address, request.port):
            return REFUSED
        if request.port == 443 and request.tls:
            return self._https(request)
        if request.port == 80:
            return self._http(request)
        if any(one.port == request.port and one.unit == "vllm.service" for one in self._server.listeners()):
            return self._vllm(request) if self._server.is_vllm_ready() else REFUSED
        return None

    # ── Caddy ──

    def _https(self, request: Request) -> Response:
        running, name = self._server.running_caddyfile(), request.server_name or ""
        hosts = [one.strip("[]") for one in re.findall(r"https://([^\s,{]+)", running)]
        if name not in hosts:
            return Response(0, error="tlsv1 alert internal error", ms=4)
        certificate, wrong = self._certificate(request, running, name)
        if wrong:
            return Response(0, error=wrong, ms=6)
        response = self._site(request, running, name)
        headers = (*response.headers, ("Via", "1.1 Caddy"))
        return Response(
            response.status,
            response.body,
            headers,
            ms=response.ms + 3.1,
            tls_version="TLSv1.3",
            pieces=response.pieces,
            certificate=certificate,
        )

    def _certificate(self, request: Request, running: str, name: str) -> tuple[bytes, str]:
        """The certificate as DER where nothing else checks it; and what is wrong with it, or ""."""
        if "tls internal" in running.partition("# Any other name")[0]:
            missing = request.ca_file == ROOT_CERTIFICATE and self._server.read(ROOT_CERTIFICATE) is None
            return b"", f"{ROOT_CERTIFICATE}: no such file" if missing else ""
        if "issuer acme" in running and not self._server.has_certificate(name):
            return b"", "tlsv1 alert internal error"
        if CERTIFICATE in running and self._server.read(CERTIFICATE) is None:
            return b"", "tlsv1 alert internal error"
        if request.ca_file is not None:
            return b"", ""
        return internet.make_pair(name, "Let's Encrypt R12", self._server.now() - 3600, 90)[2], ""

    def _site(self, request: Request, running: str, name: str) -> Response:
        path = request.path
        handled = set(re.findall(r"^\s*handle (/\w+) \{", running, re.M))
        plain = ".." not in path and "%2e" not in path
        if request.host.strip("[]") != name or not plain or not (path.startswith("/v1/") or path in handled):
            body = {"error": {"message": "not found", "type": "proxy_error", "param": None, "code": 404}}
            return _json(404, body, 0.6)
        return self._vllm(request) if self._server.is_vllm_ready() else _json(502, {"error": "bad gateway"}, 1.0)

    def _http(self, request: Request) -> Response:
        if f"\nhttp://{request.host} {{" not in self._server.running_caddyfile():
            return _json(404, {}, 0.5)
        return Response(308, b"", (("Location", f"https://{request.host}{request.path}"),), ms=0.8)

    # ── vLLM ──

    def _vllm(self, request: Request) -> Response:
        state = self._server.read("/etc/vllm/vllm.env")
        key = parse_environment(state.text).value("VLLM_API_KEY") if state is not None else None
        if not request.path.startswith("/v1/"):
            return Response(200, b"# HELP vllm:num_requests_running\n", (("Content-Type", "text/plain"),), ms=2)
        if key and (request.bearer is None or request.bearer.reveal() != key):
            return _json(401, {"error": "Unauthorized"}, 1.2)
        if request.path == "/v1/models":
            return _json(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "vllm"}]}, 2.4)
        asked = json.loads(request.body) if request.body else {}
        return _stream() if asked.get("stream") else _chat()


def _json(status: int, value: Any, ms: float) -> Response:
    return Response(status, json.dumps(value).encode(), (("Content-Type", "application/json"),), ms=ms)


def _chat() -> Response:
    message = {"role": "assistant", "content": "".join(SAID)}
    answer = {"model": MODEL, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return _json(200, answer, 412)


def _stream() -> Response:
    """Word by word, each a piece of its own."""
    events = [f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n" for word in SAID]
    pieces = tuple((61.0 + 52 * number, text.encode()) for number, text in enumerate([*events, "data: [DONE]\n\n"]))
    body = b"".join(piece for _, piece in pieces)
    headers = (("Content-Type", "text/event-stream; charset=utf-8"),)
    return Response(200, body, headers, ms=pieces[-1][0], pieces=pieces)
