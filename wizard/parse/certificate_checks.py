"""What is wrong with a certificate and its chain for one domain at one time: mostly what Caddy takes without a word."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from .certificate_files import OLD_DIGESTS, Certificate, Flaw, is_issued_by, printable

_RENEW = "renew it, then run this again (certbot renew; acme.sh --renew-all; or ask your CA for a new one)"
_SOON = timedelta(days=14)
_APPLE_LONGEST = timedelta(days=825)  # support.apple.com/103769: of any issuer, also one that the device trusts
_MOST = 10  # certificates that clients take: mbedTLS 8 intermediates, GnuTLS 16 in all, OpenSSL 100 kB
_RSA_LARGEST = 8192  # Go's crypto/tls verifies no larger one
_USUAL_KEYS = ("P-256", "P-384")
_RARE_KEYS = ("P-521", "Ed25519")


# ── the leaf ────────────────────────────────────────────────────────────────────────────────────────


def check_leaf(leaf: Certificate, domain: str, now: datetime) -> Iterator[Flaw]:
    """Dates, names, key, signature and purpose of the server's own certificate."""
    yield from check_dates(leaf, now, "the certificate")
    yield from check_names(leaf, domain)
    yield from check_key(leaf, "the certificate")
    if leaf.odd:
        yield Flaw("refused_by_clients", f"the certificate {leaf.odd}", "ask your CA for the certificate itself")
    if not leaf.for_servers:
        summary = "the certificate is for other purposes (extendedKeyUsage) than a server's"
        yield Flaw("wrong_purpose", summary, "ask for one with extendedKeyUsage serverAuth")
    if leaf.is_ca and not leaf.self_signed:
        summary = f"the certificate is a CA's own ({leaf.title}), not a server's"
        yield Flaw("is_ca", summary, f"have it issue one for {domain}, and name that one and its key")
    if leaf.self_signed:
        yield check_self_signed(leaf)
    if not leaf.signs:
        summary = "the certificate's keyUsage lacks digitalSignature, which TLS 1.3 signs with: browsers refuse it"
        yield Flaw("key_usage", summary, "ask for one with keyUsage digitalSignature", "warn")
    if leaf.not_after - leaf.not_before > _APPLE_LONGEST:
        days = (leaf.not_after - leaf.not_before).days
        summary = f"the certificate is good for {days} days; macOS and iOS refuse more than 825"
        yield Flaw("long_lived", summary, "ask for one of 825 days or less, where such clients matter", "warn")


def check_self_signed(leaf: Certificate) -> Flaw:
    as_ca = ", and as it is marked as a CA, Firefox and rustls refuse it even then" if leaf.is_ca else ""
    summary = f"the certificate is self-signed: each client has to be given it to trust{as_ca}"
    return Flaw("self_signed", summary, "tls.mode internal gives clients one root to trust; acme needs none", "warn")


def check_dates(certificate: Certificate, now: datetime, what: str) -> Iterator[Flaw]:
    """Not yet, no longer, or not much longer: less than 14 days, or a third of a short life."""
    prefix = "" if what == "the certificate" else "intermediate_"
    remedy = _RENEW if not prefix else "take the CA's current one from where the certificate was issued"
    soon = min(_SOON, (certificate.not_after - certificate.not_before) / 3)
    if now > certificate.not_after:
        ago = (now - certificate.not_after).days
        when = (
            f"{moment(certificate.not_after)} ({ago} day{'s' * (ago > 1)} ago)"
            if ago
            else moment(certificate.not_after)
        )
        yield Flaw(f"{prefix}expired", f"{what} expired at {when}", remedy)
    elif now < certificate.not_before:
        summary = f"{what} is good from {moment(certificate.not_before)} on; here it is {moment(now)}"
        yield Flaw(f"{prefix}not_yet_valid", summary, "wait until then; or put the clock right: see timedatectl")
    elif certificate.not_after - now < soon:
        yield Flaw(f"{prefix}expires_soon", f"{what} expires at {moment(certificate.not_after)}", remedy, "warn")


def moment(time: datetime) -> str:
    return f"{time.isoformat(' ', 'minutes').removesuffix('+00:00')} UTC"


