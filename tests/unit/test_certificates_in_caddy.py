"""The real Caddy agrees: it takes each pair that is returned, and what it refuses is refused before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form

from tests.unit.certificates import (
    CHAIN,
    DAY,
    DOMAIN,
    LEAF,
    LOWER,
    NOW,
    OTHER,
    ROOT,
    TRADITIONAL,
    make,
    make_ca,
    make_key,
    read,
    write_key,
)
from wizard.parse.certificates import read_pair

CADDY = Path(sys.executable).with_name("caddy")
CADDYFILE = "{{\nadmin off\nauto_https off\n}}\nhttps://llm.example.com {{\ntls {chain} {key}\nrespond 204\n}}\n"


def caddy_accepts(chain: bytes, key: bytes, directory: Path) -> bool:
    (directory / "chain.pem").write_bytes(chain)
    (directory / "key.pem").write_bytes(key)
    text = CADDYFILE.format(chain=directory / "chain.pem", key=directory / "key.pem")
    (directory / "Caddyfile").write_text(text)
    argv = [str(CADDY), "validate", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]
    environment = {"HOME": str(directory), "PATH": os.environ["PATH"]}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 or "loading certificates" in ended.stderr, ended.stderr
    return ended.returncode == 0


RSA = make("llm", LOWER, names=(DOMAIN,), key=make_key("rsa2048"))
REAL = {
    "chain": (CHAIN, LEAF.key_pem),
    "with-root": (CHAIN + ROOT.pem, LEAF.key_pem),
    "bom": (b"\xef\xbb\xbf" + CHAIN, b"\xef\xbb\xbf" + LEAF.key_pem),
    "joined": (LEAF.pem.rstrip() + LOWER.pem, LEAF.key_pem),
    "indented": (CHAIN.replace(b"\n", b"\n  "), LEAF.key_pem.replace(b"\n", b"\r\n  ")),
    "one-file": (LEAF.key_pem + CHAIN, LEAF.key_pem + CHAIN),
    "other-key-first": (CHAIN, OTHER.key_pem + LEAF.key_pem),
    "pkcs1": (RSA.pem + LOWER.pem, write_key(RSA.key, TRADITIONAL)),
    "self-signed": (make("llm", names=(DOMAIN,)).pem, LEAF.key_pem),
    "odd-names": (make("llm", LOWER, names=(DOMAIN, "a b", "x..y", "*")).pem, LEAF.key_pem),
    **{
        kind: (make("llm", LOWER, names=(DOMAIN,), key=make_key(kind)).pem, write_key(make_key(kind)))
        for kind in ("p384", "p521", "ed25519")
    },
}


@pytest.mark.allow_commands("caddy")
@pytest.mark.parametrize("case", REAL)
def test_real_caddy_accepts_every_pair_that_is_returned(case: str, tmp_path: Path) -> None:
    pair, _ = read_pair(*REAL[case], DOMAIN, NOW)
    assert pair is not None
    assert caddy_accepts(pair.chain, pair.key, tmp_path)


REFUSED = {
    "encrypted_key": (CHAIN, write_key(LEAF.key, password=b"secret")),
    "encrypted_key-traditional": (CHAIN, write_key(LEAF.key, TRADITIONAL, b"secret")),
    "key_mismatch": (CHAIN, OTHER.key_pem),
    "chain_order": (LOWER.pem + LEAF.pem, LEAF.key_pem),
    "der": (LEAF.der, LEAF.key_pem),
    "openssh_key": (CHAIN, write_key(LEAF.key, form.PrivateFormat.OpenSSH)),
    "unsupported_key": (
        make("llm", LOWER, names=(DOMAIN,), key=make_key("brainpool")).pem,
        write_key(make_key("brainpool")),
    ),
}


@pytest.mark.allow_commands("caddy")
@pytest.mark.parametrize("case", REFUSED)
def test_real_caddy_refuses_it_too(case: str, tmp_path: Path) -> None:
    assert case.partition("-")[0] in read(*REFUSED[case])[1]
    assert not caddy_accepts(*REFUSED[case], tmp_path)


SILENT = {
    "expired": make("llm", LOWER, names=(DOMAIN,), ends=NOW - DAY),
    "wrong_name": OTHER,
    "no_san": make(DOMAIN, LOWER),
    "weak_key": make("llm", LOWER, names=(DOMAIN,), key=make_key("rsa1024")),
    "unsupported_key": make("llm", LOWER, names=(DOMAIN,), key=make_key("p224")),
    "is_ca": make_ca("Example CA 2", LOWER, number=4, names=(DOMAIN,)),
}


@pytest.mark.allow_commands("caddy")
@pytest.mark.parametrize("code", SILENT)
def test_what_caddy_takes_without_a_word_is_caught_here(code: str, tmp_path: Path) -> None:
    made = SILENT[code]
    assert code in read(made)[1]
    assert caddy_accepts(made.pem + LOWER.pem, made.key_pem, tmp_path)
