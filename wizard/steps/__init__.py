"""The steps, in their order."""

from ..engine import Step
from . import bind, caddy, firewall, harden, https_test, preflight, tls

STEPS: tuple[Step, ...] = (
    preflight.STEP,
    firewall.STEP,
    bind.STEP,
    caddy.STEP,
    tls.STEP,
    harden.STEP,
    https_test.STEP,
)
