"""What each finding means, and what to do, by its key: the words of docs/checks.md. A finding without them fails a
test, which says what to add here."""

from __future__ import annotations

from collections.abc import Mapping

from . import any_step, bind, caddy, firewall, harden, https_test, preflight, tls
from .meaning import Meaning

# By the step that a key begins with.
MEANINGS: Mapping[str, Mapping[str, Meaning]] = {
    "preflight": preflight.MEANINGS,
    "firewall": firewall.MEANINGS,
    "bind": bind.MEANINGS,
    "caddy": caddy.MEANINGS,
    "tls": tls.MEANINGS,
    "harden": harden.MEANINGS,
    "https_test": https_test.MEANINGS,
}
ANY_STEP: Mapping[str, Meaning] = any_step.MEANINGS

__all__ = ["ANY_STEP", "MEANINGS", "Meaning"]
