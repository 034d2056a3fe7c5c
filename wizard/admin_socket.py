"""Caddy's admin endpoint on a socket that only root and Caddy can use, in place of a port that any local user can.

Whoever reaches the endpoint can have Caddy do anything: read its keys, or send what clients say elsewhere. The
Caddyfile names the socket; here is the directory that it is in, which systemd makes each time when Caddy starts.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from .drop_in import DropIn, without_directory
from .engine import Look
from .hardening import chosen
from .model import Finding, Level
from .paths import ADMIN_SOCKET, CADDY_SERVICE
from .render import render

DROP_IN = DropIn(CADDY_SERVICE, "vllm-https-admin.conf")


def check_directory(look: Look) -> Iterator[Finding]:
    """The drop-in that has systemd make the socket's directory."""
    if not chosen(look.answers, "admin_socket"):
        return
    content = render("caddy_admin.conf.j2")
    if not DROP_IN.is_written(look, content):
        said = "nothing makes the directory of Caddy's admin socket yet"
        if look.server.read(DROP_IN.path) is not None:
            said = f"{DROP_IN.path} is not as it should be"
        fix = DROP_IN.place(content, "Caddy's own directory in /run, for its admin socket")
        yield Finding("tls.admin_directory", Level.DRIFT, said, fix=fix)
    elif not DROP_IN.is_up_to_date(look):
        said = f"systemd has not read {DROP_IN.path} yet"
        yield Finding("tls.admin_directory", Level.DRIFT, said, fix=(DROP_IN.read_now(),))


def clear_away(look: Look) -> Iterator[Finding]:
    """Turned off: the drop-in and the directory go, once Caddy is administered by its port again."""
    if chosen(look.answers, "admin_socket") or not DROP_IN.is_known(look):
        return
    there = look.server.read(DROP_IN.path) is not None
    if not there and not DROP_IN.is_read(look):
        return
    empty = without_directory(posixpath.dirname(ADMIN_SOCKET))
    fix = DROP_IN.take_away("Caddy is administered by its port again")
    if not there:
        fix = (DROP_IN.read_now(present=False),)
    yield Finding("tls.admin_left", Level.DRIFT, "the drop-in of the admin socket is left", fix=(*fix, empty))
