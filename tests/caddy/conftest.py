"""The doors are shut here as they are for the unit tests, but for the real Caddy."""

from tests.unit.conftest import any_owner, doors, pytest_configure

__all__ = ["any_owner", "doors", "pytest_configure"]
