"""`caddy list-modules`: the names of what a build of Caddy is made of."""

from __future__ import annotations


def modules(text: str) -> frozenset[str]:
    """Each module's name, one a line; lines that count them are indented."""
    lines = (line for line in text.splitlines() if line and not line[0].isspace())
    return frozenset(line.split()[0] for line in lines)
