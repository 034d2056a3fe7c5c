"""What Caddy takes without a word and clients don't: names, dates, chain, kinds of key and signature."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from tests.unit.certificates import (
    CHAIN,
    DAY,
    DOMAIN,
    LEAF,
    LOWER,
    NOW,
    OTHER,
    ROOT,
    UPPER,
    Made,
    accepted,
    make,
    make_ca,
    make_key,
    pem_of,
    read,
)
from wizard.parse.certificates import read_pair

# ── names ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "domain", "fits"),
    [
        ("llm.example.com", "LLM.Example.COM", True),
        ("LLM.example.com", "llm.example.com.", True),
        ("*.example.com", "llm.example.com", True),
        ("*.example.com", "a.llm.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.com", "example.com", False),
        ("l*.example.com", "llm.example.com", False),
        ("*.*.example.com", "a.llm.example.com", False),
        ("*", "example.com", False),
        ("example.com", "llm.example.com", False),
        ("xn--bcher-kva.example", "bücher.example", True),
        ("*.xn--bcher-kva.example", "llm.BÜCHER.example", True),
        ("llm.example.com.", "llm.example.com", False),
        ("llm.example.com", "", False),
        ("llm.example.com", "llm..example.com", False),
    ],
)
def test_names_are_compared_as_clients_do(name: str, domain: str, fits: bool) -> None:
    leaf = make("llm", LOWER, names=("first.example.org", name))
    assert read(leaf, domain=domain)[1] == ([] if fits else ["wrong_name"])


def test_common_name_is_not_a_name() -> None:
    assert read(make(DOMAIN, LOWER))[1] == ["no_san"]


def test_names_cannot_move_the_cursor_of_a_terminal() -> None:
    _, flaws = read_pair(make("\x1b[2Jllm", names=("evil\x1b[31m",)).pem, LEAF.key_pem, DOMAIN, NOW)
    assert flaws and not any("\x1b" in flaw.summary + flaw.remedy for flaw in flaws)


# ── dates ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("begins", "ends", "codes"),
    [
        (NOW - 90 * DAY, NOW - timedelta(seconds=1), ["expired"]),
        (NOW - 900 * DAY, NOW - 400 * DAY, ["expired"]),
        (NOW + timedelta(hours=1), NOW + 90 * DAY, ["not_yet_valid"]),
        (NOW - 76 * DAY, NOW + 13 * DAY, ["expires_soon?"]),
        (NOW - 76 * DAY, NOW + 14 * DAY, []),
        (NOW - 2 * DAY, NOW + 4 * DAY, []),
        (NOW - 5 * DAY, NOW + 1 * DAY, ["expires_soon?"]),
        (NOW, NOW + 825 * DAY, []),
        (NOW, NOW + 3650 * DAY, ["long_lived?"]),
    ],
)
def test_dates_of_the_certificate(begins: datetime, ends: datetime, codes: list[str]) -> None:
    assert read(make("llm", LOWER, names=(DOMAIN,), begins=begins, ends=ends))[1] == codes


@pytest.mark.parametrize(
    ("begins", "ends", "code"),
    [
        (NOW - 900 * DAY, NOW - DAY, "intermediate_expired"),
        (NOW + DAY, NOW + 900 * DAY, "intermediate_not_yet_valid"),
        (NOW - 900 * DAY, NOW + DAY, "intermediate_expires_soon?"),
    ],
)
def test_dates_of_an_intermediate(begins: datetime, ends: datetime, code: str) -> None:
    lower = make_ca("Example CA 1", UPPER, number=3, begins=begins, ends=ends)
    assert read(LEAF.pem + lower.pem)[1] == [code]


def test_of_two_certificates_of_one_ca_the_valid_one_counts() -> None:
    old = make_ca("Example CA 1", ROOT, number=3, begins=NOW - 900 * DAY, ends=NOW - DAY)
    assert read(LEAF.pem + old.pem + LOWER.pem)[1] == []


# ── the chain ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "chain",
    [
        LOWER.pem + LEAF.pem,
        LEAF.pem + UPPER.pem + LOWER.pem,
        UPPER.pem + LOWER.pem + LEAF.pem,
        OTHER.pem + LEAF.pem + LOWER.pem,
    ],
    ids=["leaf-second", "intermediates-swapped", "reversed", "another-first"],
)
def test_order_of_the_chain(chain: bytes) -> None:
    assert read(chain)[1][0] == "chain_order"


def test_leaf_alone_is_a_warning_that_says_where_its_issuer_is() -> None:
    where = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example.com/ca1.der")
    )
    leaf = make("llm", LOWER, x509.AuthorityInformationAccess([where]), names=(DOMAIN,))
    pair, flaws = read_pair(leaf.pem, leaf.key_pem, DOMAIN, NOW)
    assert pair is not None and pair.chain_length == 1
    assert [flaw.code for flaw in flaws] == ["chain_incomplete"]
    assert "http://ca.example.com/ca1.der" in flaws[0].remedy


def test_issuer_url_that_a_shell_would_run_is_not_repeated() -> None:
    url = x509.UniformResourceIdentifier("http://ca.example.com/$(reboot)")
    where = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, url)
    leaf = make("llm", LOWER, x509.AuthorityInformationAccess([where]), names=(DOMAIN,))
    _, flaws = read_pair(leaf.pem, leaf.key_pem, DOMAIN, NOW)
    assert flaws and not any("reboot" in flaw.remedy for flaw in flaws)


def test_intermediate_of_another_ca_is_refused() -> None:
    assert read(LEAF.pem + make_ca("Example CA 2", UPPER, number=4).pem)[1] == ["wrong_intermediate"]


def test_intermediate_of_the_same_name_with_another_key_is_refused_and_said() -> None:
    _, flaws = read_pair(LEAF.pem + make_ca("Example CA 1", UPPER, number=4).pem, LEAF.key_pem, DOMAIN, NOW)
    assert [flaw.code for flaw in flaws] == ["wrong_intermediate"]
    assert "another key" in flaws[0].summary


def test_certificate_that_is_no_part_of_the_chain_is_a_warning() -> None:
    pair, codes = read(CHAIN + OTHER.pem)
    assert codes == ["unrelated_certificate?"]
    assert pair is not None and pair.chain_length == 4


def test_cross_signed_intermediate_is_no_stranger() -> None:
    other_root = make_ca("Other Root", number=5)
    accepted(CHAIN + make_ca("Example Upper CA", other_root, number=2).pem)


def test_certificate_given_twice_is_kept_once() -> None:
    pair, codes = read(LEAF.pem + CHAIN)
    assert codes == ["duplicate?"]
    assert pair is not None and pair.chain == CHAIN


def test_bundle_of_all_cas_is_refused() -> None:
    many = b"".join(make_ca(f"CA {number}", number=1).pem for number in range(12))
    assert read(LEAF.pem + many)[1] == ["long_chain"]


def test_issuer_that_is_no_ca_is_refused() -> None:
    false = make("Example CA 1", UPPER, key=LOWER.key)
    assert "not_a_ca" in read(LEAF.pem + false.pem)[1]


def test_issuer_with_more_cas_below_it_than_allowed_is_refused() -> None:
    upper = make_ca("Example Upper CA", ROOT, number=2, path_length=0)
    assert read(LEAF.pem + LOWER.pem + upper.pem)[1] == ["path_length"]
    accepted(LEAF.pem + make_ca("Example CA 1", UPPER, number=3, path_length=0).pem)


@pytest.mark.parametrize(
    ("permitted", "excluded", "allowed"),
    [
        (["example.com"], None, True),
        ([".example.com"], None, True),
        (["EXAMPLE.com", "example.org"], None, True),
        (["example.org"], None, False),
        (["xample.com"], None, False),
        (None, ["example.com"], False),
        (None, ["example.org"], True),
        (["example.com"], ["llm.example.com"], False),
        (None, [""], False),
    ],
)
def test_name_constraints_of_an_issuer(permitted: list[str] | None, excluded: list[str] | None, allowed: bool) -> None:
    def trees(names: list[str] | None) -> list[x509.DNSName] | None:
        return [x509.DNSName(name) for name in names] if names else None

    limits = x509.NameConstraints(trees(permitted), trees(excluded))
    lower = make_ca("Example CA 1", UPPER, limits, number=3)
    assert read(LEAF.pem + lower.pem)[1] == ([] if allowed else ["name_constraints"])


# ── kinds of certificate, key and signature ───────────────────────────────────────────────────────────


def test_self_signed_is_a_warning_and_its_chain_is_whole() -> None:
    leaf = make("llm", names=(DOMAIN,))
    pair, codes = read(leaf.pem)
    assert codes == ["self_signed?"]
    assert pair is not None and (pair.self_signed, pair.issuer) == (True, "llm")


def test_self_signed_as_openssl_req_makes_it_is_a_warning() -> None:
    leaf = make("llm", None, x509.BasicConstraints(ca=True, path_length=None), names=(DOMAIN,))
    assert read(leaf.pem)[1] == ["self_signed?"]


def test_ca_as_a_server_is_refused() -> None:
    ca = make_ca("Example CA 2", LOWER, number=4, names=(DOMAIN,))
    assert read(ca)[1] == ["is_ca"]


def test_client_certificate_is_refused() -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    assert read(make("llm", LOWER, usage, names=(DOMAIN,)))[1] == ["wrong_purpose"]
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    assert read(make("llm", LOWER, both, names=(DOMAIN,)))[1] == []


def test_key_usage_without_signing_is_a_warning() -> None:
    usage = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
    assert read(make("llm", LOWER, usage, names=(DOMAIN,)))[1] == ["key_usage?"]


def test_pre_certificate_is_refused() -> None:
    assert read(make("llm", LOWER, x509.PrecertPoison(), names=(DOMAIN,), critical=True))[1] == ["refused_by_clients"]


def test_unknown_critical_extension_is_refused() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
    assert read(make("llm", LOWER, unknown, names=(DOMAIN,), critical=True))[1] == ["refused_by_clients"]
    assert read(make("llm", LOWER, unknown, names=(DOMAIN,)))[1] == []


KEY_KINDS: dict[str, list[str]] = {
    "p256": [],
    "p384": [],
    "p521": ["rare_key?"],
    "p224": ["unsupported_key"],
    "secp256k1": ["unsupported_key"],
    "brainpool": ["unsupported_key"],
    "rsa2048": [],
    "rsa1024": ["weak_key"],
    "ed25519": ["rare_key?"],
    "ed448": ["unsupported_key"],
    "dsa": ["unsupported_key"],
}


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_kind_and_size_of_the_key(kind: str) -> None:
    assert read(make("llm", LOWER, names=(DOMAIN,), key=make_key(kind)))[1] == KEY_KINDS[kind]


def test_weak_key_of_an_intermediate_is_refused() -> None:
    lower = make_ca("Example CA 1", UPPER, key=make_key("rsa1024"))
    leaf = make("llm", lower, names=(DOMAIN,))
    assert read(leaf.pem + lower.pem)[1] == ["weak_key"]


def test_key_that_is_for_pss_alone_is_refused() -> None:
    # As `openssl genpkey -algorithm RSA-PSS` makes it: the kind has no parameters.
    leaf = make("llm", LOWER, names=(DOMAIN,), key=make_key("rsa2048"))
    kind, pss = bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex("300d06092a864886f70d01010a3000")
    assert leaf.der.count(kind) == 1
    assert "unsupported_key" in read(pem_of(leaf.der.replace(kind, pss)), leaf.key_pem)[1]


def signed_with(made: Made, number: int) -> bytes:
    """The certificate's PEM with the algorithm said to be RSA with another hash: the library makes no such ones."""
    sha256 = bytes.fromhex("06092a864886f70d01010b")
    assert made.der.count(sha256) == 2
    return pem_of(made.der.replace(sha256, sha256[:-1] + bytes([number])))


