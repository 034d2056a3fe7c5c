"""A Caddyfile of others (`existing_config: keep`): theirs stays theirs, with one line that imports our site.

Whether both go together is Caddy's to say: `caddy adapt` is asked about the two as one. What cannot be kept is
blocked, with the lines to add.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .apt import CADDY
from .caddy_service import loaded
from .caddyfile import render_catch_all, render_metrics, render_site
from .endpoint import find_hosts
from .engine import Look
from .model import Action, Finding, Level, Remove, Write
from .parse.error_line import line_of_error
from .paths import CADDYFILE, SITE_FILE
from .queries import ADAPT
from .rate_limit import taken_out
from .server import FileState

EDITED_REMEDY = "put your lines into /etc/caddy/vllm-https.d/*.caddy; or answer caddy: {edited_config: replace}"
IMPORT = f"import {SITE_FILE}"
NOT_FOUND = 127
HEADER = (
    "# Made by vllm-https-setup, and imported by the Caddyfile. Your own additions: /etc/caddy/vllm-https.d/*.caddy\n"
)


def is_kept(look: Look, state: FileState) -> bool:
    """True if this Caddyfile is another's, which imports ours (or did, before somebody took the line out)."""
    return IMPORT in lines_of(state.text) or look.server.read(SITE_FILE) is not None


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def without_import(text: str) -> str:
    """Theirs alone."""
    return "\n".join(line for line in text.splitlines() if line.strip() != IMPORT).rstrip() + "\n"


def check(look: Look, state: FileState, upstream: str, validate: tuple[str, ...]) -> Iterator[Finding]:
    """The import line and our site; or what stands in the way of both."""
    theirs = without_import(state.text)
    metrics = render_metrics(look, upstream)
    site = HEADER + "\n" + render_site(look, upstream, imported=True) + (f"\n{metrics}" if metrics else "")
    ours, problem = choose(look, theirs, site)
    if problem is not None:
        yield problem
        return
    then, fix = (loaded(look),), list[Action]()
    known = look.server.read(SITE_FILE)
    edited = look.owned.is_edited(SITE_FILE, known) and known is not None and known.content != ours.encode()
    if edited and look.answers.caddy.edited_config == "stop":
        yield Finding("tls.caddyfile", Level.BLOCKED, f"{SITE_FILE} was edited by hand since", EDITED_REMEDY)
        return
    attributes = (0o644, "root", "root")
    if known is None or known.content != ours.encode() or (known.mode, known.owner, known.group) != attributes:
        why = (
            "ours again; the edit is kept in the run's backup"
            if edited
            else "our site: /v1/* to vLLM, 404 for all else"
        )
        fix.append(Write(SITE_FILE, ours.encode(), why, then=then))
    if IMPORT not in lines_of(state.text):
        wanted = f"{state.text.rstrip()}\n\n{IMPORT}\n".encode()
        back = Write(
            CADDYFILE, state.content, "Caddy refuses both together: the file is put back", keep_attributes=True
        )
        why = "one line more: our site is imported"
        fix.append(Write(CADDYFILE, wanted, why, validate=validate, then=then, otherwise=(back,), keep_attributes=True))
    if fix:
        why_not = taken_out(look)
        summary = f"{SITE_FILE}, our site, is not as it should be"
        if IMPORT not in lines_of(state.text):
            summary = "your Caddyfile does not import our site yet"
        elif edited:
            summary = f"{SITE_FILE}, our site, was edited by hand since"
        elif why_not:
            summary = f"{SITE_FILE}, our site, limits requests, which can't stay: {why_not}"
        yield Finding("tls.caddyfile", Level.DRIFT, summary, fix=tuple(fix))
    else:
        yield Finding("tls.caddyfile", Level.OK, "your Caddyfile imports our site")


def choose(look: Look, theirs: str, site: str) -> tuple[str, Finding | None]:
    """Our site, with an answer for unknown names where theirs has none; or what is in the way."""
    if not look.server.packages(CADDY)[CADDY].installed:
        return site, None
    whole = site + "\n" + render_catch_all(look, imported=True)
    error = ""
    for ours in (whole, site):
        argv = (*ADAPT, "-")
        output = look.server.query(argv, stdin=f"{theirs}\n{ours}".encode())
        if output.code == NOT_FOUND:
            # A plan whose Caddy is not installed yet: the run asks it when it is.
            return ours, None
        if output.ok:
            return ours, check_globals(look, output.out)
        error = error or line_of_error(output.err)
    return site, refusal(error)


def refusal(error: str) -> Finding:
    """Caddy's reason in plain words, and the lines to change."""
    if "ambiguous site definition" in error:
        remedy = "take our name out of your Caddyfile, or answer caddy: {existing_config: replace}"
        return Finding(
            "tls.existing_site", Level.BLOCKED, f"your Caddyfile has a site of the same name: {error}", remedy
        )
    remedy = (
        "a Caddyfile with one site and no braces can't import another: put your site into braces, as "
        "`example.com {`, its lines, `}`; check with: caddy validate --config /etc/caddy/Caddyfile"
    )
    return Finding(
        "tls.existing_config", Level.BLOCKED, f"your Caddyfile and our site don't go together: {error}", remedy
    )


def check_globals(look: Look, adapted: str) -> Finding | None:
    """What our site needs of the global options, which are theirs."""
    try:
        config: dict[str, Any] = json.loads(adapted)
    except ValueError:
        return None
    if config.get("admin", {}).get("disabled"):
        return Finding(
            "tls.existing_admin",
            Level.BLOCKED,
            "your Caddyfile switches the admin endpoint off: Caddy could not be reloaded",
            remedy="take `admin off` out of its global options",
        )
    hosts = find_hosts(look)
    if look.answers.tls.mode != "internal" or all(not is_address(host) for host in hosts):
        return None
    servers = config.get("apps", {}).get("http", {}).get("servers", {}).values()
    policies = [policy for server in servers for policy in server.get("tls_connection_policies", [])]
    if any(policy.get("fallback_sni") for policy in policies):
        return None
    address = next(host for host in hosts if is_address(host))
    return Finding(
        "tls.existing_sni",
        Level.BLOCKED,
        "clients that call an address send no name, and your Caddyfile does not say which certificate they get",
        remedy=f"add to its global options (its first block): default_sni {address} and fallback_sni {address}",
    )


def is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def clear_away(look: Look) -> Iterator[Finding]:
    """Where the Caddyfile is ours as a whole, the imported file is no longer used."""
    if look.server.read(SITE_FILE) is not None:
        remove = Remove(SITE_FILE, "the Caddyfile has the site itself now")
        yield Finding("tls.site_left", Level.DRIFT, f"{SITE_FILE} is no longer used", fix=(remove,))
