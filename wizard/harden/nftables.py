"""The tool that limits and bans are made with. Ubuntu's servers have it; elsewhere it comes first and goes last."""

from __future__ import annotations

from collections.abc import Iterator

from ..apt import install, purge, refresh_system
from ..engine import Look
from ..hardening import chosen
from ..model import Finding, Level
from ..package_removal import goes
from .connections import limits

PACKAGE = "nftables"


def check(look: Look) -> Iterator[Finding]:
    """Before the parts that need it."""
    if is_needed(look) and not look.server.packages(PACKAGE)[PACKAGE].installed:
        fix = (refresh_system(look.server), install((PACKAGE,), "what limits and bans are made with"))
        yield Finding("harden.nftables", Level.DRIFT, "nftables is not installed", fix=fix)


def clear_away(look: Look) -> Iterator[Finding]:
    """After them: what an earlier run has brought goes, where nothing else has come to need it."""
    if not is_needed(look) and goes(look.server, look.owned, PACKAGE):
        fix = (purge((PACKAGE,), "an earlier run brought it"),)
        yield Finding("harden.nftables", Level.DRIFT, "an earlier run brought nftables, and nothing needs it", fix=fix)


def is_needed(look: Look) -> bool:
    return any(limits(look)) or bool(chosen(look.answers, "ban_wrong_keys"))
