"""The parts of the step `harden`, in their order: each looks for one thing that its answers ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..engine import Look
from ..model import Finding
from . import admin, metrics, requests, sandbox, watch

PARTS: tuple[Callable[[Look], Iterator[Finding]], ...] = (
    requests.check,
    sandbox.check,
    admin.check,
    metrics.check,
    watch.check,
)
