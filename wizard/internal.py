"""TLS mode internal: Caddy's own CA. Its root is what clients trust; the leaf lives for hours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .caddy_service import CADDYS_LOG, restarted
from .clients import TRUST
from .endpoint import ask_endpoint, endpoint_host, find_hosts, own_address
from .engine import Look
from .model import CaddyRuns, FileCopied, FileIs, Finding, Level, Probe, Remove, Run, Wait
from .parse.pem import read_blocks
from .paths import CADDY_HOME, CADDY_ROOT, CADDYFILE, ROOT_CERTIFICATE
from .server import FileState, Request, Server

NEW_ROOT = "Caddy's CA has another root now: clients need the new one instead of the one that was exported"
NEW_EXPORT = "the new root certificate: clients need it"
CLIENTS_NEED_IT = f"Caddy's CA has a new root: clients trust nothing here until they have the new {ROOT_CERTIFICATE}"
LEAVES = f"{CADDY_HOME}/.local/share/caddy/certificates/local"
UNKNOWN_ISSUER = re.compile("unable to get (local )?issuer|self-signed certificate")
NO_CERTIFICATE = "alert internal error"  # what Caddy says to who asks for a name that it has none for
ISSUANCE_S = 60
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


def check_after(look: Look) -> Iterator[Finding]:
    """The root certificate, exported for clients."""
    made, exported = look.server.read(CADDY_ROOT), look.server.read(ROOT_CERTIFICATE)
    summary = name_flaw(made, exported)
    if not summary:
        yield Finding("tls.root", Level.OK, f"clients trust {ROOT_CERTIFICATE}", evidence={"trust": dict(TRUST)})
        return
    gone = Run(("rm", "-f", "--", ROOT_CERTIFICATE), "", makes=(FileIs(ROOT_CERTIFICATE, None),))
    copy = Run(
        ("install", "-D", "-m", "0644", CADDY_ROOT, ROOT_CERTIFICATE),
        NEW_EXPORT if summary == NEW_ROOT else "the root certificate, for clients to trust",
        makes=(FileCopied(CADDY_ROOT, ROOT_CERTIFICATE, 0o644),),
        # An older one is of a CA that is gone: nobody wants it back.
        undo=() if exported else (gone,),
    )
    wait = Wait(
        "Caddy's own CA",
        "its root certificate is made",
        ISSUANCE_S,
        Made(asked_of_endpoint(look)),
        late=CADDYS_LOG,
        interval_s=0.01,
        shell=HAS_ROOT,
    )
    fix = (copy,) if made is not None else (wait, copy)
    yield Finding("tls.root", Level.DRIFT, summary, fix=fix)


def name_flaw(made: FileState | None, exported: FileState | None) -> str:
    """What is wrong with the exported root certificate; "": it is the CA's, and all can read it."""
    if exported is None:
        return "the root certificate is not exported yet"
    if made is None:
        return NEW_ROOT  # Caddy makes a CA anew where it finds none
    if made.content == exported.content:
        return "" if exported.mode == 0o644 else f"not everybody can read {ROOT_CERTIFICATE}"
    before, now = ({one.der for one in read_blocks(state.content) if one.der} for state in (exported, made))
    if before - now:
        return NEW_ROOT
    return f"{ROOT_CERTIFICATE} is not the root certificate any more that was exported"


@dataclass(frozen=True)
class Made:
    """The look of the wait for our own CA: there is its root, and what that has signed for the endpoint. Caddy makes
    the one after the other, and on a slow disk a look can come between them."""

    asked: Request

    def __call__(self, server: Server) -> Probe:
        if server.read(CADDY_ROOT) is None:
            return Probe(None, "Caddy makes its root certificate")
        return Shown(self.asked)(server)


@dataclass(frozen=True)
class Shown:
    """The look of the wait for a certificate of our own CA: a client is shown one, good or not."""

    asked: Request

    def __call__(self, server: Server) -> Probe:
        error = server.exchange(self.asked).error
        return Probe(None if NO_CERTIFICATE in error else True, "Caddy signs it")


def asked_of_endpoint(look: Look) -> Request:
    return ask_endpoint(own_address(look), endpoint_host(look), "/v1/models", CADDY_ROOT)


def check_shown(look: Look) -> Iterator[Finding]:
    """Whether Caddy has a certificate to show, and of the CA that it has now."""
    if look.server.read(CADDY_ROOT) is None:
        return
    asked = asked_of_endpoint(look)
    error = look.server.exchange(asked).error
    if NO_CERTIFICATE in error:
        yield on_its_way(endpoint_host(look), asked)
    elif UNKNOWN_ISSUER.search(error):
        yield of_the_old_ca(look)


def on_its_way(host: str, asked: Request) -> Finding:
    """After a power loss Caddy waits some seconds for the lock of the one that died (seen with Caddy 2.11)."""
    stored = host.replace(":", "-")
    wait = Wait(
        f"a certificate for {host}",
        "Caddy signs it itself, in a moment",
        ISSUANCE_S,
        Shown(asked),
        late=CADDYS_LOG,
        makes=(CaddyRuns(CADDYFILE),),
        shell=f"test -s {LEAVES}/{stored}/{stored}.crt",
    )
    return Finding("tls.leaf", Level.DRIFT, f"Caddy has no certificate for {host} yet", fix=(wait,))


def of_the_old_ca(look: Look) -> Finding:
    """A CA that was made anew leaves the certificates of the old one where they are, and Caddy shows them until they
    have to be renewed. A reload does not help: what it has loaded it keeps (seen with Caddy 2.11)."""
    why = "certificates of Caddy's old CA: no client that trusts the new one takes them"
    forget = Run(("rm", "-rf", "--", LEAVES), why)
    summary = "Caddy's CA was made anew, and Caddy still shows a certificate of the old one"
    return Finding("tls.leaf", Level.DRIFT, summary, fix=(forget, restarted(look)))


def clear_away(look: Look) -> Iterator[Finding]:
    """In another mode the exported root would lead clients to trust what is not used."""
    if look.server.read(ROOT_CERTIFICATE) is not None:
        why = "another mode is used now: this CA signs nothing any more"
        remove = Remove(ROOT_CERTIFICATE, why)
        yield Finding("tls.root_left", Level.DRIFT, "the root certificate of mode internal is left", fix=(remove,))
