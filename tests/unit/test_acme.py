"""Mode acme: Caddy's own words about an issuance, in plain ones. The lines are those of Caddy 2.11's journal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard import acme
from wizard.acme_words import CAUSES, translate
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
    assert probe.detail.startswith(
        "the CA's limit is reached: 5 certificates for just this name were issued in the last"
    )
    assert "The CA said: too many certificates (5)" in probe.detail


def test_words_of_an_earlier_attempt_and_of_another_name_do_not_count() -> None:
    assert read(line(-5, "could not get certificate from issuer", error=LIMITED)).done is None
    assert read(line(1, "could not get certificate from issuer", identifier="other.test", error=LIMITED)).done is None
    assert read('{"ts": 1, "msg"', "null", '"text"').done is None


@pytest.mark.parametrize("kind", CAUSES)
def test_each_problem_of_an_acme_server_has_its_cause(kind: str) -> None:
    assert translate(f"HTTP 403 urn:ietf:params:acme:error:{kind} - the words").startswith(CAUSES[kind])


def test_refusal_for_want_of_a_connection_is_told_as_one_whatever_the_ca_calls_it() -> None:
    kind = "urn:ietf:params:acme:error:unauthorized"
    said = translate(f"HTTP 403 {kind} - Failed to connect to 10.91.1.3:443 for the tls-alpn-01 challenge")
    assert said.startswith(CAUSES["connection"])
    other = translate(f"HTTP 403 {kind} - Invalid response from http://llm.example.test: 404")
    assert other.startswith(CAUSES["unauthorized"])


# The forms of RFC 8555 6.7, all of them, and of RFC 9773.
TYPES = (
    *("accountDoesNotExist", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badRevocationReason"),
    *("badSignatureAlgorithm", "caa", "compound", "connection", "dns", "externalAccountRequired", "incorrectResponse"),
    *("invalidContact", "malformed", "orderNotReady", "rateLimited", "rejectedIdentifier", "serverInternal", "tls"),
    *("unauthorized", "unsupportedContact", "unsupportedIdentifier", "userActionRequired", "alreadyReplaced"),
)


def test_every_type_of_problem_is_known() -> None:
    assert set(CAUSES) == set(TYPES)


# Let's Encrypt's own words (boulder's ratelimits/limiter.go), with what a person is told.
AGAIN = "retry after 2026-11-28 09:13:16 UTC: see https://letsencrypt.org/docs/rate-limits/"
LIMITED_BY = {
    "same": (
        "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, ",
        "5 certificates for just this name were issued in the last 7 days",
    ),
    "domain": (
        'too many certificates (50) already issued for "example.com" in the last 168h0m0s, ',
        "50 certificates for names of example.com were issued in the last 7 days",
    ),
    "failed": (
        'too many failed authorizations (5) for "llm.example.com" in the last 1h0m0s, ',
        "the CA has tried 5 times in the last hour to find llm.example.com here, and failed",
    ),
    "orders": (
        "too many new orders (300) from this account in the last 3h0m0s, ",
        "300 certificates were asked for by this account in the last 3 hours",
    ),
    "accounts": (
        "too many new registrations (10) from this IP address in the last 3h0m0s, ",
        "10 accounts were opened from this address in the last 3 hours",
    ),
    "accounts-ipv6": (
        "too many new registrations (500) from this /48 subnet of IPv6 addresses in the last 3h0m0s, ",
        "500 accounts were opened from this address in the last 3 hours",
    ),
}


@pytest.mark.parametrize("case", LIMITED_BY)
def test_each_limit_is_told_with_the_time_that_the_ca_names(case: str) -> None:
    words, expected = LIMITED_BY[case]
    said = translate(f"HTTP 429 urn:ietf:params:acme:error:rateLimited - {words}{AGAIN}")
    assert said.startswith(f"the CA's limit is reached: {expected}")
    assert "; try again after 2026-11-28 09:13 UTC. The CA said: too many" in said


def test_pause_is_told_with_the_link_that_ends_it() -> None:
    link = "https://portal.letsencrypt.org/sfe/v1/unpause?jwt=" + "x" * 400
    said = translate(
        "HTTP 429 urn:ietf:params:acme:error:rateLimited - Your account is temporarily prevented from requesting "
        f"certificates for llm.example.com and possibly others. Please visit: {link}"
    )
    assert said.startswith("the CA has paused this account for llm.example.com, after many failures")
    assert f"end the pause: open {link}. The CA said:" in said, "the link is whole, though it is long"


def test_busy_ca_is_not_taken_for_a_limit_of_days() -> None:
    said = translate("HTTP 503 urn:ietf:params:acme:error:rateLimited - Service busy; retry later.")
    assert said.startswith("the CA is busy: try again in some minutes")


@pytest.mark.parametrize(
    "words",
    [
        "unauthorized - the field 'kid' references a key that is not known to the ACME server",
        'unauthorized - Account is not valid, has status "deactivated"',
        "malformed - external account binding JWS verification error: square/go-jose: error in cryptographic primitive",
    ],
)
def test_refused_account_is_told_apart_from_a_name_that_leads_elsewhere(words: str) -> None:
    assert "tls.eab_file" in translate(f"HTTP 403 urn:ietf:params:acme:error:{words}")


def test_first_of_several_reasons_is_told() -> None:
    kind = "urn:ietf:params:acme:error"
    said = translate(f'HTTP 400 {kind}:compound - several problems, problem "{kind}:caa": CAA record for x forbids')
    assert said.startswith(f"{CAUSES['compound']}, the first: {CAUSES['caa']}")


def test_page_that_was_met_at_the_name_is_not_taken_for_the_cas_own_limit() -> None:
    words = "Invalid response from http://llm.example.test/.well-known/x: too many requests"
    said = translate(f"HTTP 403 urn:ietf:params:acme:error:unauthorized - {words}")
    assert said.startswith(CAUSES["unauthorized"])


def test_error_without_a_problem_type_is_told_as_it_is() -> None:
    said = translate('performing request: Get "https://acme.lab/dir": dial tcp 10.91.0.3:443: connection refused')
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
