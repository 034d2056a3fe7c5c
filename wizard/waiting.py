"""How a `Wait` is done, on the real server and on the demo's."""

from __future__ import annotations

from collections.abc import Callable

from .model import TIMED_OUT, Output, Wait
from .server import Server

# A look comes late by a twentieth of the time that was waited for, at the most.
SLOWER_BY = 1.05
MOST_BETWEEN_LOOKS_S = 1.0


def wait(
    server: Server,
    action: Wait,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
) -> Output:
    """Looks again and again, ever more slowly, and tells what is new; then 0, 1 for never, or TIMED_OUT."""
    until = clock() + action.timeout_s
    interval, said = action.interval_s, ""
    while True:
        probe = action.until(server)
        if probe.words != said:
            said = probe.words
            tell(said)
        if probe.done:
            return Output(0, probe.detail)
        if probe.done is False:
            return Output(1, "", f"{action.what}: {probe.detail}")
        left = until - clock()
        if left <= 0:
            late = f"not within {action.timeout_s:.0f} s: {probe.detail}. {action.late}"
            return Output(TIMED_OUT, "", f"{action.what}: {late}".strip())
        sleep(min(interval, left))
        interval = min(interval * SLOWER_BY, MOST_BETWEEN_LOOKS_S)
