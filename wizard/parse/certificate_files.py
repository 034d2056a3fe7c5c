"""The two files of a certificate and its key: what is in them, and what is the matter with their form.

A certificate is read whole here, so that nothing which is asked of it later raises. The library is `cryptography`,
loaded when a file is read: other TLS modes never need it.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .pem import Block, read_blocks

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
    from cryptography.x509 import Certificate as Parsed
    from cryptography.x509 import Extensions, Name

_CURVES = {"secp224r1": "P-224", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_RSASSA_PSS = "1.2.840.113549.1.1.10"
_PKCS7_OID = bytes.fromhex("06092a864886f70d0107")
OLD_DIGESTS = ("md2", "md4", "md5", "sha1")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~%/:-]+")
_REQUESTS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong with the pair. `severity` is blocked or warn; no text has anything of the key."""

    code: str
    summary: str
    remedy: str
    severity: str = "blocked"


@dataclass(frozen=True)
class Certificate:
    """One certificate. `dns` and `constraints` are lower case; `spki` is b"" for a key of unknown kind."""

    der: bytes = field(repr=False)
    parsed: "Parsed" = field(repr=False)
    title: str
    issuer: str
    issuer_url: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key_type: str
    spki: bytes = field(repr=False)
    digest: str
    self_signed: bool
    is_ca: bool
    path_length: int | None
    permitted: tuple[str, ...]
    excluded: tuple[str, ...]
    for_servers: bool
    signs: bool
    odd: str


@dataclass(frozen=True)
class Key:
    """A private key, as PKCS#8."""

    spki: bytes = field(repr=False)
    der: bytes = field(repr=False)


def read_certificates(data: bytes) -> tuple[tuple[Certificate, ...], tuple[Flaw, ...]]:
    """The certificates in the file's order, each once; and the flaws of the file's form."""
    blocks = [block for block in read_blocks(data) if not block.is_private_key]
    own = [block for block in blocks if block.label in ("CERTIFICATE", "X509 CERTIFICATE")]
    if not own:
        return (), (_name_form(data, blocks, "certificate"),)
    read = [None if block.der is None else _read_certificate(block.der) for block in own]
    found = [one for one in read if one is not None]
    flaws: list[Flaw] = []
    if len(found) < len(own):
        numbers = [str(number) for number, one in enumerate(read, 1) if one is None]
        what = f"certificate {', '.join(numbers[:5])} of {len(own)} in the file"
        flaws.append(_damaged("unreadable_certificate", what, _is_escaped(data)))
    once = tuple({certificate.der: certificate for certificate in found}.values())
    if len(once) < len(found):
        summary = f"the file has the same certificate more than once ({len(found)}, {len(once)} of them different)"
        flaws.append(
            Flaw("duplicate", summary, "keep each once; until then the copy that Caddy gets has it so", "warn")
        )
    return once, tuple(flaws)


def read_keys(data: bytes, key_beside_certificate: bool) -> tuple[tuple[Key, ...], tuple[Flaw, ...]]:
    """The private keys that can be read without a password; and the flaws of the others."""
    blocks = read_blocks(data)
    own = [block for block in blocks if block.is_private_key]
    if not own:
        if not key_beside_certificate:
            return (), (_name_form(data, blocks, "private key"),)
        summary = "the private key is in the certificate's file, and not in the key's own"
        return (), (Flaw("no_key", summary, "name that file as tls.private_key, or exchange the two if swapped"),)
    escaped = _is_escaped(data)
    read = [_read_key(block, escaped) for block in own]
    keys = {one.spki: one for one in read if isinstance(one, Key)}
    flaws = {one.code: one for one in read if isinstance(one, Flaw)}
    return tuple(keys.values()), tuple(flaws.values())


def _read_key(block: Block, escaped: bool) -> Key | Flaw:
    from cryptography.hazmat.primitives import serialization as form

    if block.encrypted or block.label == "ENCRYPTED PRIVATE KEY":
        remedy = "openssl pkey -in key.pem -out plain.pem; chmod 600 plain.pem; name plain.pem as tls.private_key"
        return Flaw("encrypted_key", "the private key is encrypted; Caddy has nobody to ask for the password", remedy)
    if block.label == "OPENSSH PRIVATE KEY":
        remedy = "use the key that the certificate was requested with, in PEM (openssl genpkey makes such ones)"
        return Flaw("openssh_key", "the private key is an SSH key in OpenSSH's own form, not one for TLS", remedy)
    if block.der is None:
        return _damaged("unreadable_key", "the private key", escaped)
    try:
        key = form.load_der_private_key(block.der, None)
        public = key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
        return Key(public, key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption()))
    except Exception:  # many types, and their words may have parts of the key
        return _damaged("unreadable_key", "the private key", escaped)


def _is_escaped(data: bytes) -> bool:
    """True if line breaks are written as a backslash and an n, as in JSON or an environment variable."""
    return rb"\n" in data


