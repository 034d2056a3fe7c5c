"""What an ACME CA says when it refuses, as sentences: the cause, what to do, and the CA's own words behind it."""

from __future__ import annotations

import re

# RFC 8555 6.7, RFC 9773 7.4 (alreadyReplaced): the problem types, and what each comes to.
CAUSES = {
    "dns": "the CA found no address, or a wrong one, for the name: what DNS says inside and outside may differ",
    "connection": "the CA could not connect to this server: the provider's firewall, too, must let 80 and 443 in",
    "unauthorized": "something else answered the CA: the name leads elsewhere, or a proxy is in between",
    "incorrectResponse": "something else answered the CA: the name leads elsewhere, or a proxy is in between",
    "caa": "a CAA record of the domain forbids this CA",
    "rateLimited": "the CA's limit is reached: wait as long as it says, or use the staging directory to try",
    "tls": "the CA met another certificate on port 443: something else answers there",
    "rejectedIdentifier": "the CA does not issue for this name",
    "unsupportedIdentifier": "the CA does not issue for this kind of name",
    "invalidContact": "the CA does not accept the mail address (tls.email)",
    "unsupportedContact": "the CA does not accept this kind of contact (tls.email): give it a mail address",
    "externalAccountRequired": "the CA wants an account that was made beforehand (EAB): answer tls.eab_file",
    "accountDoesNotExist": "the CA no longer knows the account that Caddy has: take Caddy's copy away "
    "(sudo ls /var/lib/caddy/.local/share/caddy/acme), and run this again",
    "userActionRequired": "the CA wants something of you first, such as a consent to new terms: see its own words",
    "compound": "the CA refuses for several reasons",
    "malformed": "the CA does not understand what Caddy asks: is tls.acme_directory the right address; and where an "
    "account was made beforehand (EAB), are its key id and MAC key right, and not used up",
    "badCSR": "the CA does not accept the certificate as it was asked for, such as its kind of key",
    "badNonce": "the CA took the request for an old one: try again",
    "badPublicKey": "the CA does not accept the account's key",
    "badSignatureAlgorithm": "the CA does not accept the account's kind of signature",
    "orderNotReady": "the CA was asked too early: try again",
    "alreadyReplaced": "the CA has renewed this certificate already: run this again",
    "alreadyRevoked": "the certificate was revoked before",
    "badRevocationReason": "the CA does not accept the reason of a revocation",
    "serverInternal": "the CA has a problem of its own: try again later",
}

# Let's Encrypt's own words for its limits, and what each means here.
LIMITS = (
    (
        r"too many certificates \((\d+)\) already issued for this exact set of \w+ in the last (\w+)",
        "{0} certificates for just this name were issued in the last {1}: one may be in a backup of /var/lib/caddy",
    ),
    (
        r'too many certificates \((\d+)\) already issued for "([^"]+)" in the last (\w+)',
        "{0} certificates for names of {1} were issued in the last {2}: those of other servers count too",
    ),
    (
        r'too many failed authorizations \((\d+)\) for "([^"]+)" in the last (\w+)',
        "the CA has tried {0} times in the last {2} to find {1} here, and failed: find out why before it tries again",
    ),
    (
        r"too many new orders \((\d+)\) from this account in the last (\w+)",
        "{0} certificates were asked for by this account in the last {1}: the limit",
    ),
    (
        r"too many new registrations \((\d+)\) from this (?:IP address|/48 \w+ of IPv6 addresses) in the last (\w+)",
        "{0} accounts were opened from this address in the last {1}: the limit; other servers behind it count too",
    ),
)
_RETRY = re.compile(r"retry after (\d{4}-\d\d-\d\d)[T ](\d\d:\d\d):\d\d *(?:Z|UTC)")
_PAUSED = re.compile(r"temporarily prevented from requesting certificates for (\S+)")
_UNPAUSE = re.compile(r"(https://\S+/unpause\?jwt=\S+)")
_BUSY = re.compile(r"service busy|too many (?:concurrent )?requests|load shed", re.I)
# Of the reason "unauthorized": not what was found at the name, but the account itself.
_ACCOUNT = re.compile(
    r"account (?:is|has been|was) (?:not valid|deactivated|revoked)|external account binding|"
    r"references a key that is not known",
    re.I,
)
NO_CONNECTION = re.compile(
    r"failed to connect|connection refused|timed? ?out|timeout during connect|no route to host", re.I
)
_PROBLEM = re.compile(r"urn:ietf:params:acme:error:(\w+)(?: - (.*))?", re.S)
# acmez's way to write the problems that a problem has in it.
_INNER = re.compile(r'problem "urn:ietf:params:acme:error:(\w+)"')
_HOURS = re.compile(r"^(\d+)h(?:0m0s|0m)?$")


def translate(error: str) -> str:
    """Caddy's error as its cause, and the CA's own words behind it."""
    found = _PROBLEM.search(error)
    words = " ".join(error.split())[-300:]
    if found is None:
        return f"the CA could not be asked: {words}"
    kind, detail = found.group(1), " ".join((found.group(2) or "").split())
    cause = of_account(kind, detail) or of_limit(kind, detail)
    if not cause and kind == "compound" and (inner := _INNER.search(detail)):
        cause = f"{CAUSES[kind]}, the first: {CAUSES.get(inner[1], inner[1])}"
    if not cause:
        # Of a failed TLS-ALPN-01 some CAs say "unauthorized", though there was nobody to connect to.
        if kind == "unauthorized" and NO_CONNECTION.search(detail):
            kind = "connection"
        cause = CAUSES.get(kind, f"the CA refused ({kind})")
    until = retry_time(detail)
    wait = f"; try again after {until}" if until else ""
    # The link that ends a pause is a key to the account: it is said once, as what to do, and kept whole.
    return f"{cause}{wait}. The CA said: {_UNPAUSE.sub('(the link)', detail or words)[:300]}"


def of_limit(kind: str, detail: str) -> str:
    """Which limit is reached, in plain words; "" where these are of none."""
    if kind not in ("rateLimited", "serverInternal"):
        return ""
    for pattern, text in LIMITS:
        if found := re.search(pattern, detail):
            return "the CA's limit is reached: " + text.format(*(in_days(one) for one in found.groups()))
    return "the CA is busy: try again in some minutes" if _BUSY.search(detail) else ""


def of_account(kind: str, detail: str) -> str:
    """What is wrong with the account; "" where nothing is."""
    if paused := _PAUSED.search(detail):
        link = _UNPAUSE.search(detail)
        where = f": open {link[1]}" if link else ""
        return (
            f"the CA has paused this account for {paused[1]}, after many failures: put right what failed, then end the "
            f"pause{where}"
        )
    if kind in ("unauthorized", "malformed", "accountDoesNotExist") and _ACCOUNT.search(detail):
        return "the CA refuses the account: where it was made beforehand (EAB), take new keys from it (tls.eab_file)"
    return ""


def retry_time(detail: str) -> str:
    """When the CA says that it may be asked again: "2026-11-28 09:13 UTC"; "" where it does not."""
    found = _RETRY.search(detail)
    return f"{found[1]} {found[2]} UTC" if found else ""


def in_days(text: str) -> str:
    """Go's way to write a time, as people do: 168h0m0s is 7 days."""
    found = _HOURS.match(text)
    if not found:
        return text
    hours = int(found[1])
    if hours % 24 == 0 and hours > 24:
        return f"{hours // 24} days"
    return f"{hours} hours" if hours > 1 else "hour"
