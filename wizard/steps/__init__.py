"""The steps, in their order."""

from ..engine import Step
from . import bind, caddy, firewall, https_test, preflight, tls

STEPS: tuple[Step, ...] = (
    preflight.STEP,
    firewall.STEP,
    bind.STEP,
    caddy.STEP,
    tls.STEP,
    https_test.STEP,
)
