"""Metrics for scrapers: Caddyfile and firewall have them, which the steps before see to; here is told what holds."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from ..caddyfile import is_imported, metrics_path
from ..engine import Look
from ..model import Finding, Level
from ..models import models
from ..paths import CADDY_SERVICE


def check(look: Look) -> Iterator[Finding]:
    """Who can read them, and where; and what stands in the way."""
    scrapers, port = look.answers.harden.metrics_from, look.answers.harden.metrics_port
    if not scrapers:
        return
    others = [one for one in look.server.listeners() if one.port == port and one.unit != CADDY_SERVICE]
    if others:
        yield Finding(
            "harden.metrics_port",
            Level.BLOCKED,
            f"{others[0].program or 'another program'} listens on port {port} already: Caddy could not",
            "answer another one: harden: {metrics_port: 9181}",
            evidence={"port": port, "program": others[0].program},
        )
        return
    *paths, last = ["/caddy", *(metrics_path(one) for one in models(look))]
    where = f"http://…:{port}{', '.join(paths)} and {last}"
    summary = f"metrics at {where}, for {', '.join(scrapers)} alone; they are not encrypted"
    evidence = {"port": port, "scrapers": list(scrapers), "paths": [*paths, last]}
    yield Finding("harden.metrics", Level.OK, summary, evidence=evidence)
    if public := [one for one in scrapers if ip_network(one).is_global]:
        yield Finding(
            "harden.metrics_public",
            Level.WARN,
            f"{', '.join(public)} is no private network: metrics cross the internet in clear, and who is on the way "
            "can read them",
            "let the scraper come by a VPN or a private network, and name its address there in harden.metrics_from",
        )
    if not look.answers.firewall.manage:
        summary = f"the firewall is left alone: let {', '.join(scrapers)} alone reach port {port}; to all others Caddy "
        yield Finding("harden.metrics_open", Level.INFO, f"{summary}answers 403")
    if is_imported(look):
        yield Finding(
            "harden.metrics_option",
            Level.WARN,
            "what Caddy counts of requests is a global option, and the Caddyfile is not ours: /caddy has only the rest",
            "add to the options at its top, if they do not have it: metrics",
        )
