"""TLS mode custom: your own certificate, checked before anything changes, copied to where Caddy alone can read it.

The originals are watched by a unit: when they change (certbot, acme.sh) they are checked, copied and loaded again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from . import files
from .caddy_service import loaded
from .caddyfile import CERTIFICATE, KEY
from .engine import Look
from .model import Action, FileIs, Finding, Level, Remove, Run, SetupError, UnitIs, Write
from .paths import ANSWERS, CERTIFICATE_PATH_UNIT, CERTIFICATE_SERVICE, UNITS
from .render import render
from .server import FileState, read_through

if TYPE_CHECKING:
    from .parse.certificates import Flaw, Pair

PROGRAM = "/usr/local/bin/vllm-https-setup"
LARGEST = 1024 * 1024  # bytes; a chain of four certificates has about 8000
REPLACED = "what clients see now goes on unchanged"


def check_before(look: Look) -> Iterator[Finding]:
    """The pair, as it is where the answers say; and its copies."""
    pair, findings = read(look)
    yield from findings
    if pair is None:
        return
    until = pair.not_after.strftime("%Y-%m-%d")
    evidence = {"names": list(pair.names), "not_after": until, "sha256": pair.fingerprint_sha256}
    summary = f"{pair.key_type}, for {', '.join(pair.names[:3])}, issued by {pair.issuer}, until {until}"
    yield Finding("tls.certificate", Level.OK, summary, evidence=evidence)
    yield check_copies(look, pair)


def read(look: Look) -> tuple[Pair | None, list[Finding]]:
    """The pair where it can be used; and what is wrong with it."""
    from .parse.certificates import read_pair

    tls = look.answers.tls
    paths = (tls.certificate or "", tls.private_key or "")
    # /etc/letsencrypt/live has links, which certbot moves on to the new files.
    states = [read_through(look.server, path) for path in paths]
    missing = [path for path, state in zip(paths, states, strict=True) if state is None or state.kind != "file"]
    remedy = "name the files in the answers: tls.certificate and tls.private_key"
    if missing or states[0] is None or states[1] is None:
        return None, [Finding("tls.certificate", Level.BLOCKED, f"{', '.join(missing)}: there is no such file", remedy)]
    large = [path for path, state in zip(paths, states, strict=True) if state and len(state.content) > LARGEST]
    if large:
        summary = f"{', '.join(large)}: more than {LARGEST // 1024} KiB, which no certificate or key has"
        return None, [Finding("tls.certificate", Level.BLOCKED, summary, remedy)]
    look.mask.add(states[1].text)
    now = datetime.fromtimestamp(look.server.now(), UTC)
    pair, flaws = read_pair(states[0].content, states[1].content, tls.domain or "", now)
    found = [finding_of(flaw) for flaw in flaws]
    if states[1].mode & 0o007:
        summary = f"{paths[1]} may be read by every user of this server (mode {states[1].mode:04o})"
        remedy = f"sudo chmod o-rwx {paths[1]}; and have a new key made, if somebody else works here"
        found.append(Finding("tls.key_readable", Level.WARN, summary, remedy, evidence={"path": paths[1]}))
    return (None if any(one.level is Level.BLOCKED for one in found) else pair), found


def check_name(look: Look) -> Iterator[Finding]:
    """Whether the certificate is for one more name, too; all else of it is judged for the first."""
    yield from (one for one in read(look)[1] if one.evidence.get("code") == "wrong_name")


def finding_of(flaw: Flaw) -> Finding:
    level = Level.BLOCKED if flaw.severity == "blocked" else Level.WARN
    key = "tls.certificate_refused" if level is Level.BLOCKED else "tls.certificate_doubtful"
    return Finding(key, level, flaw.summary, flaw.remedy, evidence={"code": flaw.code})


def check_copies(look: Look, pair: Pair) -> Finding:
    certificate, key = look.server.read(CERTIFICATE), look.server.read(KEY)
    then = (loaded(look),)
    fix: list[Action] = []
    if certificate is None or (certificate.content, certificate.mode) != (pair.chain, 0o644):
        fix.append(Write(CERTIFICATE, pair.chain, "the certificate and its chain, where Caddy reads them", then=then))
    wanted = (pair.key, 0o640, "root", "caddy")
    if key is None or (key.content, key.mode, key.owner, key.group) != wanted:
        why = "its key, for Caddy alone"
        fix.append(Write(KEY, pair.key, why, mode=0o640, group="caddy", private=True, then=then))
    if not fix:
        return Finding("tls.copies", Level.OK, "Caddy has this certificate, and its key as nobody else does")
    if certificate is None or key is None:
        summary = "Caddy does not have this certificate yet"
    elif (certificate.content, key.content) == (pair.chain, pair.key):
        summary = "Caddy's copies of the certificate and its key are not its own to read, or are others'"
    else:
        summary = "Caddy's copies are not those of the certificate and its key: replaced, or edited"
    return Finding("tls.copies", Level.DRIFT, summary, fix=tuple(fix))


def check_after(look: Look) -> Iterator[Finding]:
    """The units that watch the originals."""
    units = {
        f"{UNITS}/{CERTIFICATE_PATH_UNIT}": render(
            "certificate.path.j2", paths=watched(look), service=CERTIFICATE_SERVICE
        ),
        f"{UNITS}/{CERTIFICATE_SERVICE}": render("certificate.service.j2", program=PROGRAM),
    }
    wrong = [path for path, text in units.items() if not _has(look, path, text)]
    unit = look.server.units(CERTIFICATE_PATH_UNIT)[CERTIFICATE_PATH_UNIT]
    if not wrong and unit.is_active and unit.is_enabled:
        summary = "the files are watched: a renewed certificate is checked and loaded by itself"
        yield Finding("tls.watch", Level.OK, summary)
        return
    why = "load the certificate again when its files change"
    writes: tuple[Action, ...] = tuple(Write(path, units[path].encode(), why) for path in wrong)
    up = UnitIs(CERTIFICATE_PATH_UNIT, active=True, enabled=True)
    gone = UnitIs(CERTIFICATE_PATH_UNIT, active=False, enabled=False, exists=False)
    # systemd reads a unit when it starts it. One that it has in memory it keeps, unless it is told to read all again.
    keeping = () if unit.exists else ("--no-reload",)
    enable = Run(
        ("systemctl", "enable", *keeping, CERTIFICATE_PATH_UNIT),
        "the watch is also there after a reboot",
        makes=(up,),
        undo=(Run(("systemctl", "disable", "--now", CERTIFICATE_PATH_UNIT), "end the watch", makes=(gone,)),),
    )
    start = Run(("systemctl", "restart", CERTIFICATE_PATH_UNIT), "from now on the files are watched", makes=(up,))
    yield Finding("tls.watch", Level.DRIFT, "the files are not watched yet", fix=(*writes, enable, start))


def originals() -> tuple[FileState | None, ...]:
    """The files that the saved answers name, as they are; () where there are no such answers."""
    from .answers import AnswersError, load

    saved = files.read(ANSWERS)
    try:
        tls = load(saved.content).tls if saved else None
        paths = (tls.certificate, tls.private_key) if tls else ()
        return tuple(files.read(os.path.realpath(path)) for path in paths if path)
    except (SetupError, AnswersError):
        return ()


def watched(look: Look) -> tuple[str, ...]:
    """The files; and where one is reached by a link (certbot's are), the link's directory, too: systemd sees what
    becomes of the file that a link led to, and not that the link leads to another now."""
    files = [path for path in (look.answers.tls.certificate, look.answers.tls.private_key) if path]
    directories = [str(one.parent) for path in files for one in links_on(look, PurePosixPath(path))]
    return tuple(dict.fromkeys((*files, *directories)))


def links_on(look: Look, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """The links among a path and its directories."""
    for one in (path, *path.parents):
        state = look.server.read(str(one))
        if state is not None and state.kind == "link":
            yield one


def _has(look: Look, path: str, text: str) -> bool:
    state = look.server.read(path)
    return state is not None and state.content == text.encode()


def clear_away(look: Look) -> Iterator[Finding]:
    """In another mode: the copies and the watch go."""
    paths = [f"{UNITS}/{CERTIFICATE_PATH_UNIT}", f"{UNITS}/{CERTIFICATE_SERVICE}", CERTIFICATE, KEY]
    left = [path for path in paths if look.server.read(path) is not None]
    if not left:
        return
    why = "another mode is used now"
    fix: list[Action] = []
    if paths[0] in left:
        gone = UnitIs(CERTIFICATE_PATH_UNIT, active=False, enabled=False, exists=False)
        fix.append(Run(("systemctl", "disable", "--now", CERTIFICATE_PATH_UNIT), "end the watch", makes=(gone,)))
    fix += [Remove(path, why) for path in left]
    if CERTIFICATE in left or KEY in left:
        empty = ("find", "/etc/caddy/vllm-https", "-maxdepth", "0", "-empty", "-delete")
        fix.append(Run(empty, "the directory of the copies", makes=(FileIs("/etc/caddy/vllm-https", None),)))
    yield Finding("tls.custom_left", Level.DRIFT, "copies and units of mode custom are left", fix=tuple(fix))
