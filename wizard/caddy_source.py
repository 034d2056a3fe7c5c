"""Where apt gets Caddy from: a list that names the repository, or a mirror of it, and the pinned key that it trusts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from .apt import CADDY, installed_by
from .engine import Look
from .model import Action, Finding, Level, Remove, Write
from .parse.apt import Source, parse_deb822, parse_sources_list
from .parse.keyring import Key, dearmor, read_keyring
from .server import FileState

KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"
SOURCES = "/etc/apt/sources.list.d"
LIST = f"{SOURCES}/caddy-stable.list"
SUITE = "any-version"
FETCH_TIMEOUT_S = 30


@dataclass(frozen=True)
class Entry:
    """An entry of apt's for Caddy's repository, or a mirror of it, and the file that it is in."""

    path: str
    uri: str
    keyring: str
    key: bytes | None = None  # where the entry has the key itself

    @property
    def is_ours(self) -> bool:
        return self.path == LIST and self.keyring == KEYRING


def uri_of(look: Look) -> str:
    return f"{look.answers.caddy.repository.rstrip('/')}/deb/debian"


def key_url(look: Look) -> str:
    return f"{look.answers.caddy.repository}/gpg.key"


def list_of(look: Look) -> str:
    """Our list: what the repository's own instructions make of it."""
    base = f"[signed-by={KEYRING}] {look.answers.caddy.repository}/deb/debian {SUITE} main"
    return (
        "# Source: Caddy\n# Site: https://github.com/caddyserver/caddy\n# Repository: Caddy / stable\n"
        f"# Description: Fast, multi-platform web server with automatic HTTPS\n\ndeb {base}\n\ndeb-src {base}\n"
    )


def find_entries(look: Look) -> tuple[Entry, ...]:
    """All entries for the repository, ours first; others count where ours is not there."""
    own = entries_of(look, LIST, look.server.read(LIST))
    if any(entry.is_ours for entry in own):
        return own
    others = sorted(
        name
        for name in look.server.names(SOURCES)
        if posixpath.splitext(name)[1] in (".list", ".sources") and f"{SOURCES}/{name}" != LIST
    )
    paths = [f"{SOURCES}/{name}" for name in others]
    return (*own, *(entry for path in paths for entry in entries_of(look, path, look.server.read(path))))


def entries_of(look: Look, path: str, state: FileState | None) -> tuple[Entry, ...]:
    if state is None or state.kind != "file":
        return ()
    sources = parse_deb822(state.text) if path.endswith(".sources") else parse_sources_list(state.text)
    found = []
    for source in sources:
        if not source.enabled or "deb" not in source.types or SUITE not in source.suites:
            continue
        signed = source.signed_by or ""
        key = signed.encode() if "BEGIN PGP" in signed else None
        found += [Entry(path, uri.rstrip("/"), "" if key else signed, key) for uri in uris(look, source, path)]
    return tuple(found)


def uris(look: Look, source: Source, path: str) -> tuple[str, ...]:
    """The addresses of an entry that are the repository's: that of the answers; or, where they say nothing of it, of a
    mirror, which our own list's name or the key's tells."""
    wanted = uri_of(look)
    given = "repository" in look.answers.caddy.model_fields_set
    mirrored = not given and (path == LIST or "caddy" in posixpath.basename(path)) and source.signed_by == KEYRING
    return tuple(uri for uri in source.uris if uri.rstrip("/") == wanted or mirrored)


def judge(keys: tuple[Key, ...], pinned: str, now: datetime) -> str:
    """What is wrong with a keyring, or "": one key, the pinned one, and live."""
    if not keys:
        return "it is no OpenPGP key"
    others = [key.fingerprint for key in keys if key.fingerprint != pinned]
    if others:
        return f"its fingerprint is {others[0]}, and not the pinned {pinned}"
    if not keys[0].signs(now):
        return "it has expired or was revoked"
    return ""


def short(fingerprint: str) -> str:
    return f"…{fingerprint[-16:]}"


def wrong_with(look: Look, entry: Entry) -> str:
    """Why apt is not to trust what this entry trusts, or ""."""
    pinned, now = look.answers.caddy.key_fingerprint, datetime.fromtimestamp(look.server.now(), UTC)
    if entry.key is not None:
        return judge(read_keyring(entry.key), pinned, now)
    if not entry.keyring.startswith("/"):
        return "it has no signed-by: any key that apt knows would do"
    state = look.server.read(entry.keyring)
    return judge(read_keyring(state.content), pinned, now) if state else f"there is no {entry.keyring}"


def choose(look: Look) -> tuple[Entry | None, Finding | None]:
    """The entry that apt uses, where it is as good as ours; or an entry that is not, and stands in ours' way."""
    entries = find_entries(look)
    ours = next((entry for entry in entries if entry.is_ours), None)
    if ours is not None:
        return ours, None
    for entry in entries:
        if not (wrong := wrong_with(look, entry)):
            return entry, None
        if entry.path != LIST:
            summary = f"{entry.path} names Caddy's repository, and the key that it trusts is not right: {wrong}"
            # Two entries of one repository with different keys: apt refuses to do anything at all.
            remedy = f"sudo mv {entry.path} /root/; then run this again, which makes an entry of its own"
            evidence = {"path": entry.path, "uri": entry.uri, "signed_by": entry.keyring}
            return None, Finding("caddy.list", Level.BLOCKED, summary, remedy, evidence)
    return None, None


