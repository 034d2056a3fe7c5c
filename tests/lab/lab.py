"""A throw-away network with booted servers on it."""

import os
import time
from types import TracebackType
from typing import Self

from tests.lab.base import Base, ensure_base, ensure_packages
from tests.lab.clean import sweep
from tests.lab.internet import Gate
from tests.lab.outside import Outside
from tests.lab.server import Server
from tests.lab.space import Space
from tests.lab.spec import ServerSpec


class Lab:
    """The network, the gate and the hosts of one lab; leaves nothing behind, however it ends."""

    def __init__(self, suite: str = "bookworm") -> None:
        self.suite = suite
        self.id = f"{os.getpid():x}-{time.time_ns() // 1_000_000 % 0xFFFFFF:06x}"
        self.servers: list[Server] = []

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
        self.gate = Gate(self._space, self.base.internet)
        self.outside = Outside(self._space, self.base.internet.path)
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

    def boot(self, spec: ServerSpec | None = None, *, wait: bool = True) -> Server:
        """A new host, up unless `wait` is false."""
        spec = spec or ServerSpec()
        number = len(self.servers) + 1
        layers = (*ensure_packages(self.base, spec.debian_packages), *spec.layers)
        server = Server(self._space, self.outside, spec, layers, spec.name or f"h{number}", number)
        self.servers.append(server)
        server.prepare(self.outside.public_key)
        server.start()
        if wait:
            server.wait_until_up()
        return server

    def abandon(self) -> None:
        """Leave it as a machine that ran out of memory would: the keeper is gone, the rest goes on."""
        self._space.abandon()

    def close(self) -> None:
        """End all of it. May be called twice."""
        self._space.close()
        for server in self.servers:
            server.close()
        self.gate.close()
