"""Who is connected to vLLM's port is told before that port is closed to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard.model import Finding, Level
from wizard.steps import bind


def clients(server: scenario.Scenario) -> Finding | None:
    return next((one for one in bind.inspect(server.look()) if one.key == "bind.clients"), None)


def with_connections(*far_ends: str, name: str = "exposed") -> scenario.Scenario:
    server = scenario.load(name)
    return replace(server, description=replace(server.description, connections={(8000,): far_ends}))


def test_recorded_client_is_named_with_what_it_will_need() -> None:
    found = clients(scenario.load("clients-connected"))
    assert found is not None and found.level is Level.INFO
    url = found.evidence["base_url"]
    assert found.evidence == {"clients": ["10.91.0.9"], "base_url": url}
    assert url.startswith("https://10.91.1.") and url.endswith("/v1")
    said = f"1 client is connected to port 8000 now (10.91.0.9); it will need {url} instead"
    assert found.summary == said


def test_nobody_is_said_of_a_server_without_clients() -> None:
    assert clients(scenario.load("exposed")) is None


def test_clients_are_counted_once_and_by_their_v4_address() -> None:
    found = clients(with_connections("10.0.0.9:40000", "10.0.0.5:40001", "::ffff:10.0.0.9:40002", "10.0.0.5:40003"))
    assert found is not None
    assert found.evidence["clients"] == ["10.0.0.5", "10.0.0.9"]
    assert found.summary.startswith("2 clients are connected to port 8000 now (10.0.0.5, 10.0.0.9); they will need ")


def test_many_clients_are_counted_and_a_few_named() -> None:
    found = clients(with_connections("2001:db8::7:40000", *(f"10.0.0.{number}:40000" for number in range(10, 1, -1))))
    assert found is not None
    assert "10 clients" in found.summary and "(10.0.0.2, 10.0.0.3, 10.0.0.4 and 7 more)" in found.summary
    assert found.evidence["clients"][-1] == "2001:db8::7"


@pytest.mark.parametrize("far_end", ["127.0.0.1:40000", "::1:40000", "::ffff:127.0.0.1:40000", "own"])
def test_programs_of_this_server_are_no_clients(far_end: str) -> None:
    """By loopback they go on as they are; by an address of its own vLLM is called from here, too."""
    own = scenario.load("exposed").description.addresses[0].address
    assert clients(with_connections(far_end if far_end != "own" else f"{own}:40000")) is None


@pytest.mark.parametrize("name", ["finished", "script-says-all-not-restarted"])
def test_nobody_is_asked_for_where_vllm_is_on_loopback_already(name: str) -> None:
    assert clients(with_connections("10.0.0.5:40000", name=name)) is None
