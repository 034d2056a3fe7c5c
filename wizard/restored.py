"""What an archive brings back, as the caddy step sees it: after the package, which makes Caddy's user, and before
Caddy first needs a CA or a certificate and would make, or ask for, another one.

While a restore is not completed its archive lies in our own directory, and every plan brings this back first.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from . import archive, files, paths
from .archive import AUTHORITY, Archive, BadArchive, Kept, Role
from .endpoint import find_hosts
from .engine import Look
from .model import Action, Finding, Level, Run, SetupError, Write
from .paths import CADDY_HOME
from .server import FileState

CADDY_USER = "caddy"
OF_CADDY = (Role.AUTHORITY, Role.ISSUED)
STOP = "sudo systemctl stop caddy"


def load_pending() -> Archive | None:
    """The archive of a restore that is under way, or was cut off. Raises SetupError where it can't be used."""
    state = files.read(paths.RESTORE)
    if state is None or state.kind != "file":
        return None
    try:
        return archive.read(state.content)
    except BadArchive as error:
        remedy = f"begin it again: sudo vllm-https-setup restore FILE; or give it up: sudo rm {paths.RESTORE}"
        raise SetupError(f"a restore was cut off, and {paths.RESTORE} is damaged", remedy) from error


def check_hindrances(look: Look) -> Iterator[Finding]:
    """What is here already, and is another's: nothing of it is replaced."""
    if look.archive is None:
        return
    for one in look.archive.having(Role.AUTHORITY, Role.ADDITION):
        state = look.server.read(one.path)
        if state is None or (state.kind, state.content) == ("file", one.content):
            continue
        place = AUTHORITY if one.role is Role.AUTHORITY else one.path
        what = (
            "Caddy on this server has a CA of its own" if one.role is Role.AUTHORITY else f"{one.path} is another one"
        )
        yield Finding(
            "caddy.restored",
            Level.BLOCKED,
            f"{what} than {look.archive.name} brings: clients may trust it, and it is not replaced",
            f"to give it up: {STOP}; sudo mv {place} {place}.old; then run this again",
            evidence={"path": one.path},
        )
        return
    for directory in _directories(look.archive.having(*OF_CADDY)):
        state = look.server.read(directory)
        if state is not None and state.kind in ("link", "other"):
            said = f"{directory} is a {state.kind}: no link is followed where keys are written"
            yield Finding("caddy.restored", Level.BLOCKED, said, f"move it away: sudo mv {directory} {directory}.old")
            return


def check(look: Look) -> Iterator[Finding]:
    """The files of the archive that are not here yet."""
    if look.archive is None:
        return
    for one in look.archive.files:
        if _write(one, look).private:
            look.mask.add(one.content.decode("utf-8", "replace"))
    missing = [one for one in _wanted(look, look.archive) if not _is_there(look, one)]
    if missing:
        directories = _directories(one for one in missing if one.role in OF_CADDY)
        own = ("-m", "0700", "-o", CADDY_USER, "-g", CADDY_USER)
        why = "where Caddy keeps its certificates; it may write there, and nobody else reads"
        make = (Run(("install", "-d", *own, *directories), why),) if directories else ()
        fix: tuple[Action, ...] = (*make, *(_write(one, look) for one in missing))
        summary = f"what clients trust is not back yet, as {look.archive.name} has it"
        yield Finding("caddy.restored", Level.DRIFT, summary, fix=fix)
    else:
        yield Finding("caddy.restored", Level.OK, f"what clients trust is here, from {look.archive.name}")
    yield from _check_hosts(look, look.archive)


def _wanted(look: Look, kept: Archive) -> Iterator[Kept]:
    """What is to be here. A certificate that is here already, with a key of its own, is newer, and stays."""
    for one in kept.having(Role.AUTHORITY, Role.NAMED, Role.ADDITION):
        if one.role is not Role.NAMED or look.server.read(one.path) is None:
            yield one
    issued = kept.having(Role.ISSUED)
    for directory in dict.fromkeys(posixpath.dirname(one.path) for one in issued):
        # The key first: with another one here the certificate would be of no use.
        own = [one for one in issued if posixpath.dirname(one.path) == directory]
        own.sort(key=lambda one: (not one.path.endswith(".key"), one.path))
        known = [(one, look.server.read(one.path)) for one in own]
        if any(state is not None and state.content != one.content for one, state in known):
            continue
        yield from own


def _is_there(look: Look, one: Kept) -> bool:
    state = look.server.read(one.path)
    wanted = _write(one, look)
    is_file = state is not None and (state.kind, state.content) == ("file", one.content)
    return is_file and (one.role not in OF_CADDY or _attributes(state) == (wanted.mode, wanted.owner, wanted.group))


def _attributes(state: FileState | None) -> tuple[int, str, str] | None:
    return (state.mode, state.owner, state.group) if state else None


def _write(one: Kept, look: Look) -> Write:
    """No undo takes it away: clients trust it, and `uninstall` leaves Caddy's CA to those who trust it, too."""
    tls = look.answers.tls
    if one.role in OF_CADDY:
        why = "the CA that clients trust" if one.role is Role.AUTHORITY else "the CA's certificate, and its account"
        secret = not one.path.endswith(".crt")
        return Write(one.path, one.content, why, 0o600, CADDY_USER, CADDY_USER, private=secret, lasting=True)
    if one.role is Role.ADDITION:
        return Write(one.path, one.content, "your own addition to our site")
    secret = one.path in (tls.private_key, tls.eab_file)
    why = "a file that the answers name"
    return Write(one.path, one.content, why, 0o600 if secret else 0o644, private=secret, lasting=True)


def _directories(kept: Iterator[Kept] | tuple[Kept, ...]) -> tuple[str, ...]:
    """The directories of these files below Caddy's home, the uppermost first."""
    found: set[str] = set()
    for one in kept:
        directory = posixpath.dirname(one.path)
        while directory.startswith(f"{CADDY_HOME}/"):
            found.add(directory)
            directory = posixpath.dirname(directory)
    return tuple(sorted(found))


def _check_hosts(look: Look, kept: Archive) -> Iterator[Finding]:
    """With `hosts: auto` the certificate is for this server's own addresses: those that clients call may be others."""
    if look.answers.tls.mode != "internal" or look.answers.tls.hosts != "auto":
        return
    now = find_hosts(look)
    gone = [host for host in kept.hosts if host not in now]
    if gone:
        called = kept.hosts[0] if kept.hosts[0] in gone else gone[0]
        yield Finding(
            "caddy.restored_hosts",
            Level.WARN,
            f"clients of {kept.host} call {', '.join(gone[:4])}, which this server does not have: they reach it, and "
            "are shown the right certificate, only where that leads here",
            f"give this server that address, or let the name lead here; or name both in the answers: tls: {{hosts: "
            f"[{called}, {now[0] if now else '…'}]}}",
            evidence={"hosts": gone},
        )
