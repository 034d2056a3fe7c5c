"""Our Caddyfile, from the answers and the server: text alone, nothing is asked of Caddy here."""

from __future__ import annotations

from .endpoint import find_hosts, url_host
from .engine import Look
from .render import render

# What an overlay takes the package's own Caddyfile for: it is not known before the package is there.
PACKAGED_CADDYFILE = b"# The Caddyfile that the package brings\n"
ADDITIONS = "/etc/caddy/vllm-https.d"


def render_caddyfile(look: Look, upstream: str) -> str:
    """The whole Caddyfile of mode internal, formatted as `caddy fmt` would."""
    proxy = look.answers.proxy
    hosts = find_hosts(look)
    return render(
        "Caddyfile.j2",
        hosts=hosts,
        sites=", ".join(f"https://{url_host(host)}" for host in hosts),
        upstream=upstream,
        protocols="h1 h2 h3" if proxy.http3 else "h1 h2",
        access_log=proxy.access_log,
        hsts=proxy.hsts,
        compression=" ".join(proxy.compression),
        read_timeout=proxy.read_timeout,
        write_timeout=proxy.write_timeout,
        additions=ADDITIONS,
        errors=render("errors.caddy.j2").rstrip("\n"),
    )
