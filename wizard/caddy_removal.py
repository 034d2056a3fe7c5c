"""Whether Caddy goes with what is taken back: only where a run brought it, and no site of others needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .apt import CADDY, installed_by
from .caddy_source import KEYRING, LIST
from .caddyfile import ADDITIONS, CERTIFICATE, CERTIFICATES, KEY, is_packaged
from .engine import Look
from .paths import CADDY_SERVICE, CADDYFILE, SITE_FILE

DIRECTORY = "/etc/caddy"
OURS = {CADDYFILE, CERTIFICATES, SITE_FILE, ADDITIONS}


@dataclass(frozen=True)
class CaddyRemoval:
    """`goes`: the package is taken away; `keeps_data`: its certificates, its CA and its configuration stay.

    `serves`: it goes on with what somebody has made of its Caddyfile, and needs `kept_files`.
    """

    goes: bool = False
    keeps_data: bool = True
    serves: bool = False
    kept_files: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def takes_back(self, argv: Sequence[str], path: str) -> bool:
        """Whether this command, or what was written to this path, is taken back."""
        if path in self.kept_files:
            return False
        if CADDY in installed_by(argv):
            return self.goes
        # The service of a package that goes is stopped and disabled by the package itself.
        return CADDY_SERVICE not in argv or not (self.goes or self.serves)


def find_caddy_removal(
    look: Look, commands: Sequence[Sequence[str]], caddyfile: str, edited: Sequence[str], *, keep_data: bool
) -> CaddyRemoval:
    """What becomes of Caddy where these commands are taken back, its Caddyfile says this, and these files stay."""
    why = _who_needs_it(caddyfile, edited)
    kept, left = _copies_in_use(look, edited)
    if not any(CADDY in installed_by(argv) for argv in commands):
        return CaddyRemoval(serves=CADDYFILE in edited, kept_files=kept, left=left)
    if why:
        said = f"Caddy stays: {why}; so do apt's entry and key for its updates"
        return CaddyRemoval(serves=True, kept_files=(KEYRING, LIST, *kept), left=(said, *left))
    theirs = _of_others(look)
    words = tuple(f"{path} is not ours: it stays" for path in theirs)
    return CaddyRemoval(goes=True, keeps_data=keep_data or bool(theirs), left=words)


def _who_needs_it(caddyfile: str, edited: Sequence[str]) -> str:
    """Whose site needs Caddy, once ours is gone; "" where nobody's does."""
    if CADDYFILE in edited:
        return f"{CADDYFILE} was edited since, and it goes on with that"
    return "" if is_packaged(caddyfile) else f"{CADDYFILE} has sites of others"


def _copies_in_use(look: Look, edited: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The copies of a certificate that an edited Caddyfile names: without them Caddy would not start."""
    now = look.server.read(CADDYFILE) if CADDYFILE in edited else None
    if now is None or CERTIFICATE not in now.text:
        return (), ()
    return (CERTIFICATE, KEY), (f"{CERTIFICATES} stays, for {CADDYFILE} names it: nobody renews these copies now",)


def _of_others(look: Look) -> tuple[str, ...]:
    """What somebody has put beside our configuration: a purge of the package would delete it."""
    places = (DIRECTORY, ADDITIONS)
    found = [f"{place}/{name}" for place in places for name in look.server.names(place)]
    return tuple(path for path in found if path not in OURS)
