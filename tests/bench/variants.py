"""Ours with one thing changed: what was tried, so that anybody can try it again (./tests/bench/run proxy -v NAME)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.bench.proxies import Kind


@dataclass(frozen=True)
class Variant:
    """A change of our Caddyfile's text, or of the environment of Caddy's unit."""

    change: Callable[[str], str] = lambda text: text
    environment: Mapping[str, str] = field(default_factory=dict)


def _replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        if old not in text:
            raise ValueError(f"our Caddyfile has no {old!r} any more")
        return text.replace(old, new)

    return change


def _cut(pattern: str, new: str = "") -> Callable[[str], str]:
    def change(text: str) -> str:
        changed, count = re.subn(pattern, lambda _: new, text, flags=re.S | re.M)
        if not count:
            raise ValueError(f"our Caddyfile has no {pattern!r} any more")
        return changed

    return change


_TRANSPORT = "\t\t\ttransport http {\n"
_PROTOCOLS = "\tservers {\n"

_QUERY = r"^\t\t@api_key query .*?^\t\turi @key [^\n]*\n"
_EXPRESSION = """\
\t\t@keyed `query({'api_key': '*'}) || query({'key': '*'})`
\t\turi @keyed query {
\t\t\t-api_key
\t\t\t-key
\t\t}
"""

VARIANTS: Mapping[str, Variant] = {
    "no-compression": Variant(_cut(r"^\t\tencode .*?^\t\t}\n")),
    "compress-events": Variant(_replaced("header Content-Type application/json*", "header Content-Type *")),
    "no-access-log": Variant(_cut(r"^\tlog vllm-https \{.*?^\t}\n|^\tlog vllm-https\n")),
    "sampled-log": Variant(
        _replaced(
            "\tlog vllm-https {\n",
            "\tlog vllm-https {\n\t\tsampling {\n\t\t\tinterval 1s\n\t\t\tfirst 10\n\t\t\tthereafter 100\n\t\t}\n",
        )
    ),
    "log-unfiltered": Variant(_cut(r"^\t\tformat filter \{.*?^\t\t}\n")),
    "no-key-query": Variant(_cut(_QUERY)),
    "key-by-expression": Variant(_cut(_QUERY, _EXPRESSION)),
    "log-no-uri-filter": Variant(_cut(r"^\t\t\t(?:request>uri|resp_headers>Location) query \{.*?^\t\t\t}\n")),
    "log-no-header-filter": Variant(_cut(r"^\t\t\trequest>headers>[^\n]*\n")),
    "log-less": Variant(
        _replaced("\t\tformat filter {\n", "\t\tformat filter {\n\t\t\tresp_headers delete\n\t\t\trequest>tls delete\n")
    ),
    "no-proxy-log": Variant(
        _replaced(
            "\t\texclude http.log.access\n",
            "\t\texclude http.log.access http.handlers.reverse_proxy\n",
        )
    ),
    "flush-at-once": Variant(_replaced(_TRANSPORT, f"\t\t\tflush_interval -1\n{_TRANSPORT}")),
    "small-buffers": Variant(
        _replaced(_TRANSPORT, f"{_TRANSPORT}\t\t\t\tread_buffer 1KiB\n\t\t\t\twrite_buffer 1KiB\n")
    ),
    "big-buffers": Variant(
        _replaced(_TRANSPORT, f"{_TRANSPORT}\t\t\t\tread_buffer 32KiB\n\t\t\t\twrite_buffer 32KiB\n")
    ),
    "no-timeouts": Variant(_cut(r"^\t\t\t\t(?:read|write)_timeout .*?\n")),
    "many-kept": Variant(_replaced(_TRANSPORT, f"{_TRANSPORT}\t\t\t\tkeepalive_idle_conns_per_host 1024\n")),
    "none-kept": Variant(_replaced("keepalive 4s", "keepalive off")),
    "not-asked-to-compress": Variant(_replaced(_TRANSPORT, f"{_TRANSPORT}\t\t\t\tcompression off\n")),
    "http1-to-vllm": Variant(_replaced(_TRANSPORT, f"{_TRANSPORT}\t\t\t\tversions 1.1\n")),
    "http1": Variant(_replaced("protocols h1 h2", "protocols h1")),
    "no-headers": Variant(_cut(r"^\theader \{.*?^\t}\n")),
    "keepalive-interval": Variant(_replaced(_PROTOCOLS, f"{_PROTOCOLS}\t\tkeepalive_interval 60s\n")),
    "full-duplex": Variant(_replaced(_PROTOCOLS, f"{_PROTOCOLS}\t\tenable_full_duplex\n")),
    "gogc-50": Variant(environment={"GOGC": "50"}),
    "gogc-200": Variant(environment={"GOGC": "200"}),
    "gogc-400": Variant(environment={"GOGC": "400"}),
    "limit-256": Variant(environment={"GOMEMLIMIT": "256MiB", "GOGC": "off"}),
    "one-thread": Variant(environment={"GOMAXPROCS": "1"}),
}


def make(kind: Kind, name: str) -> Kind:
    """This proxy with the named change."""
    variant = VARIANTS[name]
    return replace(
        kind,
        name=name,
        text=lambda port, upstream: variant.change(kind.text(port, upstream)),
        environment=variant.environment,
    )
