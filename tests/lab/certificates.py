"""Certificates and keys as people bring them to a server, right and wrong: PEM bytes, made on the spot."""

import datetime as dt
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KeyType = Literal["rsa1024", "rsa2048", "p256", "p521", "ed25519"]
KeyFormat = Literal["pkcs8", "traditional", "encrypted", "encrypted_traditional"]
MAKE: dict[KeyType, Callable[[], Key]] = {
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
PASSWORD = b"lab"
P256_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Leaf:
    """A server's certificate with its key and the intermediates above it (nearest first)."""

    certificate: x509.Certificate
    private_key: Key
    intermediates: tuple[x509.Certificate, ...]

    @property
    def chain(self) -> bytes:
        """The leaf, then the intermediates: as a server wants it."""
        return _pem(self.certificate, *self.intermediates)

    @property
    def key(self) -> bytes:
        """PKCS#8, not encrypted."""
        return self.key_as("pkcs8")

    def key_as(self, how: KeyFormat) -> bytes:
        """The key in another form; "traditional" is PKCS#1 or SEC1, by its type."""
        layout = PrivateFormat.TraditionalOpenSSL if "traditional" in how else PrivateFormat.PKCS8
        secret = BestAvailableEncryption(PASSWORD) if "encrypted" in how else NoEncryption()
        return self.private_key.private_bytes(Encoding.PEM, layout, secret)


class Authority:
    """A private certificate authority: a root, and intermediates below it, the last of which signs."""

    def __init__(self, intermediates: int = 1) -> None:
        self._root_key: Key = MAKE["p256"]()
        self._signer = self._root_key
        self._certificates = [_authority("Root", self._root_key, None, self._root_key)]
        for number in range(1, intermediates + 1):
            key = MAKE["p256"]()
            made = _authority(f"Intermediate {number}", key, self._certificates[0], self._signer)
            self._certificates.insert(0, made)
            self._signer = key

    @property
    def root(self) -> bytes:
        """What clients trust."""
        return _pem(self._certificates[-1])

    def issue(self, *names: str, key: KeyType = "p256", begins: float = -1, ends: float = 90, san: bool = True) -> Leaf:
        """A certificate for names and addresses; `begins` and `ends` are days from now."""
        own = MAKE[key]()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = _builder(subject, own, self._certificates[0], self._signer, begins, ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
        return Leaf(_sign(builder, self._signer), own, tuple(self._certificates[:-1]))


def _authority(name: str, key: Key, parent: x509.Certificate | None, signer: Key) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Lab private {name}")])
    builder = _builder(subject, key, parent, signer, -365, 3650)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # signs certificates and CRLs
    return _sign(builder.add_extension(usage, critical=True), signer)


def _builder(
    subject: x509.Name, key: Key, parent: x509.Certificate | None, signer: Key, begins: float, ends: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.subject if parent is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begins))
        .not_valid_after(now + dt.timedelta(days=ends))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, signer: Key) -> x509.Certificate:
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


Pair = tuple[bytes, bytes]  # the certificate file, the key file
Case = Callable[[Authority, str], Pair]


def _issued(leaf: Leaf) -> Pair:
    return leaf.chain, leaf.key


def _of_type(key: KeyType, how: KeyFormat = "pkcs8") -> Case:
    def make(authority: Authority, name: str) -> Pair:
        leaf = authority.issue(name, key=key)
        return leaf.chain, leaf.key_as(how)

    return make


def _with(change: Callable[[bytes, bytes], Pair]) -> Case:
    return lambda authority, name: change(*_issued(authority.issue(name)))


def _sec1_with_parameters(authority: Authority, name: str) -> Pair:
    leaf = authority.issue(name)
    return leaf.chain, P256_PARAMETERS + leaf.key_as("traditional")


def _wrong_order(authority: Authority, name: str) -> Pair:
    leaf = authority.issue(name)
    return _pem(*leaf.intermediates, leaf.certificate), leaf.key


def _no_intermediate(authority: Authority, name: str) -> Pair:
    leaf = authority.issue(name)
    return _pem(leaf.certificate), leaf.key


def _foreign_intermediate(authority: Authority, name: str) -> Pair:
    leaf = authority.issue(name)
    return _pem(leaf.certificate, *Authority().issue(name).intermediates), leaf.key


def _der(authority: Authority, name: str) -> Pair:
    leaf = authority.issue(name)
    key = leaf.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return leaf.certificate.public_bytes(Encoding.DER), key


# What Caddy serves as it is, or after a byte order mark is taken away.
GOOD: dict[str, Case] = {
    "rsa2048": _of_type("rsa2048"),
    "p256": _of_type("p256"),
    "p521": _of_type("p521"),
    "ed25519": _of_type("ed25519"),
    "pkcs1": _of_type("rsa2048", "traditional"),
    "sec1": _of_type("p256", "traditional"),
    "sec1_with_parameters": _sec1_with_parameters,
    "key_and_chain_in_one_file": _with(lambda chain, key: (key + chain, key + chain)),
    "crlf": _with(lambda chain, key: (chain.replace(b"\n", b"\r\n"), key.replace(b"\n", b"\r\n"))),
    "bom": _with(lambda chain, key: (BOM + chain, BOM + key)),
}
# What must be refused. Caddy itself takes the first seven of these without a word.
BAD: dict[str, Case] = {
    "expired": lambda authority, name: _issued(authority.issue(name, begins=-91, ends=-1)),
    "not_yet_valid": lambda authority, name: _issued(authority.issue(name, begins=1, ends=91)),
    "no_san": lambda authority, name: _issued(authority.issue(name, san=False)),
    "other_name": lambda authority, name: _issued(authority.issue(f"not-{name}")),
    "rsa1024": _of_type("rsa1024"),
    "no_intermediate": _no_intermediate,
    "foreign_intermediate": _foreign_intermediate,
    "wrong_order": _wrong_order,
    "mismatch": lambda authority, name: (authority.issue(name).chain, authority.issue(name).key),
    "encrypted": _of_type("p256", "encrypted"),
    "encrypted_traditional": _of_type("rsa2048", "encrypted_traditional"),
    "der": _der,
    "swapped": _with(lambda chain, key: (key, chain)),
    "empty": lambda authority, name: (b"", b""),
    "cut_off": _with(lambda chain, key: (chain[: len(chain) // 3], key)),
}
