"""The final test: each claim shown by a request or a packet. Requests go to the server's own address with the
endpoint's name as SNI and Host, as `curl --connect-to` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import acme
from ..caddyfile import serves_http
from ..endpoint import ask_endpoint, endpoint_host, own_address
from ..engine import Look, Step
from ..evidence import Witness
from ..model import Finding, TestRow
from ..models import models
from ..parse.completion import said as said_in
from ..parse.event_stream import arrivals, came_at_once
from ..parse.netfilter import Packet, evaluate
from ..paths import ROOT_CERTIFICATE
from ..queries import LOADED_RULES, SSH_CONFIGURED, SSH_UNITS, begin_together
from ..reachability import let_in_some, managed
from ..server import Reach, Request, Response, Target
from ..ssh import find_ssh_ports, listening_at
from ..vllm import Vllm, find_vllm

if TYPE_CHECKING:
    from concurrent.futures import Executor

BLOCKED_PATHS = (
    *("/", "/health", "/metrics", "/version", "/docs", "/openapi.json", "/tokenize", "/detokenize"),
    *("/invocations", "/ping", "/load", "/pooling", "/v1", "/v1/../metrics", "/v1/%2e%2e/version"),
)
FOREIGN = "not-this-server.invalid"
CHAT = "/v1/chat/completions"
ROUTES = (CHAT, "/v1/completions", "/v1/embeddings")
NO_SUCH_ROUTE = (400, 404, 405, 501)
STREAMS = 3
NO_ANSWER = "no answer in time"
MODERN = ("TLSv1.2", "TLSv1.3")


Verdict = tuple[bool | None, str, str | None]


@dataclass(frozen=True)
class Endpoint:
    """What the rows share: how to ask, and what is known of the model. Paths are as vLLM knows them."""

    look: Look
    vllm: Vllm
    address: str
    host: str
    silent: dict[int, Response] = field(default_factory=dict)

    @property
    def ca_file(self) -> str | None:
        """What the certificate is checked with: "" is the system's store, None where the root can't be known."""
        tls = self.look.answers.tls
        if tls.mode == "internal":
            return ROOT_CERTIFICATE
        private = tls.mode == "acme" and (tls.acme_ca_file is not None or acme.is_staging(self.look))
        return None if private else ""

    def request(self, path: str, *, key: bool = False, body: Any = None, timeout_s: float = 10) -> Request:
        return replace(
            ask_endpoint(self.address, self.host, f"{self.look.prefix}{path}", self.ca_file),
            method="GET" if body is None else "POST",
            bearer=self.vllm.key if key else None,
            body=b"" if body is None else json.dumps(body).encode(),
            timeout_s=timeout_s,
        )

    @property
    def witness(self) -> Witness:
        return Witness(self.look, self.vllm)

    def ask(self, request: Request) -> Response:
        """Silence is waited for once: where not even a connection came in time, none is tried again."""
        known = self.silent.get(request.port)
        response = known or self.look.server.exchange(request)
        if response.error == NO_ANSWER and not response.tls_version:
            self.silent[request.port] = replace(response, ms=0.0)
        return response


def inspect(look: Look) -> Iterator[Finding]:
    yield from ()


def prove(look: Look) -> Iterator[TestRow]:
    """Every row of the final test. The packets run beside the requests: silence takes its time."""
    begin_together(look.server, (look.answers.vllm.unit, *SSH_UNITS), SSH_CONFIGURED, *LOADED_RULES)
    from concurrent.futures import ThreadPoolExecutor

    silent: dict[int, Response] = {}
    with ThreadPoolExecutor(2) as beside:
        found = [(one, find_vllm(one.look)) for one in models(look)]
        packets = beside.submit(lambda: list(prove_net(look, [vllm for _, vllm in found])))
        for model, vllm in found:
            endpoint = Endpoint(model.look, vllm, own_address(model.look), endpoint_host(model.look), silent)
            yield from map(model.row, prove_service(endpoint, beside, named=not model.name or bool(model.host)))
        yield from packets.result()


def prove_service(endpoint: Endpoint, beside: Executor, *, named: bool) -> Iterator[TestRow]:
    """The rows of one service; those of its name where that is not another's."""
    if named:
        yield from prove_tls(endpoint)
    yield row("api.unauthorized", *unauthorized(endpoint))
    model, listed = list_models(endpoint)
    yield listed
    stream = beside.submit(ask_stream, endpoint, model, CHAT)
    route, chat = ask_chat(endpoint, model)
    yield chat
    yield stream.result() if route == CHAT else ask_stream(endpoint, model, route)
    # The most requests come last: the packets are on their way by then, and their silence is waited for anyway.
    yield prove_blocked(endpoint)
    if named and endpoint.look.answers.tls.mode != "internal":
        yield prove_redirect(endpoint)


