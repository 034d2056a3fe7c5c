"""An archive of `backup`: what is in it, how it is written, and how one is read that may be anybody's.

A tar of plain files, packed by gzip: manifest.json, then each file by its path on the server. Nothing is unpacked to
disk: it is read into memory, and what is not just as the manifest says, or stands where no backup puts a file, refuses
the whole.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from . import __version__
from .acme import issuer_directory
from .caddyfile import ADDITIONS
from .model import SetupError
from .parse.account import read_account
from .parse.pem import read_blocks, write_block
from .paths import ANSWERS, CADDY_HOME, CADDYFILE, NAME, ROOT_CERTIFICATE, SITE_FILE

if TYPE_CHECKING:
    import tarfile

    from .answers import Answers

FORMAT = 1
MANIFEST = "manifest.json"
DATA = f"{CADDY_HOME}/.local/share/caddy"
AUTHORITY = f"{DATA}/pki/authorities/local"
# An archive has ten files and 30 KB; additions of the operator's may make it more.
MOST_FILES = 200
LARGEST_PACKED, LARGEST, LARGEST_FILE = 4 * 1024 * 1024, 16 * 1024 * 1024, 1024 * 1024  # bytes
LONGEST = 1024
_PART = r"[A-Za-z0-9@_+-][A-Za-z0-9@._+-]*"
_ADDITION = re.compile(rf"{re.escape(ADDITIONS)}/{_PART}\.caddy")
_MANIFEST_KEYS = {"format", "program", "made_by", "host", "made", "mode", "hosts", "files"}


class Role(StrEnum):
    """What a file is there for. What is only `shown` is made anew from the answers."""

    ANSWERS = "answers"
    AUTHORITY = "authority"
    ISSUED = "issued"
    NAMED = "named"
    ADDITION = "addition"
    SHOWN = "shown"


class BadArchive(SetupError):
    """It is no archive of this program, or is damaged, or was tampered with."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this archive can't be used: {what}. Nothing was changed.",
            "make one on the server that it is of: sudo vllm-https-setup backup FILE",
        )


@dataclass(frozen=True)
class Kept:
    """A file of an archive, and where it belongs."""

    path: str
    content: bytes = field(repr=False)
    role: Role


@dataclass(frozen=True)
class Archive:
    """`host` is the server that it is of, `made` when (UTC), `hosts` what clients call; `raw` is the whole."""

    host: str
    made: str
    mode: str
    hosts: tuple[str, ...]
    files: tuple[Kept, ...]
    raw: bytes = field(repr=False)

    @property
    def answers(self) -> bytes:
        return next(one.content for one in self.files if one.role is Role.ANSWERS)

    def having(self, *roles: Role) -> tuple[Kept, ...]:
        return tuple(one for one in self.files if one.role in roles)

    @property
    def name(self) -> str:
        return f"the backup of {self.host} of {self.made}"


def role_of(path: str, answers: Answers) -> Role | None:
    """What a file of this path is there for, by these answers; None: no backup has one."""
    tls = answers.tls
    if path == ANSWERS:
        return Role.ANSWERS
    if path in (CADDYFILE, SITE_FILE, ROOT_CERTIFICATE):
        return Role.SHOWN
    if _ADDITION.fullmatch(path):
        return Role.ADDITION
    if tls.mode == "internal":
        return Role.AUTHORITY if path in (f"{AUTHORITY}/root.key", f"{AUTHORITY}/root.crt") else None
    if tls.mode == "custom":
        return Role.NAMED if path in (tls.certificate, tls.private_key) else None
    if path in (tls.acme_ca_file, tls.eab_file):
        return Role.NAMED
    issuer, domain = issuer_directory(tls.acme_directory), (tls.domain or "").lower()
    issued = f"{DATA}/certificates/{issuer}/{domain}/{domain}."
    account = rf"{re.escape(f'{DATA}/acme/{issuer}/users')}/{_PART}/{_PART}\.(key|json)"
    is_ours = path in (f"{issued}key", f"{issued}crt", f"{issued}json") or re.fullmatch(account, path)
    return Role.ISSUED if is_ours else None


def normal(kept: Kept, answers: Answers) -> bytes | None:
    """The content as a backup has it, None where it is not what its path says. Of a file that the answers name, which
    may be anywhere, nothing is left but its PEM blocks, or the two words of an account."""
    if kept.role is Role.NAMED and kept.path == answers.tls.eab_file:
        account, _ = read_account(kept.content.decode("utf-8", "replace"))
        return f"{account.key_id}\n{account.mac_key}\n".encode() if account else None
    if kept.path.endswith(".json"):
        try:
            return kept.content if isinstance(json.loads(kept.content), dict) else None
        except (ValueError, RecursionError):
            return None
    if kept.role not in (Role.NAMED, Role.AUTHORITY, Role.ISSUED):
        return kept.content
    blocks = read_blocks(kept.content)
    if not blocks or any(one.der is None or one.encrypted for one in blocks):
        return None
    is_key = kept.path.endswith(".key") if kept.role is not Role.NAMED else kept.path == answers.tls.private_key
    # A file may have both: to each its own.
    own = [one for one in blocks if (one.is_private_key or one.label == "EC PARAMETERS") == is_key]
    if not any(one.is_private_key == is_key for one in own):
        return None
    return b"".join(write_block(one.label, one.der) for one in own if one.der is not None)


# ── writing ──


