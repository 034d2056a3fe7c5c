"""Certificates and keys for the tests, made on the spot: a root, two CAs below it, a server."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from wizard.parse.certificates import Pair, read_pair

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
DOMAIN = "llm.example.com"

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)
KINDS: dict[str, Callable[[], PrivateKey]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "dsa": lambda: dsa.generate_private_key(2048),
}


@cache
def make_key(kind: str = "p256", number: int = 0) -> PrivateKey:
    """One for the whole session: making them takes longest."""
    return KINDS[kind]()


@dataclass(frozen=True)
class Made:
    """A certificate with its key, and what it says."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(form.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(form.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return write_key(self.key)


def write_key(
    key: PrivateKey, style: form.PrivateFormat = form.PrivateFormat.PKCS8, password: bytes | None = None
) -> bytes:
    encryption = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    return key.private_bytes(form.Encoding.PEM, style, encryption)


def make(
    title: str,
    issuer: Made | None = None,
    *extensions: x509.ExtensionType,
    names: tuple[str, ...] = (),
    key: PrivateKey | None = None,
    begins: datetime = NOW - 30 * DAY,
    ends: datetime = NOW + 60 * DAY,
    critical: bool = False,
) -> Made:
    """Signed by the issuer, or by itself."""
    own = key or make_key()
    signer = issuer.key if issuer else own
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    builder = x509.CertificateBuilder(
        subject_name=name,
        issuer_name=issuer.certificate.subject if issuer else name,
        public_key=own.public_key(),
        serial_number=0x1234567890,
        not_valid_before=begins,
        not_valid_after=ends,
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical)
    without_hash = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return Made(builder.sign(signer, None if without_hash else hashes.SHA256()), own)


def make_ca(
    title: str,
    issuer: Made | None = None,
    *more: x509.ExtensionType,
    number: int = 1,
    key: PrivateKey | None = None,
    path_length: int | None = None,
    names: tuple[str, ...] = (),
    begins: datetime = NOW - 30 * DAY,
    ends: datetime = NOW + 60 * DAY,
) -> Made:
    """A CA with the key of that number, or with this one."""
    basic = x509.BasicConstraints(ca=True, path_length=path_length)
    own = key or make_key("p256", number)
    return make(title, issuer, basic, *more, names=names, key=own, begins=begins, ends=ends)


ROOT = make_ca("Example Root", number=1)
UPPER = make_ca("Example Upper CA", ROOT, number=2)
LOWER = make_ca("Example CA 1", UPPER, number=3)
LEAF = make("llm", LOWER, names=(DOMAIN,))
OTHER = make("other", LOWER, names=("other.example.com",), key=make_key("p256", 9))
CHAIN = LEAF.pem + LOWER.pem + UPPER.pem

TRADITIONAL = form.PrivateFormat.TraditionalOpenSSL
EC_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


def pem_of(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def read(chain: bytes | Made = CHAIN, key: bytes | None = None, domain: str = DOMAIN) -> tuple[Pair | None, list[str]]:
    """The pair, and the codes of the flaws: those that block as they are, warnings with a question mark."""
    if isinstance(chain, Made):
        key = key if key is not None else chain.key_pem
        chain = chain.pem + LOWER.pem
    pair, flaws = read_pair(chain, LEAF.key_pem if key is None else key, domain, NOW)
    assert (pair is None) == any(flaw.severity == "blocked" for flaw in flaws)
    assert [flaw.severity for flaw in flaws] == sorted(flaw.severity for flaw in flaws)
    assert all(flaw.summary and flaw.remedy and flaw.severity in ("blocked", "warn") for flaw in flaws)
    return pair, [flaw.code + "?" * (flaw.severity == "warn") for flaw in flaws]


def accepted(chain: bytes = CHAIN, key: bytes | None = None, domain: str = DOMAIN) -> Pair:
    pair, codes = read(chain, key, domain)
    assert pair is not None and codes == []
    return pair