def row(name: str, verdict: Verdict, ms: float) -> TestRow:
    ok, detail, remedy = verdict
    return TestRow(name, ok, detail, round(ms, 1), remedy)


def prove_tls(endpoint: Endpoint) -> Iterator[TestRow]:
    """Names, dates and chain are checked by the TLS library itself, against the CA that clients are given."""
    response = endpoint.ask(endpoint.request("/v1/models"))
    if endpoint.ca_file is None:
        yield from prove_untrusted(endpoint, response)
        return
    good = response.tls_version in MODERN
    who = endpoint.ca_file or "the system's certificate store"
    details = {
        "tls.handshake": f"{response.tls_version}; the certificate is right for {endpoint.host}",
        "tls.trusted": f"accepted with {who}",
    }
    for name, detail in details.items():
        remedy = None if good else endpoint.witness.remedy(name, response)
        yield row(name, (good, detail if good else response.error, remedy), response.ms)


def prove_untrusted(endpoint: Endpoint, response: Response) -> Iterator[TestRow]:
    """Where the root can't be known (a private or staging CA): names and dates, read from the certificate."""
    now = datetime.fromtimestamp(endpoint.look.server.now(), UTC)
    wrong = acme.judge_certificate(response.certificate, endpoint.host, now) if response.certificate else response.error
    good = response.tls_version in MODERN and not wrong
    detail = f"{response.tls_version}; names and dates are right for {endpoint.host}" if good else wrong
    remedy = None if good else endpoint.witness.remedy("tls.handshake", Response(0, error=wrong))
    yield row("tls.handshake", (good, detail, remedy), response.ms)
    staging = acme.is_staging(endpoint.look)
    why = "the staging CA is trusted by nobody" if staging else "the root of this private CA is not known here"
    yield row("tls.trusted", (None, why, None), response.ms)


def unauthorized(endpoint: Endpoint) -> tuple[Verdict, float]:
    response = endpoint.ask(endpoint.request("/v1/models"))
    detail = response.error or f"{response.status} without a key"
    if response.status == 401:
        return (True, detail, None), response.ms
    return (False, detail, endpoint.witness.remedy("api.unauthorized", response)), response.ms


def list_models(endpoint: Endpoint) -> tuple[str | None, TestRow]:
    wanted = endpoint.look.answers.test.model
    response = endpoint.ask(endpoint.request("/v1/models", key=True))
    names = [str(one.get("id")) for one in _json(response).get("data", []) if isinstance(one, dict)]
    model = (names[0] if names else None) if wanted == "auto" else wanted
    if response.status != 200 or model not in names:
        detail = response.error or f"{response.status}; models: {', '.join(names) or 'none'}"
        direct = endpoint.witness.asks_itself() if response.status == 401 else None
        remedy = endpoint.witness.remedy("api.models", response, models=tuple(names), direct=direct)
        return model, row("api.models", (False, detail, remedy), response.ms)
    return model, row("api.models", (True, f"200; lists {model}", None), response.ms)