def check_names(leaf: Certificate, domain: str) -> Iterator[Flaw]:
    """The domain has to be in the SAN: clients don't look at the common name any more."""
    wanted = normal_name(domain)
    if any(matches(name, wanted) for name in leaf.dns):
        return
    remedy = f"ask for one with {wanted} among its names (subjectAltName)"
    if leaf.dns or leaf.addresses:
        names = [*leaf.dns, *leaf.addresses]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        summary = f"the certificate is for {', '.join(names[:5])}{more}, and not for {wanted}"
        yield Flaw("wrong_name", summary, f"{remedy}; or answer tls.domain with one of its names")
    else:
        summary = (
            f"the certificate has no names (subjectAltName), only the common name {leaf.title}, which clients ignore"
        )
        yield Flaw("no_san", summary, remedy)


def normal_name(domain: str) -> str:
    """Lower case, punycode, without the root's dot; as it stands where it is no name."""
    try:
        name = domain.encode("idna").decode("ascii")
    except (UnicodeError, IndexError):
        name = printable(domain)
    return name.lower().removesuffix(".")


def matches(name: str, domain: str) -> bool:
    """RFC 6125: equal, or * for the whole of the leftmost label, with two labels or more after it."""
    if not name.startswith("*."):
        return name == domain
    _, _, parent = domain.partition(".")
    return name[2:] == parent and "." in parent


def check_key(certificate: Certificate, what: str) -> Iterator[Flaw]:
    """Whether clients take a key of this kind and size."""
    kind = certificate.key_type
    rsa = re.fullmatch(r"RSA ([0-9]+)", kind)
    again = "make a new key and ask for a certificate for it: openssl genpkey -algorithm EC -pkeyopt "
    again += "ec_paramgen_curve:P-256 -out new-key.pem"
    remedy = again if what == "the certificate" else "ask your CA for a chain of 2048 bits or more"
    if rsa and int(rsa.group(1)) < 2048:
        yield Flaw("weak_key", f"{what} has a key of {kind} bits; clients demand 2048 or more", remedy)
    elif rsa and int(rsa.group(1)) > _RSA_LARGEST:
        yield Flaw("large_key", f"{what} has a key of {kind} bits; clients written in Go refuse it", remedy, "warn")
    elif kind in _RARE_KEYS:
        yield Flaw("rare_key", f"{what} has a key of the kind {kind}, which many clients don't take", remedy, "warn")
    elif not rsa and kind not in _USUAL_KEYS:
        summary = f"{what} has a key of the kind {kind}, which Caddy or its clients can't use"
        yield Flaw("unsupported_key", summary, remedy)


# ── the chain ───────────────────────────────────────────────────────────────────────────────────────


def find_path(leaf: Certificate, certificates: Sequence[Certificate], now: datetime) -> tuple[Certificate, ...]:
    """The leaf, its issuer, and so on as far as the file goes. Of several issuers one that is valid now."""
    path = [leaf]
    while not path[-1].self_signed:
        issuers = [one for one in certificates if one not in path and is_issued_by(path[-1].parsed, one.parsed)]
        if not issuers:
            break
        live = [one for one in issuers if one.not_before <= now <= one.not_after]
        path.append((live or issuers)[0])
    return tuple(path)


def check_chain(leaf: Certificate, certificates: Sequence[Certificate], now: datetime) -> Iterator[Flaw]:
    """The order of the file, what is missing or too much, and each certificate above the leaf."""
    path = find_path(leaf, certificates, now)
    yield from check_order(path, certificates)
    yield from check_completeness(path, certificates)
    for depth, one in enumerate(path[1:]):
        what = f"the CA certificate {one.title}"
        yield from check_dates(one, now, what)
        yield from check_key(one, what)
        yield from check_authority(one, path[: depth + 1], what)
    for one in path:
        yield from check_signature(one)


