"""TLS mode internal: Caddy's own CA. Its root is what clients trust; the leaf lives for hours."""

from __future__ import annotations

from collections.abc import Iterator

from .clients import TRUST
from .endpoint import find_hosts
from .engine import Look
from .model import FileCopied, FileIs, Finding, Level, Probe, Remove, Run, Wait
from .paths import CADDY_ROOT, ROOT_CERTIFICATE
from .server import Server

HAS_ROOT = f"test -s {CADDY_ROOT}"


def check_before(look: Look) -> Iterator[Finding]:
    hosts = find_hosts(look)
    if hosts:
        yield Finding("tls.hosts", Level.OK, f"clients may call {', '.join(hosts)}", evidence={"hosts": list(hosts)})
        return
    yield Finding(
        "tls.hosts",
        Level.BLOCKED,
        "this server has no address and no name that a client could call",
        remedy="name one: tls: {hosts: [10.0.0.5]}",
    )


def has_root(server: Server) -> Probe:
    return Probe(server.read(CADDY_ROOT) is not None or None, "Caddy makes its root certificate")


def check_after(look: Look) -> Iterator[Finding]:
    """The root certificate, exported for clients."""
    made, exported = look.server.read(CADDY_ROOT), look.server.read(ROOT_CERTIFICATE)
    if made is not None and exported is not None and made.content == exported.content and exported.mode == 0o644:
        summary = f"clients trust {ROOT_CERTIFICATE}"
        yield Finding("tls.root", Level.OK, summary, evidence={"trust": dict(TRUST)})
        return
    gone = Run(("rm", "-f", "--", ROOT_CERTIFICATE), "", makes=(FileIs(ROOT_CERTIFICATE, None),))
    copy = Run(
        ("install", "-D", "-m", "0644", CADDY_ROOT, ROOT_CERTIFICATE),
        "the root certificate, for clients to trust",
        makes=(FileCopied(CADDY_ROOT, ROOT_CERTIFICATE, 0o644),),
        # An older one is of a CA that is gone: nobody wants it back.
        undo=() if exported else (gone,),
    )
    wait = Wait("Caddy's own CA", "its root certificate is made", 30, has_root, shell=HAS_ROOT)
    summary = "the root certificate is not exported yet" if exported is None else "Caddy's CA has another root now"
    yield Finding("tls.root", Level.DRIFT, summary, fix=(copy,) if made is not None else (wait, copy))


def clear_away(look: Look) -> Iterator[Finding]:
    """In another mode the exported root would lead clients to trust what is not used."""
    if look.server.read(ROOT_CERTIFICATE) is not None:
        why = "another mode is used now: this CA signs nothing any more"
        remove = Remove(ROOT_CERTIFICATE, why)
        yield Finding("tls.root_left", Level.DRIFT, "the root certificate of mode internal is left", fix=(remove,))