def _damaged(code: str, what: str, escaped: bool) -> Flaw:
    if escaped:
        summary = f"{what} can't be read: its line breaks are written as \\n"
        return Flaw(code, summary, """write real ones: umask 077; printf '%b' "$(cat file.pem)" > fixed.pem""")
    command = "openssl pkey -in key.pem -noout -check" if "key" in code else "openssl x509 -in chain.pem -noout -text"
    summary = f"{what} can't be read: it is cut off, damaged, or of a kind that nobody here knows"
    return Flaw(code, summary, f"copy the file again from where it was issued; to test it: {command}")


# ── what a file is that has not what it should ──────────────────────────────────────────────────────


def _name_form(data: bytes, blocks: "list[Block] | tuple[Block, ...]", wanted: str) -> Flaw:
    """The flaw of a file without a certificate, or without a private key."""
    labels = [block.label for block in blocks]
    file = f"the {wanted}'s file"
    is_key = wanted == "private key"
    code = "no_key" if is_key else "no_certificate"
    if any(label in _REQUESTS for label in labels):
        summary = f"{file} has a certificate request (CSR), and no {wanted}"
        return Flaw(code, summary, "a CSR is what you send to the CA: use the files that came of it")
    if "PKCS7" in labels or _PKCS7_OID in data[2:14]:
        inform = "" if "PKCS7" in labels else " -inform der"
        remedy = f"openssl pkcs7{inform} -in file.p7b -print_certs -out chain.pem (it has no key: that is a file apart)"
        return Flaw(code, f"{file} is PKCS#7 (.p7b), not PEM certificates and keys", remedy)
    if "TRUSTED CERTIFICATE" in labels:
        remedy = "openssl x509 -in chain.pem -out plain.pem"
        return Flaw(code, f"{file} has an OpenSSL TRUSTED CERTIFICATE, not plain ones", remedy)
    if is_key and labels:
        return Flaw(code, f"{file} has {_listed(labels)}, and no private key", "name the key's file as tls.private_key")
    if read_blocks(data):
        return Flaw(code, f"{file} has a private key, and no certificate", "name the chain's file as tls.certificate")
    return _name_binary(data, wanted, file)


def _name_binary(data: bytes, wanted: str, file: str) -> Flaw:
    if not data.strip(b"\xef\xbb\xbf \t\r\n\0"):
        return Flaw("empty", f"{file} is empty", "name the file that your CA or ACME client wrote")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"-\0-\0-" in data:
        remedy = "umask 077; iconv -f UTF-16 -t ASCII file.pem > fixed.pem"
        return Flaw("utf16", f"{file} is UTF-16 text (as PowerShell's > writes); PEM is ASCII", remedy)
    # PFX ::= SEQUENCE { version INTEGER 3, … }: the length takes 0 to 4 bytes.
    if data[:1] == b"\x30" and b"\x02\x01\x03" in data[2:9]:
        remedy = (
            "openssl pkcs12 -in file.pfx -nokeys -out chain.pem; "
            "openssl pkcs12 -in file.pfx -nocerts -noenc -out key.pem; chmod 600 key.pem"
        )
        return Flaw("pkcs12", f"{file} is PKCS#12 (.pfx, .p12), not PEM", remedy)
    if data[:1] == b"\x30" and data[1:2] >= b"\x40":
        kind = "pkey" if wanted == "private key" else "x509"
        remedy = f"openssl {kind} -inform der -in file.der -out file.pem"
        return Flaw("der", f"{file} is binary (DER), not PEM", remedy)
    summary = f"{file} is not PEM: it has no line -----BEGIN {wanted.upper()}-----"
    return Flaw("not_pem", summary, "name the file that your CA or ACME client wrote: fullchain.pem and privkey.pem")


def _listed(labels: list[str]) -> str:
    return ", ".join(f"a block {label}" for label in dict.fromkeys(labels))


# ── one certificate ─────────────────────────────────────────────────────────────────────────────────


def _read_certificate(der: bytes) -> Certificate | None:
    from cryptography import x509

    try:
        parsed = x509.load_der_x509_certificate(der)
        return _take_apart(der, parsed, parsed.extensions)
    except Exception:  # whatever is wrong with it, wherever it lies
        return None


