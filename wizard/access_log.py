"""The last proof: a request of another machine, seen in Caddy's access log when it arrives."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from . import files, paths
from .parse.access_log import Arrival, arrivals, parse_record

# About a thousand requests: what arrived last is what is looked for.
MOST_BYTES = 1024 * 1024


def arrived(own_addresses: Collection[str], since: float) -> str:
    """Who has used the endpoint since then, in words; "" where nobody has, or nothing is logged."""
    return in_words(arrivals(_lines(since), own_addresses, since))


def in_words(found: Sequence[Arrival]) -> str:
    """The last request that succeeded; else the last."""
    if not found:
        return ""
    succeeded = [one for one in found if one.status < 400]
    arrival = (succeeded or found)[-1]
    if succeeded:
        return f"{arrival.address} has used it: {arrival.status}"
    why = ", the key was missing or wrong" if arrival.status == 401 else ""
    return f"{arrival.address} has reached it: {arrival.status}{why}"


def _lines(since: float) -> Iterator[str]:
    """The log's last lines, and before them those of the log that has just made room for it."""
    tail = files.read_tail(paths.ACCESS_LOG, MOST_BYTES)
    lines = tail.decode("utf-8", "replace").split("\n")
    first = next((record for line in lines if (record := parse_record(line))), None)
    if len(tail) < MOST_BYTES and (first is None or first.at > since) and (rolled := _rolled(since)):
        yield from files.read_tail(rolled, MOST_BYTES).decode("utf-8", "replace").split("\n")
    yield from lines


def _rolled(since: float) -> str:
    """The newest log that Caddy has put aside (vllm-https-2026-11-24T10-15-00.000-size.log.gz) since then; or ""."""
    directory, name = os.path.split(paths.ACCESS_LOG)
    try:
        aside = sorted(one for one in os.listdir(directory) if one.startswith(f"{name.removesuffix('.log')}-"))
        newest = os.path.join(directory, aside[-1]) if aside else ""
        return newest if newest and os.stat(newest, follow_symlinks=False).st_mtime >= since else ""
    except OSError:
        return ""
