"""Mode acme: Caddy's own words about an issuance, in plain ones. The lines are those of Caddy 2.11's journal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard import acme
from wizard.described import DescribedMachine
from wizard.facts import Facts
from wizard.model import Output, Probe
from wizard.server import FileState

DOMAIN = "llm.example.test"
BEGAN = 1795594005.62
LIMITED = (
    "HTTP 429 urn:ietf:params:acme:error:rateLimited - too many certificates (5) already issued for this exact set of "
    "identifiers in the last 168h"
)


def line(after: float, message: str, logger: str = "tls.obtain", **more: str) -> str:
    said = {"level": "info", "ts": BEGAN + after, "logger": logger, "msg": message, "identifier": DOMAIN}
    return json.dumps({**said, **more})


OBTAINS = line(0.1, "obtaining certificate")
SOLVES = line(0.2, "trying to solve challenge", "http.acme_client", challenge_type="tls-alpn-01")
FAILS = line(0.3, "could not get certificate from issuer", issuer="acme.lab-dir", error=LIMITED)


def read(*lines: str) -> Probe:
    return acme.read_progress("\n".join(["Reloaded caddy.service - Caddy.", *lines]), DOMAIN, BEGAN)


def test_what_is_under_way_is_told_in_plain_words() -> None:
    assert read() == Probe(None, "Caddy asks the CA")
    assert read(OBTAINS, SOLVES) == Probe(None, "the CA connects to this server to check it")
    served = line(0.25, "served key authentication certificate", "tls")
    assert read(OBTAINS, SOLVES, served) == Probe(None, "the CA has come by port 443")


def test_refusal_ends_the_wait_with_its_cause_and_the_cas_own_words() -> None:
    probe = read(OBTAINS, SOLVES, FAILS)
    assert probe.done is False
    assert probe.detail.startswith("the CA's limit is reached: wait as long as it says, or use the staging directory")
    assert "The CA said: too many certificates (5)" in probe.detail


def test_words_of_an_earlier_attempt_and_of_another_name_do_not_count() -> None:
    assert read(line(-5, "could not get certificate from issuer", error=LIMITED)).done is None
    assert read(line(1, "could not get certificate from issuer", identifier="other.test", error=LIMITED)).done is None
    assert read('{"ts": 1, "msg"', "null", '"text"').done is None


@pytest.mark.parametrize("kind", acme.CAUSES)
def test_each_problem_of_an_acme_server_has_its_cause(kind: str) -> None:
    assert acme.translate(f"HTTP 403 urn:ietf:params:acme:error:{kind} - the words").startswith(acme.CAUSES[kind])


def test_refusal_for_want_of_a_connection_is_told_as_one_whatever_the_ca_calls_it() -> None:
    kind = "urn:ietf:params:acme:error:unauthorized"
    said = acme.translate(f"HTTP 403 {kind} - Failed to connect to 10.91.1.3:443 for the tls-alpn-01 challenge")
    assert said.startswith(acme.CAUSES["connection"])
    other = acme.translate(f"HTTP 403 {kind} - Invalid response from http://llm.example.test: 404")
    assert other.startswith(acme.CAUSES["unauthorized"])


def test_error_without_a_problem_type_is_told_as_it_is() -> None:
    said = acme.translate('performing request: Get "https://acme.lab/dir": dial tcp 10.91.0.3:443: connection refused')
    assert said.startswith("the CA could not be asked: ")
    assert said.endswith("connection refused")


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.62, 0.999])
def test_refusal_within_the_same_second_is_seen(monkeypatch: pytest.MonkeyPatch, fraction: float) -> None:
    """Else the next attempt would be waited for, a minute later, and that one counts against the CA's limits."""
    look = scenario.load("exposed").look()
    machine = look.server
    assert isinstance(machine, Facts)
    assert isinstance(machine.machine, DescribedMachine)
    asked: list[tuple[str, ...]] = []

    class Journal(Facts):
        def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output:
            asked.append(tuple(argv))
            return Output(0)

        def now(self) -> float:
            return int(BEGAN) + fraction

        def read(self, path: str) -> FileState | None:
            return None

    server = Journal(machine.machine)
    tls = look.answers.tls.model_copy(update={"mode": "acme", "domain": DOMAIN})
    look = replace(look, server=server, answers=look.answers.model_copy(update={"tls": tls}))
    acme.Issuance(look)(server)
    (since,) = (word for word in asked[0] if word.startswith("--since=@"))
    assert float(since.removeprefix("--since=@")) <= int(BEGAN) + fraction
