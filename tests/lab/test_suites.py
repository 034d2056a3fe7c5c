"""Ubuntu 24.04 lies between two Debian releases: what holds on both is the best evidence to be had without it."""

from collections.abc import Callable

import pytest

from tests.lab import ServerSpec
from tests.lab.operator import Document, Operator

pytestmark = pytest.mark.lab


def done(document: Document) -> list[tuple[str, object]]:
    """What is changed, and how; diffs aside: a plan does not know the Caddyfile that the package will bring."""
    changes = [change for step in document["steps"] for change in step["changes"]]
    return [(one["kind"], one.get("argv") or one.get("path") or one.get("for")) for one in changes]


@pytest.mark.suites("trixie")
def test_main_job_holds_on_the_newer_release_too(attend: Callable[[ServerSpec], Operator]) -> None:
    operator = attend(ServerSpec(guide_packages=True))
    planned = operator.plan()
    document = operator.apply()
    assert document["exit_code"] == 0, document
    assert [row["id"] for row in document["tests"] if not row["ok"]] == []
    assert done(planned) == done(document)
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