def _take_apart(der: bytes, parsed: "Parsed", extensions: "Extensions") -> Certificate:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    values = {type(extension.value): extension.value for extension in extensions}
    names = values.get(x509.SubjectAlternativeName)
    alternative = names if isinstance(names, x509.SubjectAlternativeName) else None
    basic = values.get(x509.BasicConstraints)
    constraints = basic if isinstance(basic, x509.BasicConstraints) else None
    permitted, excluded = _read_constraints(values.get(x509.NameConstraints))
    purposes, usage = values.get(x509.ExtendedKeyUsage), values.get(x509.KeyUsage)
    key_type, spki = _read_public_key(parsed)
    return Certificate(
        der=der,
        parsed=parsed,
        title=_title(parsed.subject, alternative),
        issuer=_title(parsed.issuer, None),
        issuer_url=_issuer_url(values.get(x509.AuthorityInformationAccess)),
        dns=tuple(printable(name).lower() for name in alternative.get_values_for_type(x509.DNSName))
        if alternative
        else (),
        addresses=tuple(str(one) for one in alternative.get_values_for_type(x509.IPAddress)) if alternative else (),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        key_type=key_type,
        spki=spki,
        digest=_digest(parsed),
        self_signed=parsed.issuer == parsed.subject and is_issued_by(parsed, parsed),
        is_ca=constraints is not None and constraints.ca,
        path_length=constraints.path_length if constraints else None,
        permitted=permitted,
        excluded=excluded,
        for_servers=not isinstance(purposes, x509.ExtendedKeyUsage) or ExtendedKeyUsageOID.SERVER_AUTH in purposes,
        signs=not isinstance(usage, x509.KeyUsage) or usage.digital_signature,
        odd=_oddity(der, parsed, extensions),
    )


def is_issued_by(child: "Parsed", parent: "Parsed") -> bool:
    """True if the names fit and the signature is the parent's; also where the library does not check such ones."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if child.issuer != parent.subject:
        return False
    try:
        child.verify_directly_issued_by(parent)
    except UnsupportedAlgorithm:
        return True
    except ValueError:  # "Unsupported signature algorithm"
        return _digest(child) in OLD_DIGESTS
    except (InvalidSignature, TypeError):
        return False
    return True


def _read_public_key(parsed: "Parsed") -> tuple[str, bytes]:
    from cryptography.hazmat.primitives import serialization as form

    try:
        key = parsed.public_key()
        spki = key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # a kind, a curve or parameters that the library does not know
        return f"unknown ({parsed.public_key_algorithm_oid.dotted_string})", b""
    pss = parsed.public_key_algorithm_oid.dotted_string == _RSASSA_PSS
    return _name_key(key).replace("RSA", "RSA-PSS" if pss else "RSA"), spki


def _name_key(key: "CertificatePublicKeyTypes") -> str:
    """As the field says it: RSA 2048, P-256, Ed25519."""
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, key.curve.name)
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey")


def _digest(parsed: "Parsed") -> str:
    """The signature's hash, such as sha256; empty where it has none of its own (Ed25519) or an unknown one."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        algorithm = parsed.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return ""
    return algorithm.name if algorithm else ""


def _oddity(der: bytes, parsed: "Parsed", extensions: "Extensions") -> str:
    """Why clients, or Caddy, refuse to read it at all; empty where they don't."""
    from cryptography import x509

    if parsed.serial_number < 0:
        return "has a negative serial number, which Caddy refuses"
    body = parsed.tbs_certificate_bytes
    outer = der[der.index(body) + len(body) :]
    if outer[: 2 + outer[1]] not in body:
        return "names two different signature algorithms, which Caddy refuses"
    for extension in extensions:
        if isinstance(extension.value, x509.PrecertPoison):
            return "is a pre-certificate from a CT log, which no client accepts"
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            return f"has a critical extension that clients don't know ({extension.oid.dotted_string})"
    return ""


def _read_constraints(value: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The domains that a CA may, and may not, issue for; () and () where it says nothing of domains."""
    from cryptography import x509

    def domains(trees: "list[x509.GeneralName] | None") -> tuple[str, ...]:
        return tuple(printable(tree.value).lower() for tree in trees or () if isinstance(tree, x509.DNSName))

    if not isinstance(value, x509.NameConstraints):
        return (), ()
    return domains(value.permitted_subtrees), domains(value.excluded_subtrees)


def _issuer_url(value: object) -> str:
    """Where the CA offers the issuer's certificate, if it says so in characters that are safe in a command."""
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    if not isinstance(value, x509.AuthorityInformationAccess):
        return ""
    for access in value:
        location = access.access_location
        is_issuer = access.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        if is_issuer and isinstance(location, x509.UniformResourceIdentifier) and _ADDRESS.fullmatch(location.value):
            return location.value
    return ""


def _title(name: "Name", alternative: object) -> str:
    """What people call it: its common name; else its first name, its organisation or all of its name."""
    from cryptography import x509

    for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return printable(str(attribute.value))
        if isinstance(alternative, x509.SubjectAlternativeName) and oid == x509.NameOID.COMMON_NAME:
            for dns in alternative.get_values_for_type(x509.DNSName):
                return printable(dns)
    return printable(name.rfc4514_string()) or "(no name)"


def printable(text: str) -> str:
    """The text without what could move a terminal's cursor, and not longer than a line."""
    kept = "".join(character if character.isprintable() else "?" for character in text)
    return kept if len(kept) <= 100 else kept[:99] + "…"
