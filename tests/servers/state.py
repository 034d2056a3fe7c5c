"""What a state of a server is that is recorded, and how one is brought about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab import Server, ServerSpec

PROGRAM = "/opt/vllm-https-setup/bin/python"
FIREWALL = ("firewall.enabled", "firewall.https_port", "firewall.proof", "firewall.safety", "firewall.ssh_port")
BIND = ("bind.launch_script", "bind.listener")
CADDY = ("caddy.keyring", "caddy.list", "caddy.package")
TLS = ("tls.caddyfile", "tls.root")
FRESH = (*FIREWALL, *BIND, *CADDY, *TLS)
# The rows of the final test that fail where no Caddy answers.
NO_CADDY = ("api.blocked", "api.models", "api.unauthorized", "net.open", "tls.handshake", "tls.trusted")
NOT_SET_UP = (*NO_CADDY, "net.closed")


@dataclass(frozen=True)
class State:
    """`drift`, `blocked` and `failing` are stated by hand: the recording is refused where it says otherwise."""

    protects: str
    spec: ServerSpec = field(default_factory=ServerSpec)
    prepare: Callable[[Server, str], None] = lambda server, answers: None
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    drift: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    warn: tuple[str, ...] = ()
    untried: tuple[str, ...] = ("api.chat", "api.stream")
    loads: bool = True


def commands(*lines: str) -> Callable[[Server, str], None]:
    """Prepares by these shell lines."""

    def prepare(server: Server, answers: str) -> None:
        server.run(["sh", "-euc", "\n".join(lines)])

    return prepare


def apply(server: Server, answers: str) -> None:
    """The whole of it, as an operator would."""
    server.put("/root/answers.yaml", answers.encode(), 0o600)
    server.ssh("sudo vllm-https-setup apply --answers /root/answers.yaml", timeout=180)
    server.run(["rm", "/root/answers.yaml"])


def applied(*lines: str) -> Callable[[Server, str], None]:
    """Prepares by an apply, and these shell lines after it."""

    def prepare(server: Server, answers: str) -> None:
        apply(server, answers)
        commands(*lines)(server, answers)

    return prepare
