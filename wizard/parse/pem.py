"""PEM files as people have them: with a BOM, CRLF, indented, joined without a line break. Nothing is decrypted."""

import base64
import binascii
import re
from dataclasses import dataclass, field

_MARKER = re.compile(rb"-----(BEGIN|END) ([A-Z0-9][A-Z0-9 #]{0,40})-----")
_HEADER = re.compile(rb"[A-Za-z0-9-]+:.*")


@dataclass(frozen=True)
class Block:
    """What stands between BEGIN and END. `der` is None where it is cut off or damaged."""

    label: str
    der: bytes | None = field(repr=False)
    encrypted: bool = False

    @property
    def is_private_key(self) -> bool:
        """True by the rule that Caddy reads with (Go's crypto/tls)."""
        return self.label.endswith("PRIVATE KEY")


def read_blocks(data: bytes) -> tuple[Block, ...]:
    """Every block, in the file's order. Text around them is left out, as Caddy does; () where there is none."""
    found: list[Block] = []
    label, start = None, 0
    for marker in _MARKER.finditer(data):
        kind, name = marker.group(1), marker.group(2).decode("ascii")
        if kind == b"END" and label is None:
            continue
        if label is not None:
            whole = kind == b"END" and name == label
            found.append(_read_body(label, data[start : marker.start()]) if whole else Block(label, None))
        label, start = (name, marker.end()) if kind == b"BEGIN" else (None, 0)
    if label is not None:
        found.append(Block(label, None))
    return tuple(found)


def write_block(label: str, der: bytes) -> bytes:
    """The block as RFC 7468 has it: 64 columns, LF."""
    text = base64.b64encode(der)
    lines = [text[place : place + 64] for place in range(0, len(text), 64)]
    name = label.encode("ascii")
    return b"\n".join((b"-----BEGIN " + name + b"-----", *lines, b"-----END " + name + b"-----", b""))


def _read_body(label: str, body: bytes) -> Block:
    lines = [line.strip() for line in body.splitlines()]
    encrypted = any(line.startswith(b"Proc-Type:") and b"ENCRYPTED" in line for line in lines)
    text = b"".join(line for line in lines if not _HEADER.fullmatch(line))
    try:
        der = base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        der = b""
    return Block(label, der or None, encrypted)
