"""The cloud's metadata over real HTTP: each provider's own paths, headers and token, and one that never answers."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.lab.metadata import Handler
from tests.servers import scenario
from wizard import exchange
from wizard.described import DescribedMachine
from wizard.facts import Facts
from wizard.public_addresses import METADATA, ask_metadata
from wizard.server import Request, Response

pytestmark = pytest.mark.allow_network("127.0.0.1")

HERE = "203.0.113.7"
Tell = Callable[[str, str | None], None]


class Machine(DescribedMachine):
    """Its requests to the metadata's address go to a port of loopback."""

    port = 0

    def exchange(self, request: Request) -> Response:
        assert (request.address, request.port) == (METADATA, 80)
        return exchange.exchange(replace(request, address="127.0.0.1", port=self.port))


class Service(ThreadingHTTPServer):
    """Its end is the end of every request's thread, too."""

    daemon_threads = False


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Says which provider answers, and the public address that it knows."""
    place = tmp_path / "metadata.json"
    monkeypatch.setattr(sys, "argv", ["metadata", str(place)])

    def tell(provider: str, address: str | None) -> None:
        beside = place.with_suffix(".new")
        beside.write_text(json.dumps({"provider": provider, "public_ipv4": address}))
        beside.replace(place)

    tell("hetzner", None)
    return tell


@pytest.fixture
def server(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Facts]:
    monkeypatch.setattr(Handler, "log_message", lambda *_: None)
    service = Service(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=service.serve_forever, args=(0.02,))
    thread.start()
    machine = Machine(scenario.load("exposed").description)
    machine.port = service.server_port
    yield Facts(machine)
    # A request that hangs is let go.
    tell("hetzner", None)
    service.shutdown()
    thread.join()
    service.server_close()


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("aws", "AWS"),
        ("gcp", "Google Cloud"),
        ("azure", "Azure"),
        ("openstack", "OpenStack"),
        ("digitalocean", "DigitalOcean"),
        ("hetzner", "Hetzner"),
    ],
)
def test_each_provider_is_asked_as_it_wants_to_be(server: Facts, tell: Tell, provider: str, name: str) -> None:
    tell(provider, HERE)
    assert ask_metadata(server, 5) == ((HERE,), name)


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure", "openstack", "digitalocean", "hetzner"])
def test_instance_without_a_public_address_has_none(server: Facts, tell: Tell, provider: str) -> None:
    tell(provider, None)
    assert ask_metadata(server, 5) == ((), "")


def test_service_that_never_answers_is_left_behind(server: Facts, tell: Tell) -> None:
    tell("hangs", HERE)
    assert ask_metadata(server, 0.2) == ((), "")
