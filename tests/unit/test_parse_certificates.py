"""A certificate and its key for mode custom: what is right, in whichever form; any bytes get an answer."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.certificates import (
    CHAIN,
    DAY,
    DOMAIN,
    EC_PARAMETERS,
    LEAF,
    LOWER,
    NOW,
    OTHER,
    ROOT,
    UPPER,
    Made,
    accepted,
    make,
    make_key,
    pem_of,
    write_key,
)
from wizard.parse.certificates import Flaw, read_pair
from wizard.parse.pem import read_blocks


def test_pair_says_what_the_certificate_is() -> None:
    pair = accepted()
    assert (pair.names, pair.issuer, pair.key_type) == ((DOMAIN,), "Example CA 1", "P-256")
    assert (pair.not_before, pair.not_after) == (NOW - 30 * DAY, NOW + 60 * DAY)
    assert (pair.self_signed, pair.chain_length) == (False, 3)
    assert pair.fingerprint_sha256.replace(":", "") == LEAF.certificate.fingerprint(hashes.SHA256()).hex().upper()


def test_right_files_are_kept_byte_for_byte() -> None:
    pair = accepted()
    assert (pair.chain, pair.key) == (CHAIN, LEAF.key_pem)


@pytest.mark.parametrize("end", [b"", ROOT.pem])
def test_root_is_kept_where_it_was_given(end: bytes) -> None:
    assert accepted(CHAIN + end).chain == CHAIN + end


@pytest.mark.parametrize(
    "dressed",
    [
        b"\xef\xbb\xbf" + CHAIN,
        CHAIN.replace(b"\n", b"\r\n"),
        CHAIN.replace(b"\n", b"\r"),
        CHAIN.replace(b"\n", b"\n    "),
        LEAF.pem.rstrip() + LOWER.pem.rstrip() + UPPER.pem.rstrip(),
        b"subject=CN = llm\nBag Attributes\n    localKeyID: 01\n" + CHAIN + b"\n\ntrailing words",
        LEAF.key_pem + CHAIN,
        LEAF.pem + write_key(LEAF.key, form.PrivateFormat.TraditionalOpenSSL) + LOWER.pem + UPPER.pem,
        CHAIN.replace(b" CERTIFICATE-", b" X509 CERTIFICATE-"),
    ],
    ids=["bom", "crlf", "cr", "indented", "joined", "comments", "key-before", "key-between", "old-label"],
)
def test_chain_is_brought_into_the_form_that_caddy_reads(dressed: bytes) -> None:
    assert accepted(dressed).chain == CHAIN


@pytest.mark.parametrize(
    "dressed",
    [
        write_key(LEAF.key, form.PrivateFormat.TraditionalOpenSSL),
        EC_PARAMETERS + write_key(LEAF.key, form.PrivateFormat.TraditionalOpenSSL),
        b"\xef\xbb\xbf" + LEAF.key_pem.replace(b"\n", b"\r\n"),
        CHAIN + LEAF.key_pem,
        LEAF.key_pem * 2,
    ],
    ids=["sec1", "ec-parameters", "bom-crlf", "one-file", "twice"],
)
def test_key_is_brought_into_the_form_that_caddy_reads(dressed: bytes) -> None:
    assert accepted(key=dressed).key == LEAF.key_pem


def test_pkcs1_key_becomes_pkcs8() -> None:
    leaf = make("llm", LOWER, names=(DOMAIN,), key=make_key("rsa2048"))
    pair = accepted(leaf.pem + LOWER.pem, write_key(leaf.key, form.PrivateFormat.TraditionalOpenSSL))
    assert (pair.key, pair.key_type) == (leaf.key_pem, "RSA 2048")


def test_no_text_has_anything_of_the_key() -> None:
    secret = base64.b64encode(LEAF.key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption()))
    words = {secret[place : place + 12].decode() for place in range(len(secret) - 12)}
    damaged = LEAF.key_pem.replace(b"-----END PRIVATE KEY-----", b"")
    shown = [repr(accepted())]
    for key in (damaged, LEAF.key_pem[:-40] + b"!" + LEAF.key_pem[-40:], LEAF.key_pem.replace(b"PRIVATE", b"PUBLIC")):
        shown += [repr(read_pair(chain, key, DOMAIN, NOW)) for chain in (CHAIN, key, OTHER.pem)]
    assert not [text for text in shown for word in words if word in text]


def never_raises(chain: bytes, key: bytes, domain: str = DOMAIN) -> tuple[Flaw, ...]:
    pair, flaws = read_pair(chain, key, domain, NOW)
    assert (pair is None) == any(flaw.severity == "blocked" for flaw in flaws)
    return flaws


@given(st.binary(), st.binary(), st.binary().map(lambda name: name.decode("latin-1")))
def test_any_bytes_get_an_answer(chain: bytes, key: bytes, domain: str) -> None:
    assert never_raises(chain, key, domain)


@given(st.integers(0, len(CHAIN)), st.binary(max_size=4), st.integers(0, 40))
def test_damaged_text_gets_an_answer(place: int, damage: bytes, lost: int) -> None:
    never_raises(CHAIN[:place] + damage + CHAIN[place + lost :], LEAF.key_pem)
    never_raises(CHAIN, LEAF.key_pem[:place] + damage + LEAF.key_pem[place + lost :])


@given(st.integers(0, len(LEAF.der) - 1), st.integers(1, 255))
def test_damaged_certificate_gets_an_answer(place: int, flip: int) -> None:
    der = bytearray(LEAF.der)
    der[place] ^= flip
    never_raises(pem_of(bytes(der)) + LOWER.pem, LEAF.key_pem)
    never_raises(LEAF.pem + pem_of(bytes(der)), LEAF.key_pem)


@given(st.permutations([LEAF, LOWER, UPPER, ROOT, OTHER]), st.integers(1, 5))
def test_what_is_accepted_begins_with_the_keys_certificate(order: list[Made], count: int) -> None:
    pair, _ = read_pair(b"".join(one.pem for one in order[:count]), LEAF.key_pem, DOMAIN, NOW)
    if pair is not None:
        assert pair.chain.startswith(LEAF.pem)


def test_blocks_of_a_key_print_without_their_content() -> None:
    assert all("der" not in repr(block) for block in read_blocks(LEAF.key_pem))
