"""What of requests is limited by Caddy. The Caddyfile has it, which the step before writes: here is told what holds."""

from __future__ import annotations

from collections.abc import Iterator

from ..caddyfile import SLOW_CLIENTS, is_imported
from ..engine import Look
from ..hardening import chosen, holds
from ..model import Finding, Level
from ..rate_limit import MODULE, find_limiter


def check(look: Look) -> Iterator[Finding]:
    """The limits that are in force, and what a Caddyfile of others leaves out of them."""
    said = list(_limits(look))
    if said:
        yield Finding("harden.requests", Level.OK, f"limited: {'; '.join(said)}")
    if chosen(look.answers, "slow_clients") and is_imported(look):
        yield Finding(
            "harden.slow_clients",
            Level.WARN,
            "time limits for requests are a global option, and the Caddyfile is not ours: they are not set",
            f"add to the options at its top: servers {{ timeouts {{ read_header {SLOW_CLIENTS['head']} }} }}",
        )
    yield from _check_rate(look)
    yield from _check_allowed(look)


def _limits(look: Look) -> Iterator[str]:
    if size := chosen(look.answers, "max_body"):
        yield f"a request has {size} at most"
    if count := chosen(look.answers, "max_requests"):
        yield f"vLLM gets {count} at once"
    per_minute = look.answers.harden.requests_per_minute
    if per_minute and not find_limiter(look).why_not:
        yield f"one address has {per_minute} requests a minute"
    if chosen(look.answers, "slow_clients") and not is_imported(look):
        yield f"a head has {SLOW_CLIENTS['head']} to come, a body {SLOW_CLIENTS['body']}"


def _check_rate(look: Look) -> Iterator[Finding]:
    """Asked for, and not to be had of the Caddy that is there: it is never replaced by another for that."""
    if not look.answers.harden.requests_per_minute or not (limiter := find_limiter(look)).why_not:
        return
    summary = f"requests of one address are not limited: {limiter.why_not}"
    evidence = {"program": limiter.program, "module": MODULE}
    yield Finding("harden.requests_per_minute", Level.WARN, summary, limiter.remedy, evidence)


def _check_allowed(look: Look) -> Iterator[Finding]:
    networks = look.answers.harden.allow_from
    if not networks:
        return
    summary = f"the API is for {', '.join(networks[:3])}{' and more' if len(networks) > 3 else ''} alone"
    yield Finding("harden.allow_from", Level.OK, summary, evidence={"networks": list(networks)})
    if look.operator is not None and not holds(networks, look.operator.address):
        yield Finding(
            "harden.own_address",
            Level.WARN,
            f"you sit at {look.operator.address}, which may not use the API: from there it answers 403",
            f"if it should: harden: {{allow_from: [{look.operator.address}, …]}}",
        )
