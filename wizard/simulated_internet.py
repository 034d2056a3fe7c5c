"""What the simulated server meets on the internet: DNS for whatever name is typed, and CAs that issue for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from urllib.parse import urlsplit

from .server import DnsAnswer, Response

ADDRESS = "203.0.113.7"
ELSEWHERE = "198.51.100.80"
STRAY_IPV6 = "2001:db8:51::80"
NAME_SERVERS = ("198.51.100.53", "198.51.100.54")
TTL_S = 300


def resolve(name: str, kind: str, server: str | None) -> DnsAnswer:
    """Every name leads to the server; one with "elsewhere", "ipv6", "caa" or "unknown" in it shows that problem."""
    name = name.lower().rstrip(".")
    zone = ".".join(name.split(".")[-2:])
    asked = server or "recursive"
    values: tuple[str, ...] = ()
    if name.endswith(".invalid") or ("unknown" in name and "." in name):
        return DnsAnswer(name, kind, status="nxdomain", ttl=TTL_S, asked=asked)
    if kind == "NS" and name == zone:
        values = tuple(f"ns{number}.dns.example.net" for number in (1, 2))
    elif kind == "A" and name.endswith(".dns.example.net"):
        values = (NAME_SERVERS[name.startswith("ns2.")],)
    elif kind == "A" and "." in name:
        values = (ELSEWHERE if "elsewhere" in name else ADDRESS,)
    elif kind == "AAAA" and "ipv6" in name:
        values = (STRAY_IPV6,)
    elif kind == "CAA" and "caa" in name:
        values = ('0 issue "other-ca.example"',)
    return DnsAnswer(name, kind, values, "ok" if values else "nodata", TTL_S, asked)


def fetch(url: str, now: float) -> Response:
    """An ACME directory where the address is one's; what else is asked for does not exist."""
    place = urlsplit(url)
    host = place.hostname or ""
    date = (("Date", format_datetime(datetime.fromtimestamp(now, UTC), usegmt=True)),)
    if host.endswith(".invalid") or "unknown" in host:
        return Response(0, error=f"{host} has no address", ms=40)
    if "directory" not in place.path and "acme" not in url:
        return Response(404, b"not found", date, ms=90)
    base = f"https://{host}/acme"
    identity = "letsencrypt.org" if host.endswith("letsencrypt.org") else host
    directory = {
        "newNonce": f"{base}/new-nonce",
        "newAccount": f"{base}/new-acct",
        "newOrder": f"{base}/new-order",
        "meta": {"caaIdentities": [identity]},
    }
    return Response(200, json.dumps(directory).encode(), date, ms=120)


@cache
def make_pair(domain: str, issuer: str, begins: float, days: int) -> tuple[bytes, bytes, bytes]:
    """A chain as PEM, its key as PEM, and the leaf as DER: right for the domain, signed by a CA of that name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    start = datetime.fromtimestamp(begins, UTC)

    def named(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = (
        x509.CertificateBuilder()
        .subject_name(named(issuer))
        .issuer_name(named(f"{issuer} Root"))
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(days=300))
        .not_valid_after(start + timedelta(days=3000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(named(domain[:64]))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return leaf.public_bytes(pem) + ca.public_bytes(pem), private, leaf.public_bytes(serialization.Encoding.DER)
