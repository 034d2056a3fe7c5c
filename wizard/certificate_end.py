"""When the certificate ends that clients depend on, and how near that is."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from . import acme
from .caddy_service import CADDYS_LOG
from .caddyfile import CERTIFICATE
from .paths import CADDY_ROOT, ROOT_CERTIFICATE
from .unit_log import LINES

if TYPE_CHECKING:
    from cryptography import x509

    from .engine import Look

# Days before the end at which it is told of. A new root has to reach every client first.
DAYS = {"custom": (7, 14, 30), "internal": (7, 14, 30, 90)}
# Caddy renews when a third of the lifetime is left: who has less than this left was tried for, and did not get one.
OVERDUE = 1 / 4
CA = posixpath.dirname(posixpath.dirname(posixpath.dirname(CADDY_ROOT)))
ENDED, LATE = "ended", "overdue"
ASKED_S = 2 * 24 * 3600  # Caddy tries again after a day at the latest


@dataclass(frozen=True)
class Ending:
    """A certificate's time: `id` tells it from the next one. In mode internal it is Caddy's root: all below it lives
    for hours or days, by design, and is renewed in time."""

    mode: str
    id: str
    not_before: datetime
    not_after: datetime

    def stage(self, now: datetime) -> str:
        """ "" while there is time; the days of a threshold, or LATE, where it nears its end; ENDED after that."""
        left = self.not_after - now
        if left <= timedelta(0):
            return ENDED
        if self.mode == "acme":
            return LATE if left < (self.not_after - self.not_before) * OVERDUE else ""
        return next((str(days) for days in DAYS[self.mode] if left <= timedelta(days=days)), "")


def find_ending(look: Look) -> Ending | None:
    """Of the certificate that Caddy has; None where there is none that can be read, which other checks tell of."""
    mode = look.answers.tls.mode
    path = {"custom": CERTIFICATE, "internal": CADDY_ROOT}.get(mode) or acme.certificate_path(look)
    state = look.server.read(path)
    if state is None or state.kind != "file":
        return None
    from cryptography import x509

    try:
        return ending_of(mode, x509.load_pem_x509_certificate(state.content))
    except ValueError:
        return None


def ending_of(mode: str, certificate: x509.Certificate) -> Ending:
    from cryptography.hazmat.primitives.serialization import Encoding

    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    return Ending(mode, digest, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def words(ending: Ending, stage: str, now: datetime) -> str:
    """The end in words, for a stage that is one."""
    what = "Caddy's root certificate" if ending.mode == "internal" else "the certificate"
    until = f"{ending.not_after.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if stage == ENDED:
        return f"{what} has ended, on {until}: no client accepts it"
    left = ending.not_after - now
    said = f"{left.days} days" if left >= timedelta(days=2) else f"{left.total_seconds() / 3600:.0f} hours"
    late = ", and Caddy should have renewed it" if stage == LATE else ""
    return f"{what} ends in {said}, on {until}{late}"


def remedy(ending: Ending) -> str:
    return {
        "custom": "have it renewed where it came from; new files are checked and loaded by themselves",
        "acme": f"{CADDYS_LOG}; then: sudo vllm-https-setup status",
        "internal": f"a new CA: sudo rm -r {CA}; sudo systemctl restart caddy; sudo vllm-https-setup repair; then give "
        f"clients the new {ROOT_CERTIFICATE}",
    }[ending.mode]


def last_refusal(look: Look) -> str:
    """Why Caddy's last attempt to renew failed, in plain words; "" where its journal has none."""
    now = look.server.now()
    argv = (*LINES, "-u", "caddy.service", f"--since=@{int(now - ASKED_S)}")
    return read_refusal(look.server.query(argv).out, look.answers.tls.domain or "")


def read_refusal(journal: str, domain: str) -> str:
    """The last refusal of this name that Caddy's log tells of, in plain words; "" where there is none."""
    lines = [line for line in journal.splitlines() if "could not get certificate from issuer" in line]
    for line in reversed(lines):
        found = acme.read_progress(line, domain, 0)
        if found.done is False:
            return found.detail
    return ""
