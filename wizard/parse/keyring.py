"""OpenPGP certificates of an apt repository, read without gpg and its home directory."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pysequoia import Cert
    from pysequoia.packet import Packet


@dataclass(frozen=True)
class Signer:
    """A key that may sign: the primary key or a subkey. `expires` is None where it never does."""

    fingerprint: str
    created: datetime
    expires: datetime | None

    def live(self, now: datetime) -> bool:
        """True if signatures made with this key are good at that time."""
        return self.created <= now and (self.expires is None or now < self.expires)


@dataclass(frozen=True)
class Key:
    """One certificate. Fingerprints are upper-case hex; times are aware."""

    fingerprint: str
    expires: datetime | None
    revoked: bool
    user_ids: tuple[str, ...]
    signers: tuple[Signer, ...]

    def expired(self, now: datetime) -> bool:
        """True if the primary key's time is over."""
        return self.expires is not None and now >= self.expires

    def signs(self, now: datetime) -> bool:
        """True if apt would accept a signature of this certificate at that time."""
        return not self.revoked and not self.expired(now) and any(key.live(now) for key in self.signers)


def read_keyring(data: bytes) -> tuple[Key, ...]:
    """Every certificate in the data, armored or binary; () where there is none or it can't be read."""
    from pysequoia import Cert

    try:
        certs = Cert.split_bytes(data)
    except Exception:  # the library promises no narrower type
        return ()
    return tuple(key for cert in certs if (key := _read_cert(cert)) is not None)


def dearmor(data: bytes) -> bytes | None:
    """The certificates in the binary form that apt accepts in a .gpg file, or None where there is none."""
    from pysequoia import Cert

    try:
        return b"".join(bytes(cert) for cert in Cert.split_bytes(data)) or None
    except Exception:  # the library promises no narrower type
        return None


def _read_cert(cert: "Cert") -> Key | None:
    try:
        return Key(
            fingerprint=cert.fingerprint.upper(),
            expires=_aware(cert.expiration),
            revoked=cert.is_revoked,
            user_ids=tuple(str(user_id) for user_id in cert.user_ids),
            signers=_read_signers(cert),
        )
    except Exception:  # the library promises no narrower type
        return None


def _read_signers(cert: "Cert") -> tuple[Signer, ...]:
    from pysequoia.packet import PacketPile, Tag

    # Each key packet with the signatures that follow it, up to the next key.
    groups: list[tuple[Packet, list[Packet]]] = []
    for packet in PacketPile.from_bytes(bytes(cert)):
        if packet.tag in (Tag.PublicKey, Tag.PublicSubkey):
            groups.append((packet, []))
        elif packet.tag == Tag.Signature and groups:
            groups[-1][1].append(packet)
    signers = (_read_signer(key, signatures) for key, signatures in groups)
    return tuple(signer for signer in signers if signer is not None)


def _read_signer(key: "Packet", signatures: "list[Packet]") -> Signer | None:
    """The key with what its newest binding says, or None if that does not let it sign."""
    from pysequoia.packet import SignatureType

    revocations = (SignatureType.KeyRevocation, SignatureType.SubkeyRevocation)
    if any(signature.signature_type in revocations for signature in signatures):
        return None
    bindings = [
        signature
        for signature in signatures
        if signature.key_flags is not None and signature.signature_created is not None
    ]
    newest = max(bindings, key=lambda signature: signature.signature_created or datetime.min, default=None)
    created = _aware(key.key_created)
    if newest is None or created is None or newest.key_flags is None or not newest.key_flags.signing:
        return None
    validity = newest.key_validity_period
    return Signer(
        fingerprint=(key.fingerprint or "").upper(),
        created=created,
        expires=created + validity if validity else None,
    )


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
