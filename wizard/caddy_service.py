"""Caddy as a service: how it takes a configuration up, and how it is left when that is taken back."""

from __future__ import annotations

from dataclasses import replace

from .engine import Look
from .model import CaddyRuns, FileIs, Impact, ListensOn, Run, Then, UnitIs
from .paths import CADDY_ROOT, CADDYFILE

ROOT_MADE = b"(made by Caddy when it first needs it)"
SERVICE = "caddy.service"
# Where it listens with a Caddyfile of ours.
LISTENING = ListensOn(SERVICE, (("127.0.0.1", 2019), ("::", 443)))
RUNNING = (UnitIs(SERVICE, active=True), LISTENING, CaddyRuns(CADDYFILE))


def loaded(look: Look) -> Then:
    """Caddy takes its files up: by a reload where it runs (open connections live on), else by its start.

    The package's ExecReload passes --force: certificate files are read again too, though the Caddyfile is the same.
    """
    running = look.server.units(SERVICE)[SERVICE].is_active
    root = () if look.server.read(CADDY_ROOT) else (FileIs(CADDY_ROOT, ROOT_MADE, 0o600, "caddy", "caddy"),)
    then = Then(
        ("systemctl", "reload-or-restart", SERVICE),
        "Caddy takes the new configuration up; open connections live on" if running else "start Caddy",
        Impact.RELOAD_CADDY if running else Impact.NONE,
        makes=(*root, *RUNNING),
    )
    if not running:
        return replace(then, back=stopped())
    before = tuple((one.address, one.port) for one in look.server.listeners() if one.unit == SERVICE)
    return replace(then, back=replace(then, makes=(ListensOn(SERVICE, before), CaddyRuns(CADDYFILE))))


def restarted() -> Run:
    """What it has in memory is forgotten: a reload keeps the certificates that it has loaded."""
    why = "Caddy makes new ones; open connections are cut"
    return Run(("systemctl", "restart", SERVICE), why, Impact.RESTART_CADDY, makes=RUNNING)


def stopped() -> Then:
    return Then(
        ("systemctl", "stop", SERVICE),
        "Caddy did not run before",
        Impact.NONE,
        makes=(UnitIs(SERVICE, active=False), ListensOn(SERVICE, ())),
    )