def pack(files: Iterable[Kept], *, host: str, made: str, mode: str, hosts: Iterable[str]) -> bytes:
    """The archive of these files."""
    import gzip
    import io
    import tarfile

    kept = tuple(files)
    manifest = {
        "format": FORMAT,
        "program": NAME,
        "made_by": __version__,
        "host": host,
        "made": made,
        "mode": mode,
        "hosts": list(hosts),
        "files": [
            {"path": one.path, "size": len(one.content), "sha256": hashlib.sha256(one.content).hexdigest()}
            for one in kept
        ],
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for one in kept:
            _add(tar, one.path.lstrip("/"), one.content)
    return gzip.compress(buffer.getvalue(), mtime=0)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    import io
    import tarfile

    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    tar.addfile(info, io.BytesIO(content))


# ── reading ──


def read(raw: bytes) -> Archive:
    """What the archive has. Raises BadArchive, and AnswersError where its answers are wrong."""
    from .answers import load

    members = _members(_unpack(raw))
    manifest = _manifest(members.pop(MANIFEST, None))
    said: dict[str, dict[str, Any]] = {one["path"]: one for one in manifest["files"]}
    if len(said) != len(manifest["files"]) or {path.lstrip("/") for path in said} != set(members):
        raise BadArchive("it has other files than its manifest names")
    for path, one in said.items():
        if hashlib.sha256(members[path.lstrip("/")]).hexdigest() != one["sha256"]:
            raise BadArchive(f"{path} is damaged: its sha256 is another one than the manifest's")
    if ANSWERS not in said:
        raise BadArchive("it has no answers")
    answers = load(members[ANSWERS.lstrip("/")])
    files = tuple(_kept(path, members[path.lstrip("/")], answers) for path in said)
    _check_whole(files, answers)
    hosts = tuple(manifest["hosts"])
    return Archive(manifest["host"], manifest["made"], answers.tls.mode, hosts, files, raw)


def _unpack(raw: bytes) -> bytes:
    import zlib

    if len(raw) > LARGEST_PACKED:
        raise BadArchive(f"it has more than {LARGEST_PACKED // 1024 // 1024} MiB, which no backup has")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(raw, LARGEST + 1)
    except zlib.error:
        raise BadArchive("it is not packed by gzip, or is damaged") from None
    if len(data) > LARGEST:
        raise BadArchive(f"unpacked it has more than {LARGEST // 1024 // 1024} MiB, which no backup has")
    if not unpacker.eof or unpacker.unused_data:
        raise BadArchive("its end is missing" if not unpacker.eof else "something follows its end")
    return data


def _members(data: bytes) -> dict[str, bytes]:
    """Each file by its name: plain ones alone, none twice."""
    import io
    import tarfile

    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                name = member.name
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise BadArchive(f"{name[:200]} in it is no plain file")
                if name.startswith(("/", "..")) or posixpath.normpath(name) != name:
                    raise BadArchive(f"{name[:200]} in it leads out of it")
                if name in found or len(found) > MOST_FILES or member.size > LARGEST_FILE:
                    raise BadArchive(f"{name[:200]} in it is there twice, is one of too many, or is too large")
                opened = tar.extractfile(member)
                found[name] = opened.read(LARGEST_FILE + 1) if opened else b""
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError):
        raise BadArchive("it is no tar archive, or is damaged") from None
    return found


def _manifest(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"")
        if not isinstance(found, dict) or found.get("program") != NAME:
            raise ValueError
    except (ValueError, RecursionError):
        raise BadArchive(f"it is none of {NAME}") from None
    if found.get("format") != FORMAT:
        raise BadArchive(f"its format is {str(found.get('format'))[:20]}, and this program reads format {FORMAT}")
    if found.keys() != _MANIFEST_KEYS or not _is_ours(found):
        raise BadArchive("its manifest is not as this program writes it")
    return found


def _is_ours(manifest: dict[str, Any]) -> bool:
    """Whether each thing in it is of its kind."""
    files, hosts = manifest["files"], manifest["hosts"]
    if not isinstance(files, list) or not isinstance(hosts, list) or not hosts:
        return False
    texts = [*(manifest[key] for key in ("host", "made", "mode")), *hosts]
    for one in files:
        if not isinstance(one, dict):
            return False
        texts += [one.get("path"), one.get("sha256")]
    known = all(isinstance(text, str) and len(text) <= LONGEST for text in texts)
    return known and all(re.match("/[^/]", one["path"]) for one in files)


def _kept(path: str, content: bytes, answers: Answers) -> Kept:
    role = role_of(path, answers)
    if role is None:
        raise BadArchive(f"it has {path[:200]}, where no backup by these answers has anything")
    kept = Kept(path, content, role)
    if normal(kept, answers) != content:
        raise BadArchive(f"{path[:200]} in it is not what it should be")
    return kept


def _check_whole(files: tuple[Kept, ...], answers: Answers) -> None:
    """What clients trust is there, and in mode internal is one CA's."""
    by_path = {one.path: one.content for one in files}
    tls = answers.tls
    needed = {
        "internal": (f"{AUTHORITY}/root.key", f"{AUTHORITY}/root.crt"),
        "custom": (tls.certificate or "", tls.private_key or ""),
        "acme": tuple(path for path in (tls.acme_ca_file, tls.eab_file) if path),
    }[tls.mode]
    if missing := [path for path in needed if path not in by_path]:
        raise BadArchive(f"{missing[0]} is missing in it")
    if tls.mode == "internal" and not _belong_together(*(by_path[path] for path in needed)):
        raise BadArchive("the key of the CA in it is of another certificate")


def _belong_together(key: bytes, certificate: bytes) -> bool:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        ours = load_pem_private_key(key, None).public_key()
        return bool(ours == x509.load_pem_x509_certificate(certificate).public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
