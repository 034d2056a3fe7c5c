"""Each failed row is explained: by what fits, in a few lines, with a command that can be copied."""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.explanations import ROWS, TABLE, explain, find
from wizard.explanations.terms import COLUMNS, Seen, always
from wizard.server import Response

VIA = (("Via", "1.1 Caddy"),)
LIST = b'{"object":"list","data":[{"id":"phi-4-mini"}]}'
KNOWN = Seen(
    host="llm.example.com",
    address="203.0.113.207",
    ca_file="/etc/vllm-https-setup/root.crt",
    script="/opt/vllm/start-vllm.sh",
    said="Loading safetensors checkpoint shards: 40% completed",
    key_file="/etc/vllm/vllm.env",
    listening="192.168.100.20:8000",
)


def failed(error: str, **known: Any) -> Seen:
    """Nothing came back; `tls` is the version that had been agreed on."""
    return replace(KNOWN, response=Response(0, error=error, tls_version=known.pop("tls", "")), **known)


def answered(status: int, body: bytes = b"", *headers: tuple[str, str], **known: Any) -> Seen:
    return replace(KNOWN, response=Response(status, body, headers, tls_version="TLSv1.3"), **known)


def packet(state: str, port: int = 443, **known: Any) -> Seen:
    return replace(KNOWN, state=state, port=port, **known)


