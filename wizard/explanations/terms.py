"""What an explanation is made of: what was seen, and conditions on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..server import NOTHING, Response

COLUMNS = 60
REPAIR = "sudo vllm-https-setup repair"
STATUS = "sudo vllm-https-setup status"
ANSWER_ANEW = "sudo vllm-https-setup apply --answers FILE"
VLLM_LOG = "sudo journalctl -u {seen.unit} -n 50"
RESTART_VLLM = "sudo systemctl restart {seen.unit}"
ASK_VLLM = "curl -i http://127.0.0.1:{seen.vllm_port}/v1/models"


@dataclass(frozen=True)
class Seen:
    """What is known where a row has failed.

    `response` is what came back, `asked` the path or Host that it came for. `caddy` is runs, stopped or missing;
    `vllm` is runs, loading, stopped, failed, or elsewhere (it listens where Caddy does not look). `holder` is another
    program that has the port, `direct` vLLM's own answer with the key where it was asked. `rule` is the loaded rule
    that decides, `verdict` what the rules come to for the port; `state` what a packet met.
    """

    response: Response = NOTHING
    mode: str = "internal"
    host: str = ""
    address: str = ""
    ca_file: str = ""
    asked: str = ""
    port: int = 443
    caddy: str = "runs"
    holder: str = ""
    vllm: str = "runs"
    unit: str = "vllm.service"
    vllm_port: int = 8000
    listening: str = ""
    script: str = ""
    said: str = ""
    key_file: str = ""
    direct: int | None = None
    models: tuple[str, ...] = ()
    wanted: str = "auto"
    timeout: int = 120
    state: str = ""
    rule: str = ""
    verdict: str = ""
    firewall: bool = True

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def error(self) -> str:
        return self.response.error

    @property
    def body(self) -> str:
        return self.response.body[:2000].decode("utf-8", "replace")

    @property
    def proxied(self) -> bool:
        """Whether Caddy had the answer from vLLM: its own answers have no Via."""
        return "caddy" in (self.response.header("Via") or "").lower()

    @property
    def encoding(self) -> str:
        return self.response.header("Content-Encoding") or ""

    @property
    def kind(self) -> str:
        return (self.response.header("Content-Type") or "").partition(";")[0].strip()

    @property
    def location(self) -> str:
        return self.response.header("Location") or ""

    @property
    def listed(self) -> str:
        return ", ".join(self.models[:3])


Condition = Callable[[Seen], bool]


@dataclass(frozen=True)
class Explanation:
    """`symptom` is for docs; `cause` and `command` have gaps that are filled from what was seen."""

    rows: tuple[str, ...]
    symptom: str
    when: Condition
    cause: str
    command: str = ""


def always(seen: Seen) -> bool:
    return True


def says(*words: str) -> Condition:
    """Nothing came back, and the error has one of these in it."""
    return lambda seen: seen.status == 0 and any(word in seen.error.lower() for word in words)


def answers(*codes: int) -> Condition:
    return lambda seen: seen.status in codes


def both(*conditions: Condition) -> Condition:
    return lambda seen: all(one(seen) for one in conditions)


def neither(*conditions: Condition) -> Condition:
    return lambda seen: not any(one(seen) for one in conditions)


def caddy_is(state: str) -> Condition:
    return lambda seen: seen.caddy == state


def vllm_is(*states: str) -> Condition:
    return lambda seen: seen.vllm in states


def mode_is(*modes: str) -> Condition:
    return lambda seen: seen.mode in modes


def has_words(*words: str) -> Condition:
    """The answer's body has one of these in it."""
    return lambda seen: any(word in seen.body.lower() for word in words)


def proxied(seen: Seen) -> bool:
    return seen.proxied


def keyed(seen: Seen) -> bool:
    return bool(seen.key_file)


def held(seen: Seen) -> bool:
    return bool(seen.holder)


refused = says("connection refused")
late = says("no answer in time")


def nothing_came(seen: Seen) -> bool:
    """No connection; or TLS, but not with a certificate that was accepted."""
    return seen.status == 0 and not seen.response.tls_version


no_root = says("no such file", "no certificate or crl found")
