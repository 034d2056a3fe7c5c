"""The account at a CA that wants one made beforehand (EAB): from a file that root alone reads, to one for Caddy.

The Caddyfile names the key's file: the key is in no Caddyfile, and in no configuration that Caddy tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .caddy_service import loaded
from .caddyfile import ACCOUNT_KEY, CERTIFICATES, read_eab
from .engine import Look
from .model import FileIs, Finding, Level, Remove, Run, Write

FORM = "two lines, the key id and the MAC key (or JSON: key_id, mac_key)"


def check(look: Look, directory: dict[str, Any] | None, level: Level) -> Iterator[Finding]:
    """Whether the CA wants such an account; the operator's file; and Caddy's copy of its key."""
    path = look.answers.tls.eab_file
    if path is None:
        if ((directory or {}).get("meta") or {}).get("externalAccountRequired") is True:
            yield Finding(
                "tls.eab",
                level,
                "the CA issues only for accounts that were made beforehand (EAB)",
                f"take a key id and a MAC key from the CA; write them to a file: {FORM}; "
                "sudo chown root: FILE; sudo chmod 0600 FILE; and answer tls: {eab_file: FILE}",
            )
        return
    account, wrong, remedy = read_eab(look)
    if account is None:
        yield Finding("tls.eab", Level.BLOCKED, f"{path}: {wrong}", remedy, evidence={"path": path})
        return
    known = look.server.read(ACCOUNT_KEY)
    content = account.mac_key.encode()
    if known is not None and (known.content, known.mode, known.owner, known.group) == (content, 0o640, "root", "caddy"):
        yield Finding("tls.eab", Level.OK, f"Caddy has the CA's account {account.key_id}, and its key as nobody else")
        return
    why = "the key of the CA's account, for Caddy alone"
    write = Write(ACCOUNT_KEY, content, why, mode=0o640, group="caddy", private=True, then=(loaded(look),))
    summary = f"Caddy does not have the key of the CA's account {account.key_id} yet"
    yield Finding("tls.eab", Level.DRIFT, summary, fix=(write,))


def clear_away(look: Look) -> Iterator[Finding]:
    """Where no such account is used: the copy of its key goes."""
    used = look.answers.tls.mode == "acme" and look.answers.tls.eab_file is not None
    if used or not look.owned.is_written(ACCOUNT_KEY) or look.server.read(ACCOUNT_KEY) is None:
        return
    empty = ("find", CERTIFICATES, "-maxdepth", "0", "-empty", "-delete")
    gone = Run(empty, "the directory of the copies", makes=(FileIs(CERTIFICATES, None),))
    fix = (Remove(ACCOUNT_KEY, "the account at that CA is used no more"), gone)
    yield Finding("tls.eab_left", Level.DRIFT, "the key of a CA's account is left", fix=fix)
