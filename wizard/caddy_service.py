"""Caddy as a service: how it takes a configuration up, and how it is left when that is taken back."""

from __future__ import annotations

from dataclasses import replace

from .caddyfile import chosen_admin, is_foreign
from .engine import Look
from .model import CaddyRuns, Effect, FileIs, Impact, ListensOn, Run, Then, UnitIs
from .parse.caddy_admin import DEFAULT_ADMIN, DEFAULT_PORT, UNIX, admin_address
from .paths import CADDY_ROOT, CADDY_SERVICE, CADDYFILE
from .rate_limit import is_replaced

CADDYS_LOG = "Caddy's log: journalctl -u caddy -n 50"
ROOT_MADE = b"(made by Caddy when it first needs it)"
ADMIN_PORT = ("127.0.0.1", DEFAULT_PORT)
RESTART = ("systemctl", "restart", CADDY_SERVICE)


def wanted_admin(look: Look) -> str:
    """Where Caddy is to be administered: what the answers say, or a Caddyfile of others that is kept."""
    state = look.server.read(CADDYFILE)
    if (
        look.answers.caddy.existing_config == "keep"
        and state is not None
        and state.kind == "file"
        and is_foreign(state.text)
    ):
        return admin_address(state.text)
    return chosen_admin(look)


def is_moved(look: Look, wanted: str = "") -> bool:
    """True if the Caddy that runs is administered elsewhere than it is to be.

    `caddy reload`, which a reload of the service is, asks at the new address, where nobody is yet: it takes a restart.
    """
    wanted = wanted or wanted_admin(look)
    ports = {one.port for one in look.server.listeners() if one.unit == CADDY_SERVICE}
    if not ports or not look.server.units(CADDY_SERVICE)[CADDY_SERVICE].is_active:
        return False
    if wanted == DEFAULT_ADMIN:
        return DEFAULT_PORT not in ports
    return wanted.startswith(UNIX) and DEFAULT_PORT in ports


def _listening(admin: str) -> ListensOn:
    """Where Caddy listens with a Caddyfile of ours, administered there."""
    return ListensOn(CADDY_SERVICE, ((ADMIN_PORT,) if admin == DEFAULT_ADMIN else ()) + (("::", 443),))


def running(look: Look) -> tuple[Effect, ...]:
    """What is true when Caddy has taken its files up."""
    return UnitIs(CADDY_SERVICE, active=True), _listening(wanted_admin(look)), CaddyRuns(CADDYFILE)


def restarts(look: Look) -> bool:
    """True if it takes a restart to have Caddy take its files up."""
    return is_moved(look) or is_replaced(look)


def loaded(look: Look) -> Then:
    """Caddy takes its files up: by a reload where it runs (open connections live on), else by its start.

    The package's ExecReload passes --force: certificate files are read again too, though the Caddyfile is the same.
    """
    runs = look.server.units(CADDY_SERVICE)[CADDY_SERVICE].is_active
    root = () if look.server.read(CADDY_ROOT) else (FileIs(CADDY_ROOT, ROOT_MADE, 0o600, "caddy", "caddy"),)
    then = Then(
        ("systemctl", "reload-or-restart", CADDY_SERVICE),
        "Caddy takes the new configuration up; open connections live on" if runs else "start Caddy",
        Impact.RELOAD_CADDY if runs else Impact.NONE,
        makes=(*root, *running(look)),
    )
    if not runs:
        return replace(then, back=stopped())
    if is_moved(look):
        why = "Caddy is administered elsewhere from now on, which takes a restart; open connections are cut"
        then = replace(then, argv=RESTART, why=why, impact=Impact.RESTART_CADDY)
    elif is_replaced(look):
        why = "the Caddy that runs is not the one that is there now, which takes a restart; open connections are cut"
        then = replace(then, argv=RESTART, why=why, impact=Impact.RESTART_CADDY)
    before = tuple((one.address, one.port) for one in look.server.listeners() if one.unit == CADDY_SERVICE)
    return replace(then, back=replace(then, makes=(ListensOn(CADDY_SERVICE, before), CaddyRuns(CADDYFILE))))


def restarted(look: Look, why: str = "Caddy makes new ones; open connections are cut") -> Run:
    """What it has in memory is forgotten: a reload keeps the certificates that it has loaded."""
    return Run(RESTART, why, Impact.RESTART_CADDY, makes=running(look))


def stopped() -> Then:
    return Then(
        ("systemctl", "stop", CADDY_SERVICE),
        "Caddy did not run before",
        Impact.NONE,
        makes=(UnitIs(CADDY_SERVICE, active=False), ListensOn(CADDY_SERVICE, ())),
    )
