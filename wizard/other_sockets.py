"""Other sockets of vLLM's control group: what they most likely are, and what whoever reaches them could do.

Ports are vLLM's own defaults (vllm/config/parallel.py, kv_events.py, envs.py; docs/usage/security.md) and Ray's.
"""

from __future__ import annotations

from dataclasses import dataclass

from .server import Firewall, Listener

TORCH = (
    "most likely torch.distributed's store, on a port of its own choice: up to version 0.27.1 vLLM has one on every "
    "interface, newer ones only with several nodes or data parallel"
)
NO_KEY = "it asks nobody for a key"
CODE = "whoever reaches it can run code as vLLM's user"
KNOWN_PORTS = {
    29500: ("torch.distributed's store (the default port of its master, and of data parallel)", NO_KEY),
    29550: ("vLLM's data parallel (ZMQ)", CODE),
    5557: ("vLLM's events of its KV cache (ZMQ)", "it tells whoever listens what is in the cache"),
    5600: ("NIXL, by which KV caches are handed over", NO_KEY),
    8998: ("Mooncake, by which KV caches are handed over", CODE),
    14579: ("the handing over of KV caches", NO_KEY),
    6379: ("Ray's head", CODE),
    8265: ("Ray's dashboard", CODE),
    10001: ("Ray's door for clients", CODE),
}
RAY = ("raylet", "gcs_server", "ray::", "ray")


@dataclass(frozen=True)
class Judged:
    """A socket, what it is and what that means, and whether the firewall lets nobody to it."""

    listener: Listener
    what: str
    risk: str
    closed: bool


def judge(listener: Listener, firewall: Firewall) -> Judged:
    if listener.program.startswith(RAY):
        what, risk = KNOWN_PORTS.get(listener.port, ("a part of Ray", CODE))
    else:
        what, risk = KNOWN_PORTS.get(listener.port, (f"{TORCH}, or NCCL or ZMQ between vLLM's processes", NO_KEY))
    return Judged(listener, what, risk, _is_closed(listener, firewall))


def _is_closed(listener: Listener, firewall: Firewall) -> bool:
    if not firewall.enabled or firewall.defaults.input == "allow":
        return False
    return not any(
        rule.action in ("allow", "limit") and rule.direction == "in" and rule.covers(listener.port, "tcp")
        for rule in firewall.rules
        if not rule.routed
    )
