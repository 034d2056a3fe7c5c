"""What a run says first, where a step failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.servers import scenario
from wizard.engine import Step, StepResult
from wizard.execution import said_first
from wizard.model import Change, Status
from wizard.owned import Owned
from wizard.paths import CADDYFILE
from wizard.steps import STEPS

KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"
LOCAL_ONLY = "the API is local only now"


@pytest.mark.parametrize(
    ("ours", "written", "said"),
    [
        pytest.param(True, KEYRING, (), id="an earlier run's endpoint is served on"),
        pytest.param(True, CADDYFILE, (LOCAL_ONLY,), id="its Caddyfile was written anew"),
        pytest.param(False, KEYRING, (LOCAL_ONLY,), id="no run has set it up"),
    ],
)
def test_api_is_said_to_be_local_only_where_nothing_is_served(ours: bool, written: str, said: tuple[str, ...]) -> None:
    """The firewall, vLLM and a keyring that a full disk did not take: none of them ends what Caddy serves."""
    look = scenario.load("finished").look()
    owned = Owned().after_write(CADDYFILE, b"ours", None) if ours else Owned()
    caddy = StepResult(step("caddy"), Status.FAILED, changes=(Change("write", "", "none", path=written),))
    results = (StepResult(step("bind"), Status.CHANGED), caddy)
    told = said_first(results, replace(look, owned=owned))
    assert tuple(one[: len(LOCAL_ONLY)] for one in told) == said


def step(name: str) -> Step:
    return next(one for one in STEPS if one.id == name)