REFUSED, LATE = "connection refused", "no answer in time"
UNKNOWN = "certificate not accepted: unable to get local issuer certificate"
ITS_OWN = "certificate not accepted: self-signed certificate"
ENDED = "certificate not accepted: certificate has expired"
MISMATCH = "certificate not accepted: Hostname mismatch, certificate is not valid for 'llm.example.com'."
ALERT = "TLS: tlsv1 alert internal error"
CONTEXT = b'{"error":{"message":"This model\'s maximum context length is 40 tokens. However, you requested 50"}}'
NO_MODEL = b'{"error":{"message":"The model `x` does not exist.","code":404}}'
STREAM = ("Content-Type", "text/event-stream; charset=utf-8")
NFT = "-A INPUT -p tcp -m tcp --dport 443 -j DROP"
UFW = "-A ufw-user-input -p tcp -m tcp --dport 443 -j DROP"
# row -> symptom -> what was seen
CASES: dict[str, dict[str, Seen]] = {
    "tls.handshake": {
        "no root certificate to compare with": failed("no such file or directory"),
        "connection refused; Caddy is not installed": failed(REFUSED, caddy="missing"),
        "connection refused; Caddy does not run": failed(REFUSED, caddy="stopped"),
        "connection refused, though Caddy runs": failed(REFUSED),
        "no answer in time": failed(LATE),
        "another program answers on port 443": failed(ITS_OWN, holder="nginx (nginx.service)"),
        "alert: internal error (mode acme)": failed(ALERT, mode="acme"),
        "alert: internal error": failed(ALERT),
        "no TLS on port 443": failed("TLS: wrong version number"),
        "TLS older than 1.2": failed("TLS: unsupported protocol"),
        "certificate expired (mode internal)": failed(ENDED),
        "certificate expired (mode acme)": failed(ENDED, mode="acme"),
        "certificate expired (mode custom)": failed(ENDED, mode="custom"),
        "certificate not yet valid": failed("certificate not accepted: certificate is not yet valid"),
        "certificate for other names (mode internal)": failed(MISMATCH),
        "certificate for other names": failed(MISMATCH, mode="acme"),
        "certificate of an unknown issuer": failed(UNKNOWN),
        "the connection was broken off": failed("TLS: unexpected eof while reading"),
        "no way to the address": failed("no route to host"),
        "anything else": failed("TLS: bad record type"),
    },
    "tls.trusted": {
        "no root certificate to compare with": failed("no such file or directory"),
        "certificate expired, not yet valid, or for other names": failed(ENDED),
        "unknown issuer (mode internal)": failed(UNKNOWN),
        "self-signed (mode custom)": failed(ITS_OWN, mode="custom"),
        "unknown issuer (mode custom)": failed(UNKNOWN, mode="custom"),
        "unknown issuer (mode acme)": failed(UNKNOWN, mode="acme"),
        "no certificate was seen": failed(REFUSED),
    },
    "api.unauthorized": {
        "no connection": failed(REFUSED),
        "no answer in time": failed(LATE, tls="TLSv1.3"),
        "the answer broke off": failed("connection reset by peer", tls="TLSv1.3"),
        "502; vLLM is stopped": answered(502, vllm="stopped"),
        "502; vLLM has failed": answered(502, vllm="failed"),
        "502; vLLM is loading": answered(502, vllm="loading"),
        "502; vLLM listens elsewhere": answered(502, vllm="elsewhere"),
        "502, though vLLM listens": answered(502),
        "503 or 504 from vLLM": answered(503, b"", *VIA),
        "503 from Caddy": answered(503),
        "504 from Caddy": answered(504),
        "a redirect": answered(302, b"", ("Location", "https://login.example.com/")),
        "403 or 429": answered(403),
        "200, and it is not vLLM's list": answered(200, b"<h1>It works</h1>"),
        "200 without a key; no key is set": answered(200, LIST, *VIA, key_file=""),
        "200 without a key, though one is set": answered(200, LIST, *VIA),
        "404 from vLLM": answered(404, b'{"detail":"Not Found"}', *VIA),
        "404 from Caddy": answered(404),
        "any other answer": answered(500, b"", *VIA),
    },
    "api.models": {
        "401 with the key; vLLM itself takes it": answered(401, direct=200),
        "401; no key is set": answered(401, direct=401, key_file=""),
        "401 with the key": answered(401, direct=401),
        "200; the model is not in the list": answered(200, LIST, models=("phi-4-mini",), wanted="qwen"),
        "200, and no model in it": answered(200, b"<h1>It works</h1>"),
        "502; vLLM is loading": answered(502, vllm="loading"),
        "404 from vLLM": answered(404, b"", *VIA),
        "any other answer": answered(500, b"", *VIA),
    },
    "api.chat": {
        "no answer in time": failed(LATE, tls="TLSv1.3"),
        "the answer broke off": failed("RemoteDisconnected", tls="TLSv1.3"),
        "401 with the key": answered(401),
        "400: no chat template": answered(400, b'{"error":{"message":"you must provide a chat template"}}', *VIA),
        "400: too long for the model": answered(400, CONTEXT, *VIA),
        "404: no such model": answered(404, NO_MODEL, *VIA),
        "404, 405 or 501: no such route": answered(404, b'{"detail":"Not Found"}', *VIA),
        "400 or 422": answered(400, b'{"error":{"message":"unknown field"}}', *VIA),
        "500": answered(500, b"", *VIA),
        "200 without any text": answered(200, b'{"choices":[]}', *VIA),
        "any other answer": answered(418, b"", *VIA),
    },
    "api.stream": {
        "no answer in time": failed(LATE, tls="TLSv1.3"),
        "all at once: compressed": answered(200, b"", STREAM, ("Content-Encoding", "gzip")),
        "all at once: of known length": answered(200, b"", STREAM, ("Content-Length", "812")),
        "all at once: no event stream": answered(200, b"", ("Content-Type", "application/json")),
        "all pieces at the same moment": answered(200, b"", STREAM),
        "any other answer": answered(418),
    },
    "api.blocked": {
        "no connection": failed(REFUSED),
        "a foreign Host or SNI is served": answered(401, b"", *VIA, asked="Host not-this-server.invalid"),
        "no answer to another path": failed(LATE, tls="TLSv1.3", asked="/metrics"),
        "vLLM itself answers another path": answered(200, b"# HELP", *VIA, asked="/metrics"),
        "502 or 503 for another path": answered(502, asked="/metrics"),
        "another program answers": answered(200, b"<h1>", asked="/", holder="nginx (nginx.service)"),
        "an empty 200": answered(200, asked="/"),
        "content that is not vLLM's": answered(200, b"<h1>", asked="/"),
        "any other answer": answered(301, asked="/v1"),
    },
    "http.redirect": {
        "connection refused; Caddy does not run": failed(REFUSED, caddy="stopped", port=80),
        "another program has port 80": answered(200, holder="nginx (nginx.service)", port=80),
        "connection refused, though Caddy runs": failed(REFUSED, port=80),
        "no answer in time": failed(LATE, port=80),
        "404": answered(404, port=80),
        "200: content over plain http": answered(200, port=80),
        "a redirect, but not for good or not to https": answered(302, b"", ("Location", "http://a/"), port=80),
        "any other answer": answered(500, port=80),
    },
    "net.closed": {
        "no packet could be sent": packet("unknown", 8000),
        "another machine reaches it; the firewall is off": packet("open", 8000, firewall=False),
        "another machine reaches it; incoming is allowed by default": packet("open", 8000, rule="the IPv4 policy"),
        "another machine reaches it by a rule": packet("open", 8000, rule=UFW.replace("DROP", "ACCEPT")),
        "another machine reaches it, by no rule that is known": packet("open", 8000),
        "some machines reach it by a rule": packet("filtered", 8000, rule=UFW),
    },
    "net.open": {
        "no packet could be sent": packet("unknown"),
        "443 or 80 refused; Caddy does not run": packet("refused", caddy="stopped"),
        "443 or 80 refused, though Caddy runs": packet("refused"),
        "SSH refused": packet("refused", 22),
        "filtered, with ufw off": packet("filtered", firewall=False),
        "filtered, though the rules let it in": packet("filtered", verdict="accept"),
        "filtered by a rule of ufw's": packet("filtered", rule=UFW, verdict="drop"),
        "filtered by a rule before ufw's": packet("filtered", rule=NFT, verdict="drop"),
        "filtered: no rule lets it in": packet("filtered", verdict="drop"),
    },
}
NAMED = [(row, symptom) for row, cases in CASES.items() for symptom in cases]


