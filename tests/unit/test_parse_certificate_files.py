"""Files that are not what they should be, each named for what it is."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12

from tests.unit.certificates import (
    CHAIN,
    DAY,
    DOMAIN,
    EC_PARAMETERS,
    LEAF,
    LOWER,
    NOW,
    OTHER,
    TRADITIONAL,
    make,
    make_key,
    pem_of,
    read,
    write_key,
)
from wizard.parse.certificates import read_pair

# ── the key's file ────────────────────────────────────────────────────────────────────────────────────


KEYS = {
    "encrypted": (write_key(LEAF.key, password=b"secret"), "encrypted_key"),
    "encrypted-traditional": (write_key(LEAF.key, TRADITIONAL, b"secret"), "encrypted_key"),
    "openssh": (write_key(LEAF.key, form.PrivateFormat.OpenSSH), "openssh_key"),
    "anothers": (OTHER.key_pem, "key_mismatch"),
    "rsa-for-ec": (
        make_key("rsa2048").private_bytes(form.Encoding.PEM, TRADITIONAL, form.NoEncryption()),
        "key_mismatch",
    ),
    "the-cas": (LOWER.key_pem, "key_mismatch"),
    "two-others": (OTHER.key_pem + LOWER.key_pem, "key_mismatch"),
    "cut-off": (LEAF.key_pem[:80], "unreadable_key"),
    "literal-newlines": (LEAF.key_pem.replace(b"\n", b"\\n"), "unreadable_key"),
    "wrong-label-cut": (LEAF.key_pem.replace(b"PRIVATE KEY", b"RSA PRIVATE KEY")[:-60] + b"\n", "unreadable_key"),
    "empty": (b"", "empty"),
    "bom-alone": (b"\xef\xbb\xbf\r\n", "empty"),
    "text": (b"hunter2", "not_pem"),
    "utf16": (LEAF.key_pem.decode().encode("utf-16"), "utf16"),
    "utf16-without-bom": (LEAF.key_pem.decode().encode("utf-16-le"), "utf16"),
    "der": (LEAF.key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption()), "der"),
    "certificates": (CHAIN, "no_key"),
    "parameters-alone": (EC_PARAMETERS, "no_key"),
}


@pytest.mark.parametrize("case", KEYS)
def test_key_that_caddy_can_not_use_is_named(case: str) -> None:
    key, code = KEYS[case]
    assert read(key=key)[1] == [code]


def test_key_of_the_ca_is_said_to_be_the_cas() -> None:
    _, flaws = read_pair(CHAIN, LOWER.key_pem, DOMAIN, NOW)
    assert "Example CA 1, which should be on no server" in flaws[0].summary


def test_of_several_keys_the_fitting_one_is_used() -> None:
    pair, codes = read(key=OTHER.key_pem + LEAF.key_pem)
    assert codes == ["several_keys?"]
    assert pair is not None and pair.key == LEAF.key_pem


def test_exchanged_files_are_said_to_be_so() -> None:
    assert read(LEAF.key_pem, CHAIN)[1] == ["no_certificate", "no_key"]


def test_key_that_is_in_the_certificates_file_alone_is_pointed_to() -> None:
    _, flaws = read_pair(CHAIN + LEAF.key_pem, CHAIN, DOMAIN, NOW)
    assert [flaw.code for flaw in flaws] == ["no_key"]
    assert "in the certificate's file" in flaws[0].summary


# ── the certificate's file ────────────────────────────────────────────────────────────────────────────


REQUEST = x509.CertificateSigningRequestBuilder(LEAF.certificate.subject).sign(make_key("rsa2048"), hashes.SHA256())
PFX = pkcs12.serialize_key_and_certificates(b"llm", LEAF.key, LEAF.certificate, None, form.NoEncryption())


CHAINS = {
    "empty": (b"", "empty"),
    "nul": (b"\0" * 100, "empty"),
    "html": (b"<html>404 Not Found</html>", "not_pem"),
    "der": (LEAF.der, "der"),
    "pkcs12": (PFX, "pkcs12"),
    "pkcs7": (pkcs7.serialize_certificates([LEAF.certificate], form.Encoding.PEM), "no_certificate"),
    "pkcs7-der": (pkcs7.serialize_certificates([LEAF.certificate], form.Encoding.DER), "no_certificate"),
    "request": (REQUEST.public_bytes(form.Encoding.PEM), "no_certificate"),
    "trusted": (CHAIN.replace(b" CERTIFICATE-", b" TRUSTED CERTIFICATE-"), "no_certificate"),
    "utf16": (CHAIN.decode().encode("utf-16"), "utf16"),
    "cut-off": (LEAF.pem[:200], "unreadable_certificate"),
    "literal-newlines": (LEAF.pem.replace(b"\n", b"\\n"), "unreadable_certificate"),
    "bad-letter": (LEAF.pem[:100] + b"*" + LEAF.pem[100:], "unreadable_certificate"),
    "der-cut": (pem_of(LEAF.der[:-1]), "unreadable_certificate"),
    "not-x509": (pem_of(b"\x30\x03\x02\x01\x05"), "unreadable_certificate"),
    "garbage-behind": (CHAIN + pem_of(b"garbage"), "unreadable_certificate"),
    "no-end-line": (LEAF.pem.rsplit(b"-----END", 1)[0] + LOWER.pem, "unreadable_certificate"),
}


@pytest.mark.parametrize("case", CHAINS)
def test_certificate_that_caddy_or_clients_can_not_use_is_named(case: str) -> None:
    chain, code = CHAINS[case]
    assert read(chain)[1][0] == code


def test_where_the_servers_own_certificate_is_damaged_its_issuer_is_not_judged_in_its_place() -> None:
    assert read(CHAINS["no-end-line"][0])[1] == ["unreadable_certificate"]


def test_remedy_that_writes_a_key_keeps_it_from_other_users() -> None:
    for case in ("utf16", "literal-newlines"):
        _, flaws = read_pair(CHAIN, KEYS[case][0], DOMAIN, NOW)
        assert "umask 077; " in flaws[0].remedy


def test_all_flaws_are_said_at_once_those_that_block_first() -> None:
    leaf = make("llm", LOWER, names=("other.example.com",), key=make_key("rsa1024"), ends=NOW - DAY)
    codes = read(leaf.pem, OTHER.key_pem)[1]
    assert codes == ["key_mismatch", "expired", "wrong_name", "weak_key", "chain_incomplete?"]
