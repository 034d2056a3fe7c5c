"""The wizard on a terminal that can show screens."""

from __future__ import annotations

from wizard.gateway import Gateway


def run_app(gateway: Gateway, *, mouse: bool = False) -> int:
    raise NotImplementedError