def check_keyring(look: Look, entry: Entry | None, *, goes_on: bool) -> Finding:
    """The keyring holds the pinned key and no other, able to sign now; else it is fetched again, and checked first."""
    pinned = look.answers.caddy.key_fingerprint
    if entry is not None and entry.keyring != KEYRING:
        place = entry.keyring or entry.path
        return Finding("caddy.keyring", Level.OK, f"apt trusts Caddy's key {short(pinned)} alone, by {place}")
    state = look.server.read(KEYRING)
    now = datetime.fromtimestamp(look.server.now(), UTC)
    wrong = judge(read_keyring(state.content), pinned, now) if state else "it is missing"
    if state and state.mode & 0o444 != 0o444:
        wrong = wrong or "apt cannot read it"
    if not wrong:
        return Finding("caddy.keyring", Level.OK, f"apt trusts Caddy's key {short(pinned)} for its repository alone")
    return fetch_key(look, wrong, now, goes_on=goes_on)


def expect_key(look: Look) -> None:
    """Where it is sure to be fetched: no keyring of ours is there, and no entry that has one of its own."""
    if look.server.read(KEYRING) is None and not find_entries(look):
        look.server.expect_fetch(key_url(look), FETCH_TIMEOUT_S)


def fetch_key(look: Look, wrong: str, now: datetime, *, goes_on: bool) -> Finding:
    """`goes_on`: the Caddy that is there will do as it is."""
    pinned = look.answers.caddy.key_fingerprint
    url = key_url(look)
    fetched = look.server.fetch(url, FETCH_TIMEOUT_S)
    if fetched.status != 200:
        # Without the key it gets no update.
        level = Level.WARN if goes_on else Level.BLOCKED
        said = fetched.error or fetched.status
        return Finding(
            "caddy.keyring",
            level,
            f"the repository's key could not be fetched: {said}" + (f"; apt's copy: {wrong}" if goes_on else ""),
            remedy=f"does this server reach the internet? curl -v {url}; a mirror is named as caddy.repository",
            evidence={"url": url, "wrong": wrong},
        )
    refused = judge(read_keyring(fetched.body), pinned, now)
    binary = dearmor(fetched.body)
    if refused or binary is None:
        return Finding(
            "caddy.keyring",
            Level.BLOCKED,
            f"the key at {url} is refused: {refused or 'it is no OpenPGP key'}",
            remedy="ask Caddy's maintainers before you trust another key (caddy.key_fingerprint in the answers)",
            evidence={"pinned": pinned, "found": [key.fingerprint for key in read_keyring(fetched.body)]},
        )
    return Finding(
        "caddy.keyring",
        Level.DRIFT,
        f"apt's copy of Caddy's key: {wrong}",
        evidence={"fingerprint": pinned},
        fix=(Write(KEYRING, binary, f"the key {short(pinned)}, checked against the pinned one", binary=True),),
    )


def check_list(look: Look, entry: Entry | None) -> Iterator[Finding]:
    if entry is not None:
        mirror = "" if entry.uri == uri_of(look) else ", a mirror with the pinned key"
        where = "" if entry.is_ours else f", by {entry.path}"
        evidence = {"path": entry.path, "uri": entry.uri}
        known = entry.uri.removesuffix("/deb/debian")
        yield Finding("caddy.list", Level.OK, f"apt knows {known}{mirror}{where}", evidence=evidence)
        return
    state = look.server.read(LIST)
    yield Finding(
        "caddy.list",
        Level.DRIFT,
        "apt does not know Caddy's repository" if state is None else f"{LIST} says something else",
        fix=(Write(LIST, list_of(look).encode(), "Caddy's own repository, signed by that key alone"),),
    )


def without_list(look: Look) -> tuple[Action, ...]:
    """Where apt can't have the index, it is not left to ask there again: the list is as it was before ours. One whose
    index apt has taken before stays: the network may be back tomorrow, and with it Caddy's updates."""
    state = look.server.read(LIST)
    ours = state is not None and state.kind == "file" and any(one.is_ours for one in entries_of(look, LIST, state))
    had_before = any(CADDY in installed_by(one.argv) and not one.taken_back for one in look.owned.commands)
    if ours and had_before:
        return ()
    if state is None or look.owned.is_written(LIST):
        return (Remove(LIST, "apt can't have this repository's index: it is not asked there again"),)
    if state.kind != "file" or ours:
        return ()
    why = "apt can't have the new repository's index: the list is put back"
    return (Write(LIST, state.content, why, mode=state.mode, owner=state.owner, group=state.group),)
