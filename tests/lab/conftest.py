"""One lab per test process, and hosts that are thrown away after their test."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import Acme, Lab, Server, ServerSpec, ensure_program_layer
from tests.lab.long import is_left_out
from tests.lab.operator import Operator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        module = item.getparent(pytest.Module)
        if module is not None and is_left_out(module.obj.__name__, item.name):
            item.add_marker("long")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `suites` runs once in a lab of each of these Debian suites."""
    marker = metafunc.definition.get_closest_marker("suites")
    if marker is not None:
        metafunc.parametrize("lab", marker.args, indirect=True, scope="session")


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running lab: the network, the gate, the machine outside."""
    with Lab(getattr(request, "param", "bookworm")) as running:
        yield running


@pytest.fixture
def acme(lab: Lab) -> Iterator[Acme]:
    """The lab's certificate authority; names, metadata and refusals are gone after the test."""
    authority = lab.acme()
    yield authority
    authority.reset()
    lab.gate.names.clear()
    lab.metadata(None)


@pytest.fixture
def boot(lab: Lab) -> Iterator[Callable[[ServerSpec], Server]]:
    """Boots hosts that end with the test."""
    booted: list[Server] = []

    def one(spec: ServerSpec) -> Server:
        booted.append(lab.boot(spec))
        return booted[-1]

    yield one
    for server in booted:
        server.discard()


@pytest.fixture
def server(boot: Callable[[ServerSpec], Server]) -> Server:
    """A host in the guide's exact state: vLLM on all interfaces, no firewall."""
    return boot(ServerSpec())


@pytest.fixture(scope="session")
def program(lab: Lab) -> Path:
    """The layer that brings this checkout's program."""
    return ensure_program_layer(Path(__file__).resolve().parents[2], lab.suite)


@pytest.fixture
def attend(program: Path, lab: Lab, boot: Callable[[ServerSpec], Server]) -> Callable[[ServerSpec], Operator]:
    """Boots hosts that have the program, each with its operator."""
    return lambda spec: Operator(lab, boot(replace(spec, layers=(*spec.layers, program))))


@pytest.fixture
def operator(attend: Callable[[ServerSpec], Operator]) -> Operator:
    """The operator of an exposed host that has the program."""
    return attend(ServerSpec())


@pytest.fixture(scope="module")
def secured(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of a host that one `apply` has secured. Whoever breaks something there has it repaired."""
    server = lab.boot(ServerSpec(layers=(program,)))
    operator = Operator(lab, server)
    document = operator.apply()
    assert document["exit_code"] == 0, document
    yield operator
    server.discard()
