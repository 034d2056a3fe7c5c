"""The doors are shut here as they are for the unit tests: a wizard on the simulated server needs none of them."""

from tests.unit.conftest import any_owner, doors, pytest_configure

__all__ = ["any_owner", "doors", "pytest_configure"]
