"""`backup` and `restore`: what clients trust, taken from one server and brought to another."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from . import answers_file, archive, checked, commands, custom, files, journal, paths, runs
from .acme import issuer_directory
from .archive import AUTHORITY, DATA, BadArchive, Kept, Role, normal, role_of
from .caddyfile import ADDITIONS, CERTIFICATE, KEY, is_imported
from .endpoint import served_hosts
from .engine import Look
from .model import Report, SetupError
from .report import Document, document_of
from .server import read_through
from .session import Session
from .system import find_operator

if TYPE_CHECKING:
    from .commands import Ask, Sure, Tell

IN_IT = {
    "internal": "Caddy's own CA with its key",
    "acme": "the account at the CA, and the certificate with its key",
    "custom": "your certificate with its key",
}
NOT_IN_IT = (
    "not in it: vLLM's API key (it stays in vLLM's env file: clients need the same one again), logs, earlier runs"
)


# ── backup ──


def back_up(path: str, sudo_uid: int | None) -> Document:
    """Writes the archive of this server to the path; "-" is standard output. Nothing else is changed."""
    runs.refuse_beside_another()
    text = commands.saved_answers()
    to_output = path == "-"
    if not to_output:
        path = os.path.abspath(path)
        refuse_place(path, frozenset({0, os.geteuid()} | ({sudo_uid} if sudo_uid is not None else set())))
    session = Session(checked.load_saved(text), operator=find_operator())
    look, tls = session.look, session.look.answers.tls
    hosts = served_hosts(look)
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(look.server.now()))
    host = next(iter(look.server.host_names()), "this server")
    raw = archive.pack(collect(look, text), host=host, made=made, mode=tls.mode, hosts=hosts)
    archive.read(raw)  # what could not be restored is no backup
    if to_output:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    else:
        files.write(path, raw, mode=0o600)
    place = "what goes to standard output" if to_output else path
    whose = "" if to_output else ". It is for root alone (mode 0600)"
    warnings = (
        f"{place} holds private keys, and is not encrypted: whoever reads it can pose as this server{whose}",
        f"in it: the answers, our Caddy configuration, {IN_IT[tls.mode]}",
        NOT_IN_IT,
    )
    return document_of(Report("backup", 0, warnings=warnings), session.mask)


def refuse_place(path: str, trusted: frozenset[int]) -> None:
    """Raises Refused where others could put something else in the archive's place, or it would replace another file."""
    directory = os.path.realpath(os.path.dirname(path))
    place = directory
    while True:
        try:
            found = os.stat(place)
        except OSError as error:
            raise commands.Refused(
                f"{place}: {(error.strerror or 'not to be had').lower()}", "name a directory"
            ) from None
        if (why := _who_writes(found, trusted)) and not (place != directory and found.st_mode & stat.S_ISVTX):
            raise commands.Refused(
                f"{place} {why}: the archive holds private keys, and was not written there",
                "take a directory of root's: sudo install -d -m 0700 /root/backup",
            )
        if place == "/":
            break
        place = os.path.dirname(place)
    there = files.read(path)
    if there is None:
        return
    try:
        if there.kind != "file":
            raise BadArchive("it is no file")
        archive.read(there.content)
    except (BadArchive, answers_file.AnswersError):
        said = f"{path} is there already, and is no archive of this program: it was left as it is"
        raise commands.Refused(said, "take another name") from None


def _who_writes(found: os.stat_result, trusted: frozenset[int]) -> str:
    if found.st_uid not in trusted:
        return f"belongs to {answers_file.user_name(found.st_uid)}"
    if found.st_mode & stat.S_IWOTH:
        return "can be written to by every user"
    shared = found.st_gid != 0 and not answers_file.is_private_group(found.st_gid, found.st_uid)
    return "can be written to by a group of several users" if found.st_mode & stat.S_IWGRP and shared else ""


