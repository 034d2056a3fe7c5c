"""Requests of one address in a minute: a module that some builds of Caddy have, and the package's has not.

It is used where it stays: a Caddyfile that names a module which an update has taken away keeps Caddy from starting.
"""

from __future__ import annotations

from dataclasses import dataclass

from .caddy_build import PROGRAM, as_caddy, find_build
from .engine import Look
from .parse.caddy_modules import modules
from .paths import CADDY_SERVICE, CADDYFILE, SITE_FILE

MODULE = "http.handlers.rate_limit"
SOURCE = "github.com/mholt/caddy-ratelimit"
ASIDE = f"{PROGRAM}.default"
DIVERT = f"sudo dpkg-divert --local --divert {ASIDE} --{{}}rename --add {PROGRAM}"
DIRECTIVE, WITHOUT_METRICS = "rate_limit {", "disable_metrics"
# Modules since May 2026 count for each address, and forget none while Caddy runs, unless they are told not to; older
# ones count nothing, and some of them refuse the word.
PROBE = f"http:// {{\n\troute {{\n\t\t{DIRECTIVE}\n\t\t\t{WITHOUT_METRICS}\n\t\t}}\n\t}}\n}}\n"


@dataclass(frozen=True)
class Limiter:
    """What limits requests; or `why_not`, and the `remedy`. `counts`: it has metrics, which have to be switched off."""

    counts: bool = False
    why_not: str = ""
    remedy: str = ""
    program: str = PROGRAM


def find_limiter(look: Look) -> Limiter:
    """What Caddy's program can do, by its own word. One that doesn't answer is taken for what the Caddyfile says."""
    caddy = look.server.packages("caddy")["caddy"]
    build = find_build(look, caddy)
    program = build.program or PROGRAM
    listed = look.server.query(as_caddy(program, "list-modules"), timeout_s=10) if caddy.installed else None
    if listed is not None and not listed.ok and (present := written(look)):
        return Limiter(WITHOUT_METRICS in present, program=program)
    if listed is None or not listed.ok or MODULE not in modules(listed.out):
        return _absent(look, program)
    if program != PROGRAM:
        return _elsewhere(program)
    if not build.diverted:
        return _passing()
    probed = look.server.query(
        as_caddy(program, "adapt", "--adapter", "caddyfile", "--config", "-"), 10, PROBE.encode()
    )
    return Limiter(probed.ok)


def written(look: Look) -> str:
    """The file of ours that limits requests now; "" where none does."""
    state = look.server.read(SITE_FILE) or look.server.read(CADDYFILE)
    return state.text if state is not None and state.kind == "file" and DIRECTIVE in state.text else ""


def taken_out(look: Look) -> str:
    """Why a limit that is in the Caddyfile, and asked for, can't stay there; "" where it can."""
    wanted = look.answers.harden.requests_per_minute
    return find_limiter(look).why_not if wanted and written(look) else ""


def can_read(look: Look, text: str) -> bool:
    """Whether the Caddy that is there understands this Caddyfile, as far as limits of requests go."""
    if DIRECTIVE not in text:
        return True
    listed = look.server.query(as_caddy(PROGRAM, "list-modules"), timeout_s=10)
    return not listed.ok or MODULE in modules(listed.out)


def is_replaced(look: Look) -> bool:
    """Whether another program stands in Caddy's place than the one that runs, which does not know what that one can."""
    if not look.answers.harden.requests_per_minute or find_limiter(look).why_not:
        return False
    pid = look.server.units(CADDY_SERVICE)[CADDY_SERVICE].properties.get("MainPID", "0")
    running = look.server.read(f"/proc/{pid}/exe")
    stands = look.server.query(("readlink", "-f", PROGRAM))
    return running is not None and stands.ok and running.text != stands.out.strip()


def _absent(look: Look, program: str) -> Limiter:
    count = look.answers.harden.requests_per_minute
    why_not = f"{program} has no module for it ({MODULE}); Caddy's package brings none"
    remedy = (
        f"what goes without: harden: {{new_connections_per_minute: {count}}}, with connections_per_address and "
        f"ban_wrong_keys; or put a build of Caddy with {SOURCE} in the package's place: docs/security.md says how, and "
        "what it costs"
    )
    return Limiter(why_not=why_not, remedy=remedy, program=program)


def _elsewhere(program: str) -> Limiter:
    why_not = f"{program} has the module, but Caddy's reload is done by {PROGRAM}, which does not read such a Caddyfile"
    remedy = (
        f"put it in the package's place: {DIVERT.format('')}; sudo install {program} {PROGRAM}; take out the lines "
        f"that name {program} (systemctl cat {CADDY_SERVICE}); sudo systemctl daemon-reload; sudo systemctl restart "
        f"{CADDY_SERVICE}; then run this again"
    )
    return Limiter(why_not=why_not, remedy=remedy, program=program)


def _passing() -> Limiter:
    why_not = f"{PROGRAM} has the module, but the next update of the package puts its own there: Caddy would not start"
    remedy = (
        f"keep it from updates: {DIVERT.format('no-')}; sudo apt-get install --reinstall caddy (the package's goes to "
        f"{ASIDE}); then run this again"
    )
    return Limiter(why_not=why_not, remedy=remedy)
