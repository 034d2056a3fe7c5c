"""A throw-away network with booted servers on it."""

import functools
import os
import time
from types import TracebackType
from typing import Literal, Self

from tests.lab import acme
from tests.lab.acme import Acme
from tests.lab.base import Base, ensure_base, ensure_packages
from tests.lab.certificates import Authority
from tests.lab.clean import sweep
from tests.lab.cloud import Cloud, Provider
from tests.lab.internet import Gate
from tests.lab.outside import Outside
from tests.lab.server import Server
from tests.lab.space import CA, CA6, Space
from tests.lab.spec import ServerSpec


class Lab:
    """The network, the gate and the hosts of one lab; leaves nothing behind, however it ends."""

    def __init__(self, suite: str = "bookworm") -> None:
        self.suite = suite
        self.id = f"{os.getpid():x}-{time.time_ns() // 1_000_000 % 0xFFFFFF:06x}"
        self.servers: list[Server] = []
        self._acme: Acme | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Build what the cache lacks, then make the network; about a second with a warm cache."""
        self.base: Base = ensure_base(self.suite)
        sweep()
        self._space = Space(self.id)
        self.gate = Gate(self._space, self.base.internet, self.base.layers[0])
        self.outside = Outside(self._space, self.base.internet.path)
        self.cloud = Cloud(self._space, self.gate.way)
        try:
            self._space.open()
            self.outside.open()
            self.gate.open()
        except BaseException:
            self.close()
            raise

    @property
    def key_fingerprint(self) -> str:
        """Of the key that signs Caddy's repository here: what answers need as caddy.key_fingerprint."""
        return self.base.internet.key_fingerprint

    @functools.cached_property
    def certificates(self) -> Authority:
        """A private certificate authority, for mode custom; see certificates.GOOD and BAD for what people bring."""
        return Authority()

    def boot(self, spec: ServerSpec | None = None, *, wait: bool = True, instead_of: Server | None = None) -> Server:
        """A new host, up unless `wait` is false; with the name and addresses of another one, which is gone."""
        spec = spec or ServerSpec()
        number = instead_of.number if instead_of else len(self.servers) + 1
        layers = (*ensure_packages(self.base, spec.debian_packages), *spec.layers)
        server = Server(self._space, self.outside, spec, layers, spec.name or f"h{number}", number)
        self.servers.append(server)
        server.prepare(self.outside.public_key)
        server.start()
        if wait:
            server.wait_until_up()
        return server

    def acme(self) -> Acme:
        """The lab's ACME authority, started by the first call (half a second)."""
        if self._acme is None:
            for name in (acme.NAME, acme.STAGING):
                self.gate.names.know(name, f"A {CA}", f"AAAA {CA6}")
            self._acme = Acme(self._space, self.base)
            self._acme.open()
        return self._acme

    def metadata(self, provider: Provider | Literal["silent"] | None, public_ipv4: str | None = None) -> None:
        """The cloud's metadata service at 169.254.169.254: a provider's, "hangs" (never answers), "silent" (packets
        vanish), or None: off, as at first; connections fail at once."""
        self.cloud.set(provider, public_ipv4)

    def translate(self, public_ipv4: str, server: Server) -> None:
        """1:1 NAT: an address of 203.0.113.0/24 that leads to a host, for the CA and the machine outside.

        The host itself cannot reach it (no hairpin), and has no interface with it.
        """
        self.gate.way.translate(public_ipv4, server)

    def abandon(self) -> None:
        """Leave it as a machine that ran out of memory would: the keeper is gone, the rest goes on."""
        self._space.abandon()

    def close(self) -> None:
        """End all of it. May be called twice."""
        self._space.close()
        for server in self.servers:
            server.close()
        self.gate.close()
        self.cloud.close()
        if self._acme is not None:
            self._acme.close()
