"""TLS mode custom: whether a certificate and key can be served for a domain. Pure; no text has anything of the key."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .certificate_checks import check_chain, check_leaf, matches, normal_name
from .certificate_files import Certificate, Flaw, Key, read_certificates, read_keys
from .pem import read_blocks, write_block

__all__ = ["Flaw", "Pair", "read_pair"]


@dataclass(frozen=True)
class Pair:
    """A pair that Caddy accepts and that fits the domain. Times are aware; the fingerprint is as openssl prints it.

    `chain` and `key` are for Caddy's files: certificates alone, leaf first, each once; the key as PKCS#8; LF, no BOM.
    """

    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    issuer: str
    fingerprint_sha256: str
    self_signed: bool
    chain_length: int
    key_type: str
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


def read_pair(chain: bytes, key: bytes, domain: str, now: datetime) -> tuple[Pair | None, tuple[Flaw, ...]]:
    """The pair, or None where something blocks it; and every flaw, those that block first. Any bytes are answered."""
    with warnings.catch_warnings():
        # The library warns of odd certificates on stderr; what matters of that is a flaw.
        warnings.simplefilter("ignore")
        return _read_pair(chain, key, domain, now)


def _read_pair(chain: bytes, key: bytes, domain: str, now: datetime) -> tuple[Pair | None, tuple[Flaw, ...]]:
    certificates, chain_flaws = read_certificates(chain)
    keys, key_flaws = read_keys(key, any(block.is_private_key for block in read_blocks(chain)))
    flaws = [*chain_flaws]
    fitting = None
    # Where the server's own certificate may be the one that can't be read, the others are not judged in its place.
    damaged = any(flaw.code == "unreadable_certificate" for flaw in chain_flaws)
    known = {one.spki for one in certificates}
    if not certificates or (damaged and not any(one.spki in known for one in keys)):
        flaws += key_flaws
    else:
        leaf = find_leaf(certificates, keys, domain)
        fitting = next((one for one in keys if one.spki == leaf.spki), None)
        flaws += check_match(leaf, certificates, keys)
        flaws += key_flaws if fitting is None else ()
        flaws += check_leaf(leaf, domain, now)
        flaws += check_chain(leaf, certificates, now)
    flaws.sort(key=lambda flaw: flaw.severity != "blocked")
    if fitting is None or any(flaw.severity == "blocked" for flaw in flaws):
        return None, tuple(flaws)
    return make_pair(certificates, fitting), tuple(flaws)


def find_leaf(certificates: Sequence[Certificate], keys: Sequence[Key], domain: str) -> Certificate:
    """The server's own certificate, wherever it stands: the key's; else one for the domain; else the first."""
    known = {one.spki for one in keys}
    wanted = normal_name(domain)
    servers = [one for one in certificates if not one.is_ca] or [*certificates]
    of_key = [one for one in servers if one.spki in known]
    named = [one for one in servers if any(matches(name, wanted) for name in one.dns)]
    return (of_key or named or servers)[0]


def check_match(leaf: Certificate, certificates: Sequence[Certificate], keys: Sequence[Key]) -> Iterator[Flaw]:
    """Whether the key is that of the server's own certificate, and the only one in its file."""
    if not keys:
        return
    if any(one.spki == leaf.spki for one in keys):
        if len(keys) > 1:
            summary = f"the key's file has {len(keys)} private keys; the one that fits the certificate is used"
            yield Flaw("several_keys", summary, "leave that one in the file alone", "warn")
        return
    other = next((one for one in certificates if any(key.spki == one.spki for key in keys)), None)
    what = "none of the private keys fits" if len(keys) > 1 else "the private key does not belong to"
    summary = f"{what} the certificate {leaf.title}"
    if other is not None:
        summary += f"; it is the key of the CA {other.title}, which should be on no server"
    compare = "openssl x509 -in chain.pem -noout -pubkey; openssl pkey -in key.pem -pubout (both print the same)"
    remedy = f"name the key that this certificate was requested with; to compare: {compare}"
    yield Flaw("key_mismatch", summary, remedy)


def make_pair(certificates: Sequence[Certificate], key: Key) -> Pair:
    leaf = certificates[0]
    return Pair(
        names=(*leaf.dns, *leaf.addresses),
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        issuer=leaf.issuer,
        fingerprint_sha256=hashlib.sha256(leaf.der).digest().hex(":").upper(),
        self_signed=leaf.self_signed,
        chain_length=len(certificates),
        key_type=leaf.key_type,
        chain=b"".join(write_block("CERTIFICATE", one.der) for one in certificates),
        key=write_block("PRIVATE KEY", key.der),
    )