def payload(endpoint: Endpoint, model: str, route: str, *, stream: bool) -> dict[str, Any]:
    answers = endpoint.look.answers.test
    asked: dict[str, Any] = {"model": model, "max_tokens": answers.max_tokens, "stream": stream}
    if route.endswith("/chat/completions"):
        return {**asked, "messages": [{"role": "user", "content": answers.prompt}]}
    if route.endswith("/embeddings"):
        return {"model": model, "input": answers.prompt}
    return {**asked, "prompt": answers.prompt}


def ask_chat(endpoint: Endpoint, model: str | None) -> tuple[str, TestRow]:
    """A chat; for a model without a chat route a completion, or an embedding. Also says by which route."""
    if model is None:
        return CHAT, row("api.chat", (None, "no model is listed", None), 0)
    timeout = endpoint.look.answers.test.timeout
    answers = []
    for route in ROUTES:
        body = payload(endpoint, model, route, stream=False)
        answers.append(endpoint.ask(endpoint.request(route, key=True, body=body, timeout_s=timeout)))
        if answers[-1].status not in NO_SUCH_ROUTE:
            break
    # Where no route is there, the chat's answer is the one that says why.
    first = answers[0] if answers[-1].status in NO_SUCH_ROUTE else answers[-1]
    said = said_in(_json(first))
    if first.status == 200 and said:
        return route, row("api.chat", (True, said, None), first.ms)
    remedy = endpoint.witness.remedy("api.chat", first)
    if first.error == NO_ANSWER:
        return route, row("api.chat", (None, f"no answer within {timeout} s: busy is not broken", remedy), first.ms)
    detail = said or first.error or f"{first.status}: {first.body[:120].decode('utf-8', 'replace')}"
    return route, row("api.chat", (False, detail, remedy), first.ms)


def ask_stream(endpoint: Endpoint, model: str | None, route: str) -> TestRow:
    """Pieces have to arrive one by one: a proxy that buffers delivers them all at once."""
    if model is None:
        return row("api.stream", (None, "no model is listed", None), 0)
    if route.endswith("/embeddings"):
        return row("api.stream", (None, "an embedding model does not stream", None), 0)
    body = payload(endpoint, model, route, stream=True)
    timeout = endpoint.look.answers.test.timeout
    # A fast model says all in a few milliseconds, which a busy server may see as one: what is held back always is.
    for _ in range(STREAMS):
        response = endpoint.ask(endpoint.request(route, key=True, body=body, timeout_s=timeout))
        events = arrivals(response.pieces)
        if response.status != 200 or not came_at_once(events):
            break
    if response.status != 200:
        remedy = endpoint.witness.remedy("api.stream", response)
        if response.error == NO_ANSWER:
            return row("api.stream", (None, f"no answer within {timeout} s: busy is not broken", remedy), response.ms)
        return row("api.stream", (False, response.error or f"{response.status}", remedy), response.ms)
    if len(events) < 2:
        return row("api.stream", (None, f"{len(events)} piece(s): too few to tell", None), response.ms)
    detail = f"{len(events)} pieces; first after {events[0]:.0f} ms, last after {events[-1]:.0f} ms"
    collected = response.header("Content-Length") is not None
    if not collected and not came_at_once(events):
        return row("api.stream", (True, detail, None), response.ms)
    return row("api.stream", (False, detail, endpoint.witness.remedy("api.stream", response)), response.ms)


