"""An archive is read as if anybody might have made it: what is not just as a backup writes it refuses the whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.certificates import CHAIN, DOMAIN, EC_PARAMETERS, LEAF, LOWER, ROOT, make_key, write_key
from wizard import archive
from wizard.answers import AnswersError
from wizard.archive import AUTHORITY, DATA, BadArchive, Kept, Role
from wizard.paths import ANSWERS

INTERNAL = b"version: 1\ntls: {mode: internal}\n"
CUSTOM = f"version: 1\ntls: {{mode: custom, domain: {DOMAIN}, certificate: /srv/c.pem, private_key: /srv/k.pem}}\n"
ACME = f"version: 1\ntls: {{mode: acme, domain: {DOMAIN}, email: ops@example.com}}\n"
LETSENCRYPT = "acme-v02.api.letsencrypt.org-directory"
CA = {f"{AUTHORITY}/root.key": ROOT.key_pem, f"{AUTHORITY}/root.crt": ROOT.pem}

Tar = list[tuple[tarfile.TarInfo, bytes]]


def packed(answers: bytes = INTERNAL, files: dict[str, bytes] | None = None, mode: str = "internal") -> bytes:
    kept = {ANSWERS: answers, **(CA if files is None else files)}
    made = "2026-11-26 10:00 UTC"
    all_of = (Kept(path, content, Role.SHOWN) for path, content in kept.items())
    return archive.pack(all_of, host="gpu-01", made=made, mode=mode, hosts=["10.0.0.5"])


def members_of(raw: bytes) -> Tar:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(raw))) as tar:
        return [(one, opened.read() if (opened := tar.extractfile(one)) else b"") for one in tar]


def tarred(members: Tar) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


def plain(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, to: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, to
    return info, content if kind == tarfile.REGTYPE else b""


def with_more(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return tarred([*members_of(packed()), *members])


def with_manifest(change: Callable[[dict[str, Any]], object]) -> bytes:
    (info, content), *rest = members_of(packed())
    manifest = json.loads(content)
    changed = change(manifest)
    text = json.dumps(manifest if changed is None else changed).encode()
    info.size = len(text)
    return tarred([(info, text), *rest])


def damaged() -> bytes:
    changed = [
        (info, content.replace(b"internal", b"Internal") if info.name != "manifest.json" else content)
        for info, content in members_of(packed())
    ]
    return tarred(changed)


def test_what_is_packed_is_read_again() -> None:
    found = archive.read(packed())
    assert (found.host, found.mode, found.hosts) == ("gpu-01", "internal", ("10.0.0.5",))
    assert found.answers == INTERNAL
    assert {one.path: one.content for one in found.having(Role.AUTHORITY)} == CA
    assert b"PRIVATE KEY" not in repr(found).encode()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "not packed by gzip|end is missing"),
    "no gzip": (lambda: b"PK\3\4" * 100, "not packed by gzip"),
    "no tar": (lambda: gzip.compress(b"x" * 2000), "no tar archive"),
    "cut off": (lambda: packed()[:-40], "its end is missing"),
    "something after it": (lambda: packed() + b"x", "something follows"),
    "two in one": (lambda: packed() + packed(), "something follows"),
    "a bomb": (lambda: gzip.compress(bytes(64 * 1024 * 1024)), "unpacked it has more than 16 MiB"),
    "too large": (lambda: bytes(archive.LARGEST_PACKED + 1), "more than 4 MiB"),
    "a file too large": (lambda: with_more(plain("x", bytes(archive.LARGEST_FILE + 1))), "too large"),
    "too many files": (lambda: with_more(*(plain(f"x{one}") for one in range(300))), "too many"),
    "a path that leads out": (lambda: with_more(plain("../../etc/cron.d/x")), "leads out"),
    "an absolute path": (lambda: with_more(plain("/etc/cron.d/x")), "leads out"),
    "a path in a circle": (lambda: with_more(plain("etc/../etc/x")), "leads out"),
    "a symbolic link": (lambda: with_more(plain("etc/x", kind=tarfile.SYMTYPE, to="/etc/shadow")), "no plain file"),
    "a hard link": (lambda: with_more(plain("etc/x", kind=tarfile.LNKTYPE, to="etc/shadow")), "no plain file"),
    "a device": (lambda: with_more(plain("dev/sda", kind=tarfile.BLKTYPE)), "no plain file"),
    "a pipe": (lambda: with_more(plain("etc/x", kind=tarfile.FIFOTYPE)), "no plain file"),
    "a directory": (lambda: with_more(plain("etc", kind=tarfile.DIRTYPE)), "no plain file"),
    "a file twice": (lambda: with_more(plain("manifest.json")), "there twice"),
    "a file that the manifest lacks": (lambda: with_more(plain("etc/x")), "other files than its manifest"),
    "a file that only the manifest has": (lambda: tarred(members_of(packed())[:-1]), "other files"),
    "changed since": (damaged, "is damaged: its sha256"),
    "no manifest": (lambda: tarred(members_of(packed())[1:]), "none of vllm-https-setup"),
    "a later format": (lambda: with_manifest(lambda one: one.update(format=2)), "format is 2"),
    "another program's": (lambda: with_manifest(lambda one: one.update(program="other")), "none of vllm"),
    "a manifest that is a list": (lambda: with_manifest(lambda one: [one]), "none of vllm"),
    "more in the manifest": (lambda: with_manifest(lambda one: one.update(run="rm")), "not as this program"),
    "no hosts": (lambda: with_manifest(lambda one: one.update(hosts=[])), "not as this program"),
    "hosts that are numbers": (lambda: with_manifest(lambda one: one.update(hosts=[1])), "not as this program"),
    "files that are words": (lambda: with_manifest(lambda one: one.update(files=["x"])), "not as this program"),
    "a file named twice": (lambda: with_manifest(lambda one: one["files"].append(one["files"][0])), "other files"),
    "a path with two slashes": (
        lambda: with_manifest(lambda one: one["files"][0].update(path=f"/{ANSWERS}")),
        "not as this program",
    ),
    "no answers": (lambda: tarred([]), "none of vllm|no tar"),
    "no CA": (lambda: packed(files={}), "root.key is missing"),
    "another CA's key": (
        lambda: packed(files={**CA, f"{AUTHORITY}/root.key": write_key(make_key("p256", 7))}),
        "of another certificate",
    ),
    "a key that is none": (lambda: packed(files={**CA, f"{AUTHORITY}/root.key": b"x"}), "not what it should be"),
    "a place where nothing is": (lambda: packed(files={**CA, "/etc/cron.d/x": b"* * * * * root x"}), "no backup by"),
    "an addition's place, left": (
        lambda: packed(files={**CA, "/etc/caddy/vllm-https.d/.x.caddy": b""}),
        "no backup by these answers",
    ),
    "vLLM's env file": (lambda: packed(files={**CA, "/etc/vllm/vllm.env": b"VLLM_API_KEY=x"}), "no backup by"),
    "a CA in mode custom": (lambda: packed(CUSTOM.encode(), CA), "no backup by these answers"),
    "lines around a certificate": (
        lambda: packed(CUSTOM.encode(), {"/srv/c.pem": b"* * * * * root x\n" + CHAIN, "/srv/k.pem": LEAF.key_pem}),
        "/srv/c.pem in it is not what it should be",
    ),
    "a key in the certificate's place": (
        lambda: packed(CUSTOM.encode(), {"/srv/c.pem": LEAF.key_pem, "/srv/k.pem": LEAF.key_pem}),
        "/srv/c.pem in it is not what it should be",
    ),
    "another CA's account": (
        lambda: packed(ACME.encode(), {f"{DATA}/acme/other/users/ops@example.com/ops.key": LEAF.key_pem}),
        "no backup by these answers",
    ),
    "an account that leads out": (
        lambda: packed(ACME.encode(), {f"{DATA}/acme/{LETSENCRYPT}/users/../x/ops.key": LEAF.key_pem}),
        "leads out",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_archive_that_no_backup_writes_is_refused_as_a_whole(case: str) -> None:
    make, words = BAD[case]
    with pytest.raises(BadArchive, match=words) as raised:
        archive.read(make())
    assert "Nothing was changed" in raised.value.message


def test_wrong_answers_in_it_are_told_like_those_of_a_file() -> None:
    with pytest.raises(AnswersError, match=r"tls\.mode"):
        archive.read(packed(b"version: 1\ntls: {mode: internl}\n"))


@given(st.integers(min_value=0), st.binary(min_size=1, max_size=8))
def test_no_damage_of_an_archive_is_an_error_of_ours(place: int, put: bytes) -> None:
    raw = packed()
    at = place % len(raw)
    changed = raw[:at] + put + raw[at + len(put) :]
    try:
        found = archive.read(changed)
    except (BadArchive, AnswersError):
        return
    assert {one.path: hashlib.sha256(one.content).digest() for one in found.having(Role.AUTHORITY)} == {
        path: hashlib.sha256(content).digest() for path, content in CA.items()
    }


def test_of_files_that_the_answers_name_pem_alone_is_taken_along() -> None:
    from wizard.answers import load

    answers = load(CUSTOM.encode())
    both = b"Bag Attributes\n" + LEAF.key_pem.replace(b"\n", b"\r\n") + b"subject=llm\n" + LEAF.pem + LOWER.pem
    certificate = archive.normal(Kept("/srv/c.pem", both, Role.NAMED), answers)
    key = archive.normal(Kept("/srv/k.pem", EC_PARAMETERS + both, Role.NAMED), answers)
    assert certificate == LEAF.pem + LOWER.pem
    assert key == EC_PARAMETERS + LEAF.key_pem
    files = {"/srv/c.pem": certificate, "/srv/k.pem": key}
    assert archive.read(packed(CUSTOM.encode(), files, "custom")).mode == "custom"
