"""Which Caddy the endpoint needs: what our Caddyfile uses, and since when Caddy has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .engine import Look

_NUMBERS = re.compile(r"(?:\d+:)?v?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Need:
    since: tuple[int, int, int]
    what: str

    @property
    def version(self) -> str:
        return ".".join(map(str, self.since))


# Older ones than 2.8 refuse the Caddyfile; 2.8 reads `mode` in a log without a word, and does not obey it.
FILTERS = Need((2, 8, 0), "keys taken out of addresses and logs (uri query, log_skip, flat log filters)")
LOG_MODE = Need((2, 9, 0), "an access log that the group may read (mode)")
METRICS = Need((2, 9, 0), "metrics of its requests (the option metrics)")
ACCOUNT = Need((2, 11, 3), "the CA's account key read from a file (placeholders in eab)")


def numbers(version: str) -> tuple[int, int, int]:
    """The version as numbers, without what Debian adds: (2, 6, 2) of 2.6.2-6ubuntu0.24.04.2."""
    found = _NUMBERS.match(version)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


def needs(look: Look) -> tuple[Need, ...]:
    """What these answers' Caddyfile uses, the newest last."""
    tls, proxy = look.answers.tls, look.answers.proxy
    account = tls.mode == "acme" and tls.eab_file is not None
    asked = {LOG_MODE: proxy.access_log, METRICS: bool(look.answers.harden.metrics_from), ACCOUNT: account}
    return (FILTERS, *(need for need, is_asked in asked.items() if is_asked))


def lacking(look: Look, version: str) -> tuple[Need, ...]:
    """What this version has not got of that; of one that is not known yet, nothing is said."""
    return tuple(need for need in needs(look) if version and numbers(version) < need.since)


def newest(versions: tuple[str, ...]) -> str:
    return max(versions, key=numbers, default="")