@pytest.mark.parametrize(("number", "code"), [(5, "weak_signature?"), (4, "weak_signature")], ids=["sha1", "md5"])
def test_old_hash_is_named_and_the_chain_is_followed_all_the_same(number: int, code: str) -> None:
    lower = make_ca("Example CA 1", UPPER, key=make_key("rsa2048"))
    leaf = make("llm", lower, names=(DOMAIN,))
    assert read(signed_with(leaf, number) + lower.pem)[1] == [code]


def test_old_hash_of_a_root_does_not_matter() -> None:
    root = make_ca("Old Root", key=make_key("rsa2048"))
    leaf = make("llm", root, names=(DOMAIN,))
    accepted(leaf.pem + signed_with(root, 5))


def test_signature_algorithm_that_is_named_in_two_ways_is_refused() -> None:
    sha256 = bytes.fromhex("06082a8648ce3d040302")
    place = LEAF.der.rindex(sha256)
    two = LEAF.der[:place] + sha256[:-1] + b"\x03" + LEAF.der[place + len(sha256) :]
    assert "refused_by_clients" in read(pem_of(two))[1]


def test_negative_serial_number_is_refused() -> None:
    negative = LEAF.der.replace(bytes.fromhex("02051234567890"), bytes.fromhex("02059234567890"))
    assert "refused_by_clients" in read(pem_of(negative))[1]
