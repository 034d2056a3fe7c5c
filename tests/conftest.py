"""Marks what the fast part leaves out."""

import pytest

from tests.servers import scenario
from tests.thorough import is_for_later


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    servers = tuple(scenario.names())
    for item in items:
        module = item.getparent(pytest.Module)
        if module is not None and is_for_later(module.obj.__name__, item.name, servers):
            item.add_marker("thorough")
