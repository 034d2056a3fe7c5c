"""Ubuntu 24.04 lies between two Debian releases: what holds on both is the best evidence to be had without it."""

from collections.abc import Callable

import pytest

from tests.lab import Acme, Lab, ServerSpec
from tests.lab.operator import Document, Operator, rows, troubles
from tests.lab.site import Site, proof

pytestmark = pytest.mark.lab


def done(document: Document) -> list[tuple[str, object]]:
    """What is changed, and how; diffs aside: a plan does not know the Caddyfile that the package will bring."""
    changes = [change for step in document["steps"] for change in step["changes"]]
    return [(one["kind"], one.get("argv") or one.get("path") or one.get("for")) for one in changes]


@pytest.mark.suites("trixie")
@pytest.mark.parametrize("mode", ["internal", "acme", "custom"])
def test_each_mode_holds_on_the_newer_release_too(
    mode: str, lab: Lab, acme: Acme, attend: Callable[[ServerSpec], Operator]
) -> None:
    site = Site(lab, acme, attend(ServerSpec(guide_packages=True)))
    site.answer_mode(mode)
    planned = site.operator.plan()
    document = site.operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    # The root of a private CA can't be known: that row was not tried, and says why.
    untried = ["tls.trusted"] if mode == "acme" else []
    assert [name for name, ok in rows(document).items() if ok is not True] == untried
    assert done(planned) == done(document)
    assert site.seen_from_outside(mode) == proof(mode)
    again = site.operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
