"""Single answers: what makes one right, and its normal form. Pure; nothing here knows a key or a file."""

from __future__ import annotations

import ipaddress
import re

# Shapes that the check and the JSON Schema share, so that both say the same.
PATH = r"^(/(?!\.{1,2}(/|$))[^/\x00-\x1f\x7f-\x9f]+)+$"
HTTPS_URL = (
    r"^https://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~+,;=:@%/&?-]*)?$"
)
FINGERPRINT = r"^([0-9A-Fa-f] {0,2}){40}$"
DURATION = r"^(?=[0-9hms]*[1-9])([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"
HSTS = r"^max-age=[0-9]{1,10}(; ?includeSubDomains)?(; ?preload)?$"
UNIT = r"^[A-Za-z0-9_][A-Za-z0-9:_.\\-]*(@[A-Za-z0-9:_.\\-]+)?\.service$"
FINDING = r"^(preflight|firewall|bind|caddy|tls|harden|https_test)(\.[a-z0-9_]+)+$"
PORT_RANGE = r"^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$"
MAILBOX = r"^[A-Za-z0-9!#%&*+/=?^_|~-]+(\.[A-Za-z0-9!#%&*+/=?^_|~-]+)*@[^\s@/:*\[\]]+\.[^\s@/:*\[\]]+$"
# Loose, as international names have yet to become punycode; no wildcard, port, path or IPv4 address.
DOMAIN = (
    r"^(?!.*\.[0-9]+\.?$)(?!-)[^\s/:*@_\[\].ßς\u200c\u200d]{1,63}(?<!-)"
    r"(\.(?!-)[^\s/:*@_\[\].ßς\u200c\u200d]{1,63}(?<!-))+\.?$"
)
HOST = r"^[^\s/*@_\[\]]+$"
NETWORK = r"^(any|[0-9A-Fa-f:.]+(/[0-9]{1,3})?)$"
NETWORK_ALONE = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"
ADDRESS = r"^[0-9A-Fa-f:.]+$"
SEGMENT = r"^(?!v[0-9]+$)[a-z0-9][a-z0-9_-]{0,62}$"
SIZE = r"^[1-9][0-9]{0,5}(KB|MB|GB)$"
LINE = r"^(?=\S)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]*(?<=\S)$"
PROMPT = r"^(?=[\s\S]*\S)[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]+$"
COMMENT = r"^[^'\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]*$"

LONGEST_S = 24 * 3600  # of a proxy's time limit: a day