@pytest.mark.parametrize(("row", "symptom"), NAMED)
def test_symptom_has_its_own_explanation(row: str, symptom: str) -> None:
    assert find(row, CASES[row][symptom]).symptom == symptom


def test_every_explanation_is_met() -> None:
    met = {id(find(row, CASES[row][symptom])) for row, symptom in NAMED}
    assert [(one.rows, one.symptom) for one in TABLE if id(one) not in met] == []
    assert tuple(CASES) == ROWS


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_a_last_word(row: str) -> None:
    own = [one for one in TABLE if row in one.rows]
    assert own[-1].when is always
    assert len({one.symptom for one in own}) == len(own)
    assert explain(row, Seen())


@pytest.mark.parametrize(("row", "symptom"), NAMED)
def test_explanation_is_at_most_three_lines_of_sixty_columns(row: str, symptom: str) -> None:
    """And nothing of it is cut off, its command on a line of its own, as a shell takes it."""
    said = explain(row, CASES[row][symptom])
    cause, *commands = said.split("\n")
    assert "…" not in cause and "{" not in said
    assert len(textwrap.wrap(cause, COLUMNS, break_on_hyphens=False)) <= 2
    assert len(commands) <= 1
    for command in commands:
        assert len(command) <= COLUMNS
        assert shlex.split(command)


@pytest.mark.parametrize(("row", "symptom"), NAMED)
def test_what_has_no_command_points_to_the_row_that_has_one(row: str, symptom: str) -> None:
    if "\n" not in (said := explain(row, CASES[row][symptom])):
        (other,) = [one for one in ROWS if one in said]
        assert other != row


@given(st.text(max_size=400), st.text(max_size=400))
def test_words_of_the_machine_stay_few_and_are_no_gaps(said: str, rule: str) -> None:
    for row, seen in (
        ("api.unauthorized", answered(502, vllm="failed", said=said)),
        ("net.closed", packet("open", 8000, rule=rule)),
    ):
        cause = explain(row, seen).split("\n")[0]
        assert len(textwrap.wrap(cause, COLUMNS, break_on_hyphens=False)) <= 2
