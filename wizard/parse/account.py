"""An ACME account that a CA has made beforehand (external account binding, RFC 8555 7.3.4), from the operator's file.

No text of an error has anything of the file in it: the key may be anywhere there.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field

_KEY_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,500}")
# The CAs' own names: RFC 8555's, and those that ZeroSSL's answers have.
_NAMES = (("key_id", "mac_key"), ("eab_kid", "eab_hmac_key"))
_FEWEST_BYTES = 16


@dataclass(frozen=True)
class Account:
    """`mac_key` is base64url without padding, as Caddy takes it."""

    key_id: str
    mac_key: str = field(repr=False)


def read_account(text: str) -> tuple[Account | None, str]:
    """The account; or None and what is wrong. Two lines, the key id first; or JSON with key_id and mac_key."""
    pair = _pair_of_json(text) if text.lstrip("\ufeff \t\r\n").startswith("{") else _pair_of_lines(text)
    if isinstance(pair, str):
        return None, pair
    key_id, mac_key = pair
    if not _KEY_ID.fullmatch(key_id):
        return None, "the key id is empty, or has a character that no key id has"
    normal = mac_key.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", normal):
            raise ValueError
        secret = base64.urlsafe_b64decode(normal + "=" * (-len(normal) % 4))
    except (ValueError, binascii.Error):
        return None, "the MAC key is not base64url"
    if len(secret) < _FEWEST_BYTES:
        return None, f"the MAC key is too short: {len(secret)} bytes; are the two lines exchanged?"
    return Account(key_id, normal), ""


def _pair_of_lines(text: str) -> tuple[str, str] | str:
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    return (lines[0], lines[1]) if len(lines) == 2 else f"it has {len(lines)} lines, and not two"


def _pair_of_json(text: str) -> tuple[str, str] | str:
    try:
        found = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return "it begins as JSON, and is not"
    for names in _NAMES:
        values = [found.get(name) for name in names] if isinstance(found, dict) else []
        if all(isinstance(value, str) for value in values) and values:
            return str(values[0]).strip(), str(values[1]).strip()
    return "it is JSON without key_id and mac_key"
