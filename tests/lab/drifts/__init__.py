"""The catalogue: how a server that was set up can drift on booted servers, and what becomes of it. As data."""

from tests.lab.drifts.caddy import CADDY
from tests.lab.drifts.custom import CUSTOM
from tests.lab.drifts.drift import Drift
from tests.lab.drifts.firewall import FIREWALL
from tests.lab.drifts.tls import TLS
from tests.lab.drifts.vllm import VLLM

# By where they are made: on a server of mode internal, and on one of mode custom with a Caddyfile of others.
INTERNAL = (*FIREWALL, *VLLM, *CADDY, *TLS)

__all__ = ["CADDY", "CUSTOM", "FIREWALL", "INTERNAL", "TLS", "VLLM", "Drift"]
