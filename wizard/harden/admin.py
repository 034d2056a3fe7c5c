"""Caddy's admin endpoint: a socket for root and Caddy alone. The step `tls` makes it so: here is told what holds."""

from __future__ import annotations

from collections.abc import Iterator

from ..caddy_service import wanted_admin
from ..engine import Look
from ..hardening import chosen
from ..model import Finding, Level
from ..parse.caddy_admin import UNIX
from ..paths import ADMIN_SOCKET


def check(look: Look) -> Iterator[Finding]:
    """Who can tell Caddy what to do; and where a Caddyfile of others leaves that to any local user."""
    if not chosen(look.answers, "admin_socket"):
        return
    address = wanted_admin(look)
    evidence = {"address": address}
    if address.startswith(UNIX):
        said = f"Caddy is administered by {address.removeprefix(UNIX)}, which only root and Caddy can use"
        yield Finding("harden.admin_socket", Level.OK, said, evidence=evidence)
        return
    yield Finding(
        "harden.admin_open",
        Level.WARN,
        f"any local user can administer Caddy, at {address}: that is a global option, and the Caddyfile is not ours",
        f"add to the options at its top: admin {UNIX}{ADMIN_SOCKET}; then: sudo systemctl restart caddy",
        evidence=evidence,
    )
