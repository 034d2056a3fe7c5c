"""The parts of the step `harden`, in their order: each looks for one thing that its answers ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..engine import Look
from ..model import Finding
from . import admin, bans, connections, metrics, nftables, requests, sandbox, watch

PARTS: tuple[Callable[[Look], Iterator[Finding]], ...] = (
    requests.check,
    nftables.check,
    connections.check,
    bans.check,
    nftables.clear_away,
    sandbox.check,
    admin.check,
    metrics.check,
    watch.check,
)
