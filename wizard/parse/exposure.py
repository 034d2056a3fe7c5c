"""What `systemd-analyze security` says of a service."""

from __future__ import annotations

import re

_OVERALL = re.compile(r"Overall exposure level for \S+: (\d+(?:\.\d+)?)")


def parse_exposure(text: str) -> float | None:
    """From 0 (as little as can be) to 10 (all that there is); None where it was not said."""
    found = _OVERALL.search(text)
    return float(found[1]) if found else None
