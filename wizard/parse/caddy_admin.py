"""Where a Caddyfile has Caddy administered: its global option `admin`."""

from __future__ import annotations

import re

DEFAULT_ADMIN = "localhost:2019"
DEFAULT_PORT = 2019
UNIX = "unix/"
# No directive of a site has this name, so that its line is the option's.
_ADMIN = re.compile(r"^[ \t]*admin[ \t]+([^\s{#]+)", re.MULTILINE)


def admin_address(caddyfile: str) -> str:
    """The address as it is written, without the mode of a socket's file; `off`; Caddy's default where none is."""
    found = _ADMIN.search(caddyfile)
    return found[1].partition("|")[0] if found else DEFAULT_ADMIN


def admin_socket(caddyfile: str) -> str:
    """The path of the socket that it is administered by; "" where that is no socket."""
    address = admin_address(caddyfile)
    return address.removeprefix(UNIX) if address.startswith(UNIX) else ""
