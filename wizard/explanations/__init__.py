"""Why a row of the final test failed, and what to type next, from the tables beside this file."""

from __future__ import annotations

import textwrap

from . import api, net, tls, web
from .terms import COLUMNS, Explanation, Seen

# The rows of the final test, in their order.
ROWS = (
    *("tls.handshake", "tls.trusted", "api.unauthorized", "api.models", "api.chat", "api.stream", "api.blocked"),
    *("http.redirect", "net.closed", "net.open"),
)
TABLE: tuple[Explanation, ...] = (*tls.TABLE, *api.TABLE, *web.TABLE, *net.TABLE)


def find(row: str, seen: Seen) -> Explanation:
    """The first of the row's explanations that fits; each row's last one fits always."""
    return next(one for one in TABLE if row in one.rows and one.when(seen))


def explain(row: str, seen: Seen) -> str:
    """The likeliest cause; and, on a line of its own so that it can be copied whole, the next command."""
    one = find(row, seen)
    cause, command = one.cause.format(seen=seen), one.command.format(seen=seen)
    return f"{_fitted(cause)}\n{command}" if command else _fitted(cause)


def _fitted(cause: str) -> str:
    """What two lines hold, whatever the machine's own words in it are."""
    return " ".join(textwrap.wrap(cause, COLUMNS, break_on_hyphens=False, max_lines=2, placeholder="…"))