def check_order(path: Sequence[Certificate], certificates: Sequence[Certificate]) -> Iterator[Flaw]:
    places = [certificates.index(one) for one in path]
    if places == sorted(places) and places[0] == 0:
        return
    has = ", ".join(one.title for one in certificates[:_MOST])
    wants = ", ".join(one.title for one in path)
    summary = f"the chain is out of order: the file has {has}; it should have {wants}"
    yield Flaw("chain_order", summary, "the server's own comes first: cat leaf.pem intermediate.pem > chain.pem")


def check_completeness(path: Sequence[Certificate], certificates: Sequence[Certificate]) -> Iterator[Flaw]:
    leaf, last = path[0], path[-1]
    # A second certificate of the same CA (cross-signed) is of use to some clients.
    useful = [
        one for one in certificates if one in path or any(is_issued_by(below.parsed, one.parsed) for below in path)
    ]
    foreign = [one for one in certificates if one not in useful]
    fetch = f"curl -s {leaf.issuer_url} | openssl x509 -inform der >> chain.pem" if leaf.issuer_url else ""
    remedy = "put the CA's intermediate behind it: " + (fetch or "cat leaf.pem intermediate.pem > chain.pem")
    if len(certificates) > _MOST:
        summary = f"the file has {len(certificates)} certificates; clients refuse such long chains"
        yield Flaw("long_chain", summary, "keep the server's own and its intermediates: leaf.pem, intermediate.pem")
    elif len(path) == 1 and not last.self_signed and foreign:
        titles = ", ".join(one.title for one in foreign)
        summary = f"the certificate was issued by {leaf.issuer}, and what follows it in the file is {titles}"
        same = any(one.parsed.subject == leaf.parsed.issuer for one in foreign)
        summary += ", of that name but with another key" if same else ""
        yield Flaw("wrong_intermediate", summary, remedy)
    elif foreign:
        titles = ", ".join(one.title for one in foreign)
        summary = f"the file has certificates that are no part of the chain: {titles}"
        yield Flaw("unrelated_certificate", summary, "take them out: each client is sent them for nothing", "warn")
    if len(certificates) == 1 and not last.self_signed:
        summary = (
            f"no intermediate certificate follows the server's own: clients that don't know {leaf.issuer} refuse it"
        )
        yield Flaw("chain_incomplete", summary, remedy, "warn")


def check_authority(issuer: Certificate, below: Sequence[Certificate], what: str) -> Iterator[Flaw]:
    """Whether this CA may issue what stands below it, the leaf first."""
    # Roots of version 1 have no extension that could say so.
    if not issuer.is_ca and not (issuer.self_signed and issuer.parsed.version.name == "v1"):
        yield Flaw("not_a_ca", f"{what} may not issue certificates", "ask for one from a CA that clients trust")
    if issuer.path_length is not None and issuer.path_length < len(below) - 1:
        summary = f"{what} allows {issuer.path_length} CAs below it, and the chain has {len(below) - 1}"
        yield Flaw("path_length", summary, "ask your CA for a chain that clients accept")
    refused = [name for name in below[0].dns if not _allows(issuer, name)]
    if refused:
        summary = f"{what} may not issue for {', '.join(refused[:5])} (its name constraints)"
        yield Flaw("name_constraints", summary, "ask for a certificate from a CA that may issue for this domain")


def _allows(issuer: Certificate, name: str) -> bool:
    def below(tree: str) -> bool:
        if tree.startswith("."):
            return name.endswith(tree)
        return not tree or name == tree or name.endswith("." + tree)

    return not any(below(tree) for tree in issuer.excluded) and (
        not issuer.permitted or any(below(tree) for tree in issuer.permitted)
    )


def check_signature(certificate: Certificate) -> Iterator[Flaw]:
    """A root's own signature is trusted as it is; all others need a hash that nobody can forge."""
    if certificate.self_signed:
        return
    remedy = "ask your CA for one that is signed with SHA-256"
    if certificate.digest == "sha1":
        summary = f"{certificate.title} is signed with SHA-1, which browsers, Go and OpenSSL 3 refuse"
        yield Flaw("weak_signature", summary, remedy, "warn")
    elif certificate.digest in OLD_DIGESTS:
        summary = f"{certificate.title} is signed with {certificate.digest.upper()}, which no client accepts"
        yield Flaw("weak_signature", summary, remedy)
