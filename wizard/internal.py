"""TLS mode internal: Caddy's own CA. Its root is what clients trust; the leaf lives for hours."""

from __future__ import annotations

from collections.abc import Iterator

from .clients import TRUST
from .endpoint import find_hosts
from .engine import Look
from .model import FileCopied, FileIs, Finding, Level, Probe, Remove, Run, Wait
from .paths import CADDY_ROOT, ROOT_CERTIFICATE
from .server import Server

NEW_ROOT = "Caddy's CA has another root now: clients need the new one instead of the one that was exported"
HAS_ROOT = f"test -s {CADDY_ROOT}"


def check_before(look: Look) -> Iterator[Finding]:
    hosts = find_hosts(look)
    if hosts:
        yield Finding("tls.hosts", Level.OK, f"clients may call {', '.join(hosts)}", evidence={"hosts": list(hosts)})
        yield from check_translated(look, hosts)
        return
    yield Finding(
        "tls.hosts",
        Level.BLOCKED,
        "this server has no address and no name that a client could call",
        remedy="name one: tls: {hosts: [10.0.0.5]}",
    )


def check_translated(look: Look, hosts: tuple[str, ...]) -> Iterator[Finding]:
    """An address that this server does not have itself: a router's, translated on the way (NAT). A client that calls an
    address sends no name: Caddy then goes by the address that the packet came to, and by the first host."""
    own = look.server.addresses()
    for host in hosts:
        if not is_address(host) or any(one.address == host for one in own):
            continue
        family = [one for one in own if (":" in one.address) == (":" in host)]
        comes_to = next((one.address for one in family if one.primary), family[0].address if family else "")
        shown = comes_to if comes_to in hosts else hosts[0]
        if shown != host:
            yield Finding(
                "tls.hosts_translated",
                Level.WARN,
                f"{host} is an address of no interface here: clients that call it would be shown the certificate of "
                f"{shown}, and refuse it",
                f"name it alone: tls: {{hosts: [{_quoted(host)}]}}; or have clients call a name, and list that",
                evidence={"host": host, "shown": shown},
            )


def is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _quoted(host: str) -> str:
    return f"'{host}'" if ":" in host else host


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
        "the root certificate, for clients to trust"
        if exported is None
        else "the new root certificate: clients need it",
        makes=(FileCopied(CADDY_ROOT, ROOT_CERTIFICATE, 0o644),),
        # An older one is of a CA that is gone: nobody wants it back.
        undo=() if exported else (gone,),
    )
    wait = Wait("Caddy's own CA", "its root certificate is made", 30, has_root, shell=HAS_ROOT)
    summary = "the root certificate is not exported yet" if exported is None else NEW_ROOT
    yield Finding("tls.root", Level.DRIFT, summary, fix=(copy,) if made is not None else (wait, copy))


def clear_away(look: Look) -> Iterator[Finding]:
    """In another mode the exported root would lead clients to trust what is not used."""
    if look.server.read(ROOT_CERTIFICATE) is not None:
        why = "another mode is used now: this CA signs nothing any more"
        remove = Remove(ROOT_CERTIFICATE, why)
        yield Finding("tls.root_left", Level.DRIFT, "the root certificate of mode internal is left", fix=(remove,))