def prove_blocked(endpoint: Endpoint) -> TestRow:
    """404 from the proxy for every other path and Host; an unknown SNI gets an alert or 404: never content."""
    asked = [(path, endpoint.request(path)) for path in BLOCKED_PATHS]
    asked.append((f"Host {FOREIGN}", replace(endpoint.request("/v1/models", key=False), host=FOREIGN)))
    stranger = replace(endpoint.request("/v1/models"), host=FOREIGN, server_name=FOREIGN, ca_file=None)
    wrong: list[tuple[str, Response]] = []
    ms = 0.0
    for name, request in asked:
        response = endpoint.ask(request)
        ms += response.ms
        if response.status != 404:
            wrong.append((name, response))
    response = endpoint.ask(stranger)
    if response.status not in (0, 404):
        wrong.append((f"SNI {FOREIGN}", response))
    if wrong:
        detail = "; ".join(f"{name}: {response.status or response.error}" for name, response in wrong[:4])
        name, response = wrong[0]
        return row("api.blocked", (False, detail, endpoint.witness.remedy("api.blocked", response, asked=name)), ms)
    return row("api.blocked", (True, f"404 for {len(asked)} other paths and Hosts; unknown SNI refused", None), ms)


def prove_redirect(endpoint: Endpoint) -> TestRow:
    if not serves_http(endpoint.look):
        return row("http.redirect", (None, "port 80 is closed, as the answers say", None), 0)
    plain = Request(endpoint.address, 80, path="/v1/models", host=endpoint.host)
    response = endpoint.ask(plain)
    where = response.header("Location") or ""
    good = response.status in (301, 308) and where.startswith("https://")
    if good:
        return row("http.redirect", (True, f"{response.status} to {where}", None), response.ms)
    detail = response.error or f"{response.status} {where}".strip()
    return row(
        "http.redirect", (False, detail, endpoint.witness.remedy("http.redirect", response, port=80)), response.ms
    )


# ── packets ──


def prove_net(look: Look, found: Sequence[Vllm]) -> Iterator[TestRow]:
    """`found` are the services that are served, the first one first."""
    primaries = [one.address for one in look.server.addresses() if one.primary] or [own_address(look)]
    # A port that is configured, or named in the answers, and that nobody listens on can't answer anything.
    ssh = listening_at(look.server, managed(look, primaries), find_ssh_ports(look).ports)
    closed = {
        vllm.unit.name: [Target(address, port) for address in primaries for port in ports_of(vllm)] for vllm in found
    }
    asked = dict.fromkeys(target for targets in closed.values() for target in targets)
    served = [(address, port) for address in managed(look, primaries) for port in served_ports(look)]
    opened = [*ssh, *(Target(address, port, expected=True) for address, port in served)]
    answers = {reached.target: reached for reached in look.server.reach([*asked, *opened])}
    ms = max((reached.ms for reached in answers.values()), default=0.0)
    verdicts = [judge_closed(look, vllm, [answers[one] for one in closed[vllm.unit.name]]) for vllm in found]
    yield row("net.closed", together(found, verdicts), ms)
    yield row("net.open", judge_open(look, found[0], [answers[one] for one in opened]), ms)


def ports_of(vllm: Vllm) -> list[int]:
    return sorted({vllm.port, *(one.port for one in vllm.listeners)})


def together(found: Sequence[Vllm], verdicts: Sequence[Verdict]) -> Verdict:
    """What is to be said of all services: of those with the worst verdict, which they are."""
    if len(verdicts) == 1:
        return verdicts[0]
    worst = min((ok for ok, _, _ in verdicts), key=(False, None, True).index)
    told = [
        (f"{vllm.unit.name}: {one[1]}", one[2]) for vllm, one in zip(found, verdicts, strict=True) if one[0] is worst
    ]
    return worst, "; ".join(detail for detail, _ in told), told[0][1]


def served_ports(look: Look) -> tuple[int, ...]:
    return (443, 80) if serves_http(look) else (443,)