# IDNA 2003 and 2008 turn these into different names, so that nobody can say which one is meant.
_AMBIGUOUS = "ßς\u200c\u200d"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Wrong(ValueError):
    """An answer that is not right: what is wrong, and what would be right (None: in the key's own words)."""

    def __init__(self, message: str, expected: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected


def matching(pattern: str, text: str, message: str, expected: str | None = None) -> str:
    """The text itself where the whole of it has the shape; else raises Wrong."""
    if not re.fullmatch(pattern, text):
        raise Wrong(message, expected)
    return text


def path(text: str) -> str:
    """An absolute path in its normal form. The text is not quoted back: it may be a pasted key."""
    if "-----BEGIN" in text:
        raise Wrong("this is the content of a PEM file, not its path", "the absolute path of that file")
    if not text.startswith("/"):
        raise Wrong("this path is not absolute", "a path that begins with /")
    return matching(PATH, text, "this path has //, a . or .. part, a control character, or ends in /")


def https_url(text: str) -> str:
    """An https address without credentials, query string tricks or quotes."""
    if text.lower().startswith("http://"):
        raise Wrong("this address is not encrypted", "the same address with https://")
    if "@" in text.partition("//")[2].partition("/")[0]:
        raise Wrong("this address has credentials in it; no secret is ever an answer")
    return matching(HTTPS_URL, text, "this is not an https address")


def fingerprint(text: str) -> str:
    """40 hexadecimal digits, upper case, without spaces."""
    matching(FINGERPRINT, text, "this is not a key's fingerprint")
    return text.replace(" ", "").upper()


def seconds(text: str) -> int:
    """How long `1h30m`, `10m` or `3600s` is."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"([0-9]+)([hms])", text))


def duration(text: str) -> str:
    """A time with its unit, as it stands, where it is between a second and a day."""
    shape = DURATION.replace("[1-9]", "[0-9]", 1)  # nought has the shape, and its own message
    matching(shape, text, f"{quoted(text)} is not a time with its unit")
    if not 1 <= seconds(text) <= LONGEST_S:
        raise Wrong(f"{text} is out of range", "1s to 24h")
    return text


def hsts(text: str) -> str:
    """The value of a Strict-Transport-Security header."""
    return matching(HSTS, text, "this is not a Strict-Transport-Security header's value")


def unit(text: str) -> str:
    """The name of a systemd service."""
    return matching(UNIT, text, f"{quoted(text)} is not the name of a service")


def finding(text: str) -> str:
    """The key of a finding: a step's id, a dot, a name."""
    return matching(FINDING, text, f"{quoted(text)} is not the key of a finding")


def line(text: str) -> str:
    """One line of text without control characters or space at its ends."""
    return matching(LINE, text, "this is empty, has a control character, or has space at an end", "one line of text")


def prompt(text: str) -> str:
    """Text with at least one letter, that may have line breaks and tabs but no other control character."""
    return matching(PROMPT, text, "this is empty or has a control character")


def comment(text: str) -> str:
    """A rule's comment; ufw refuses the apostrophe and cannot keep a line break."""
    return matching(COMMENT, text, "this has an apostrophe or a control character", "one line without '")


def port_range(text: str) -> str:
    """`6000:6010`, as ufw writes it."""
    matching(PORT_RANGE, text, f"{quoted(text)} is not a port or a range of ports")
    low, high = map(int, text.split(":"))
    if not low < high <= 65535:
        raise Wrong(f"{text} is not a range of ports", "the lower port first, none above 65535")
    return text


def domain(text: str) -> str:
    """One full name in lower case; an international one as punycode. No wildcard, no address, no port."""
    if text.startswith("*."):
        raise Wrong("a wildcard is not a name that clients can call", "one name, such as llm.example.com")
    if _is_address(text):
        raise Wrong(f"{quoted(text)} is an address, not a name", "a name that points to this server")
    name = hostname(text)
    if "." not in name:
        raise Wrong(f"{quoted(text)} is not a full name", "a name with its domain, such as llm.example.com")
    return name


def email(text: str) -> str:
    """A mail address; its domain as punycode."""
    matching(MAILBOX, text, f"{quoted(text)} is not a mail address")
    name, _, at = text.rpartition("@")
    return f"{name}@{domain(at)}"


def host(text: str) -> str:
    """An IP address, or a name (one label is enough) as punycode."""
    if text.startswith("*."):
        raise Wrong("a wildcard is not a name that clients can call", "one name or address an item")
    return address(text) if _is_address(text) else hostname(text)


def hostname(text: str) -> str:
    """A name by the rules for host names (RFC 1123), lower case, punycode, without the root's dot."""
    for sign, what in (
        ("//", "a scheme"),
        ("/", "a path"),
        (":", "a port"),
        ("@", "an @"),
        ("_", "_"),
    ):
        if sign in text:
            raise Wrong(f"{quoted(text)} has {what} in it", "the name alone, such as llm.example.com")
    if any(character in _AMBIGUOUS for character in text):
        raise Wrong(f"{quoted(text)} has a letter that IDNA 2003 and 2008 write differently", "the name as xn--…")
    try:
        name = text.encode("idna").decode("ascii").lower().removesuffix(".")
        name.encode("ascii").decode("idna")  # refuses an xn-- label that is no punycode
    except (UnicodeError, IndexError):
        raise Wrong(f"{quoted(text)} is not a host name") from None
    labels = name.split(".")
    if len(name) > 253 or not all(len(label) <= 63 and _LABEL.fullmatch(label) for label in labels):
        raise Wrong(f"{quoted(text)} is not a host name", "letters, digits and hyphens, labels of 1 to 63")
    if _NUMBER.fullmatch(labels[-1]):
        raise Wrong(f"{quoted(text)} is read as an address", "a name whose last part is not a number")
    return name


def address(text: str) -> str:
    """An IPv4 or IPv6 address that a client can call, in its normal form."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise Wrong(f"{quoted(text)} is not an IP address") from None
    if found.is_unspecified or found.is_multicast or "%" in text:
        raise Wrong(f"{text} is not the address of one server")
    return str(found)


def public_address(text: str) -> str:
    """An address that a DNS record of this server may hold."""
    found = address(text)
    if ipaddress.ip_address(found).is_loopback:
        raise Wrong(f"{found} is this machine's own loopback", "the address that clients reach")
    return found


def source(text: str) -> str:
    """`any`, an address, or a network without host bits, as ufw shows them."""
    if text == "any":
        return text
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Wrong(f"{quoted(text)} is neither a network nor an address") from None
    if str(found.network_address) != text.partition("/")[0] and ipaddress.ip_address(text.partition("/")[0]) != (
        found.network_address
    ):
        raise Wrong(f"{text} has bits set beyond its prefix", str(found))
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)


def network(text: str) -> str:
    """An address, or a network without host bits."""
    matching(NETWORK_ALONE, text, f"{quoted(text)} is neither a network nor an address")
    return source(text)


def segment(text: str) -> str:
    """One part of a path, before /v1."""
    what = "this cannot be told from /v1 itself" if re.fullmatch(r"v[0-9]+", text) else ""
    return matching(SEGMENT, text, what or f"{quoted(text)} is not one part of a path", "one word such as embed")


def size(text: str) -> str:
    """`100MB`, as Caddy reads it: 10^6 bytes."""
    return matching(SIZE, text, f"{quoted(text)} is not a size with its unit", "a size such as 100MB")


def quoted(text: str) -> str:
    """The text for an error message: one short line in quotation marks."""
    line_ = "".join(character if character.isprintable() else "·" for character in text)
    return f'"{line_[:60]}…"' if len(line_) > 60 else f'"{line_}"'


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
