"""The cloud that hosts may believe to be in: its metadata service at 169.254.169.254."""

import json
import sys
from typing import Literal

from tests.lab import cache
from tests.lab.metadata import ADDRESS
from tests.lab.service import Service
from tests.lab.space import BRIDGE, Space
from tests.lab.way import Way

Provider = Literal["aws", "gcp", "azure", "openstack", "digitalocean", "hetzner", "hangs"]


class Cloud:
    """Off at first: connections to the address fail at once (no route)."""

    def __init__(self, space: Space, way: Way) -> None:
        self._space = space
        self._way = way
        self._file = space.files / "metadata.json"
        self._service: Service | None = None
        self._silent = False

    def set(self, provider: Provider | Literal["silent"] | None, public_ipv4: str | None) -> None:
        """Switch it on as a provider's, to "silent" (packets vanish), or off (None)."""
        if self._silent:
            self._way.ip(f"route del blackhole {ADDRESS}/32")
            self._silent = False
        if provider is None or provider == "silent":
            self._stop()
            if provider == "silent":
                self._way.ip(f"route add blackhole {ADDRESS}/32")
                self._silent = True
            return
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps({"provider": provider, "public_ipv4": public_ipv4}))
        beside.replace(self._file)
        if self._service is None:
            self._way.ip(f"addr add {ADDRESS}/32 dev {BRIDGE}")
            program = [sys.executable, "-I", str(cache.HERE / "metadata.py"), str(self._file)]
            self._service = Service(self._space, program, self._space.files / "metadata.log")
            self._service.wait_for(f"{ADDRESS}:80")

    def requests(self) -> list[str]:
        """The service's access log."""
        return [] if self._service is None else self._service.log().splitlines()

    def _stop(self) -> None:
        if self._service is not None:
            self._service.stop()
            self._service = None
            self._way.ip(f"addr del {ADDRESS}/32 dev {BRIDGE}")

    def close(self) -> None:
        """Wait for the end that the lab's end has brought."""
        if self._service is not None:
            self._service.close()
            self._service = None