def judge_closed(look: Look, vllm: Vllm, reached: list[Reach]) -> Verdict:
    """Closed: every listener is on loopback; or packets stay unanswered and no loaded rule lets any through."""
    answered = [one for one in reached if one.state == "open" and not _is_ours(look, one.target.port)]
    if answered:
        where = ", ".join(f"{one.target.address}:{one.target.port}" for one in answered)
        by = accepting_rule(look, answered[0].target.port) or ""
        return False, f"another machine reaches {where}", _meant(look, vllm, "net.closed", answered[0], rule=by)
    states = ", ".join(sorted({f"{one.target.port} {one.state}" for one in reached}))
    if not vllm.listeners:
        return None, f"vLLM listens nowhere; packets from outside: {states}", None
    if not vllm.exposed:
        return True, f"vLLM listens on loopback alone; packets from outside: {states}", None
    if unknown := [one for one in reached if one.state == "unknown"]:
        return None, f"no packet could be sent: {unknown[0].detail}", _meant(look, vllm, "net.closed", unknown[0])
    for listener in vllm.exposed:
        if rule := accepting_rule(look, listener.port):
            remedy = _meant(look, vllm, "net.closed", reached[0], rule=rule)
            return False, f"{listener} can be reached through a rule: {rule}", remedy
    exposed = ", ".join(str(one) for one in vllm.exposed)
    return True, f"{exposed} stay behind the firewall; packets from outside: {states}", None


def _meant(look: Look, vllm: Vllm, name: str, reached: Reach, *, rule: str = "", verdict: str = "") -> str:
    """What a packet's way means, by the firewall's state and the rule that decides."""
    witness, target = Witness(look, vllm), reached.target
    known: dict[str, Any] = {"state": reached.state, "address": target.address, "port": target.port}
    return witness.remedy(name, **known, rule=rule, verdict=verdict, firewall=witness.firewall_is_on())


def _is_ours(look: Look, port: int) -> bool:
    """The port is Caddy's or sshd's, though vLLM has the same number on loopback."""
    return any(one.port == port and one.unit == "caddy.service" for one in look.server.listeners())


def accepting_rule(look: Look, port: int) -> str | None:
    """The loaded rule that may let somebody reach this port, by interface or source too; None where none does."""
    firewall = look.server.firewall()
    interfaces = sorted({one.interface for one in look.server.addresses()})
    for family, kernel in ((4, firewall.kernel4), (6, firewall.kernel6)):
        if kernel is None:
            return f"the IPv{family} rules can't be read"
        for interface in interfaces:
            verdict = evaluate(kernel, Packet("tcp", port, None, interface, family=family))
            if verdict.result in ("accept", "unsure"):
                return verdict.rule or f"the IPv{family} policy"
    return None


def judge_open(look: Look, vllm: Vllm, reached: list[Reach]) -> Verdict:
    shut = [one for one in reached if one.state not in ("open", "unknown")]
    unknown = [one for one in reached if one.state == "unknown"]
    states = ", ".join(sorted({f"{one.target.port} {one.state}" for one in reached}))
    if shut and (rule_of_some := let_in_some(look, shut)):
        return None, f"{shut[0].target.port} answers only those whom your rule lets in: {rule_of_some}", None
    if shut and look.answers.firewall.manage:
        names = ", ".join(f"{one.target.address}:{one.target.port} {one.state}" for one in shut)
        first = shut[0]
        verdict, rule = Witness(look, vllm).refuses(first.target.port, 6 if ":" in first.target.address else 4)
        return False, names, _meant(look, vllm, "net.open", first, rule=rule, verdict=verdict)
    if unknown:
        return None, f"no packet could be sent: {unknown[0].detail}", _meant(look, vllm, "net.open", unknown[0])
    whose = "; what is not open is closed by the firewall that you manage" if shut else ""
    return True, f"packets from outside: {states}{whose}", None


def _json(response: Response) -> dict[str, Any]:
    try:
        found = json.loads(response.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


STEP = Step(
    "https_test",
    "Test",
    inspect,
    prove,
    about="The finished endpoint, tried as a client would.",
    help=(
        "Each line is a request, or a packet, that was really sent. ✓ is as it should be. ✗ says below what it means "
        "and what to do. ! could not be tried, and says why.\n\n"
        "Packets come from a network namespace that lives for a moment: to this server's firewall they are those of "
        "another machine. A firewall of your provider is not seen from here: the last proof is a request from your "
        "own computer."
    ),
)