def collect(look: Look, text: bytes) -> Iterator[Kept]:
    """The files of an archive. Raises SetupError where one is missing that clients could not do without."""
    yield Kept(paths.ANSWERS, text, Role.ANSWERS)
    tls = look.answers.tls
    needed: dict[str, tuple[str, ...]] = {}
    if tls.mode == "internal":
        needed = {path: (path,) for path in (f"{AUTHORITY}/root.key", f"{AUTHORITY}/root.crt")}
    elif tls.mode == "custom":
        # Caddy's copies, where the originals are gone.
        needed = {
            tls.private_key or "": (tls.private_key or "", KEY),
            tls.certificate or "": (tls.certificate or "", CERTIFICATE),
        }
    else:
        needed = {path: (path,) for path in (tls.acme_ca_file, tls.eab_file) if path}
    for path, sources in needed.items():
        yield _take(look, path, sources)
    others = [*(f"{ADDITIONS}/{name}" for name in look.server.names(ADDITIONS))]
    others += _issued(look) if tls.mode == "acme" else []
    for path in (*others, paths.CADDYFILE, paths.SITE_FILE, paths.ROOT_CERTIFICATE):
        role, state = role_of(path, look.answers), look.server.read(path)
        if role is None or state is None or state.kind != "file":
            continue
        # Of a Caddyfile of others nothing is taken but what of it is ours.
        if path == paths.CADDYFILE and is_imported(look):
            yield Kept(path, f"import {paths.SITE_FILE}\n".encode(), role)
        else:
            yield _normal(Kept(path, state.content, role), look)


def _take(look: Look, path: str, sources: tuple[str, ...]) -> Kept:
    for source in sources:
        state = read_through(look.server, source)
        if state is not None and state.kind == "file" and len(state.content) <= custom.LARGEST:
            role = role_of(path, look.answers)
            assert role is not None
            return _normal(Kept(path, state.content, role), look)
    raise SetupError(
        f"{path} is not there: clients could not do without it, so there would be nothing to restore",
        "put the server right first: sudo vllm-https-setup status; sudo vllm-https-setup repair",
    )


def _normal(kept: Kept, look: Look) -> Kept:
    content = normal(kept, look.answers)
    if content is None:
        remedy = "put the server right first: sudo vllm-https-setup status"
        raise SetupError(f"{kept.path} is damaged, or is not what it should be: no backup was made", remedy)
    return Kept(kept.path, content, kept.role)


def _issued(look: Look) -> list[str]:
    """The certificate of this endpoint, and the accounts at its CA."""
    tls = look.answers.tls
    issuer, domain = issuer_directory(tls.acme_directory), (tls.domain or "").lower()
    certificate = f"{DATA}/certificates/{issuer}/{domain}"
    users = f"{DATA}/acme/{issuer}/users"
    places = [certificate, *(f"{users}/{name}" for name in look.server.names(users))]
    return [f"{place}/{name}" for place in places for name in look.server.names(place)]


# ── restore ──


def restore(path: str, sudo_uid: int | None, sure: Sure, tell: Tell, ask: Ask) -> Document:
    """Sets this server up by an archive's answers, with the keys and certificates that its clients trust."""
    raw = answers_file.read(path, sudo_uid=sudo_uid, most=archive.LARGEST_PACKED)
    try:
        kept = archive.read(raw)
    except BadArchive as error:
        raise commands.Refused(error.message, error.remedy) from None
    runs.refuse_beside_another()
    session = Session(checked.load_saved(kept.answers), operator=find_operator(), archive=kept)
    saved = files.read(paths.ANSWERS)
    if saved is not None and saved.content != kept.answers:
        message = f"this server was set up already, with other answers than {kept.name} has: nothing was changed"
        remedy = "take that back first: sudo vllm-https-setup uninstall; then run this again"
        problem = {"line": None, "key": "", "message": message, "expected": remedy}
        return document_of(Report("restore", 3, errors=(problem,)), session.mask)

    def agree(shown: Report) -> None:
        warnings = (f"this is {kept.name}, for {', '.join(kept.hosts[:4])}", NOT_IN_IT)
        commands.require_yes(sure, ask, document_of(replace(shown, warnings=warnings), session.mask))

    unfinished = journal.find_unfinished()
    return commands.carry_through(session, "restore", kept.answers, unfinished, tell, agree=agree)
