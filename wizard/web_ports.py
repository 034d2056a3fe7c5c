"""Who has ports 80 and 443, in the words of that program: how it is stopped, or told to leave them."""

from __future__ import annotations

from .engine import Look
from .model import Finding, Level
from .models import units
from .published import find_published
from .server import Listener

WEB_PORTS = (80, 443)
# How each of the common ones is told to go, beside stopping its unit.
ELSE = {
    "nginx": "or give its sites another port (listen, in /etc/nginx/sites-enabled) and reload it",
    "apache2": "or change Listen in /etc/apache2/ports.conf and restart it",
    "httpd": "or change Listen in its configuration and restart it",
    "haproxy": "or change bind in /etc/haproxy/haproxy.cfg and reload it",
    "lighttpd": "or change server.port in /etc/lighttpd/lighttpd.conf and restart it",
    "traefik": "or change entryPoints in its configuration and restart it",
    "envoy": "or give its listener another port and restart it",
    "squid": "or change http_port in /etc/squid/squid.conf and restart it",
    "java": "or give its connector another port and restart it",
}
CONTAINERS = ("docker-proxy", "dockerd", "rootlessport", "rootlesskit", "conmon", "pasta", "slirp4netns")


def check_web_ports(look: Look) -> Finding:
    key = "preflight.web_ports"
    # One on loopback alone is in the way too: Caddy asks for every address at once.
    others = [one for one in look.server.listeners() if one.port in WEB_PORTS and one.unit != "caddy.service"]
    published = [] if others else [one for one in find_published(look) if one.port in WEB_PORTS]
    if published:
        # Nobody listens there, and Caddy could; but no packet of another machine would come to it.
        return Finding(
            key,
            Level.BLOCKED,
            f"a container has port {published[0].port}: what others send there is led to it ({published[0].to})",
            remedy=of_container(published[0].port),
            evidence={"published": [str(one) for one in published]},
        )
    if not others:
        return Finding(key, Level.OK, "ports 80 and 443 are free, or Caddy's")
    first = others[0]
    who = first.program or "another program"
    where = first.unit or (f"process {first.pid}" if first.pid else "no unit")
    ports = " and ".join(str(port) for port in sorted({one.port for one in others if one.program == first.program}))
    return Finding(
        key,
        Level.BLOCKED,
        f"{who} ({where}) listens on port {ports}",
        remedy=remedy(look, first),
        evidence={"listeners": [f"{one} {one.program} {one.unit}" for one in others]},
    )


def of_container(port: int) -> str:
    return (
        f"a container has it: sudo docker ps --filter publish={port} (or podman ps, kubectl get services -A) names it; "
        "publish another port of it, or stop it: sudo docker stop NAME"
    )


def remedy(look: Look, one: Listener) -> str:
    if one.program.startswith(CONTAINERS):
        return of_container(one.port)
    if one.unit in units(look.answers):
        restart = f"sudo systemctl restart {one.unit}"
        return f"vLLM itself has it: give it another (--port 8000) in its launch script, then {restart}"
    if one.program.startswith("caddy"):
        return (
            "this Caddy is not the one of caddy.service, which is what is set up here: stop it, and bring its sites "
            "into /etc/caddy/Caddyfile (see caddy: existing_config)"
        )
    if one.unit.endswith(".scope") or not one.unit:
        return f"stop it where it was started, or: sudo kill {one.pid or 'PID'} (ss -ltnp names the process)"
    stop = f"stop it: sudo systemctl disable --now {one.unit}"
    return f"{stop}; {ELSE.get(one.program, 'or use another server')}"
