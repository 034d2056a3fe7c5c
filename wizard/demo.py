"""The simulated server of --demo."""

from __future__ import annotations

from .gateway import Gateway


def DemoGateway(scene: str) -> Gateway:
    raise NotImplementedError
