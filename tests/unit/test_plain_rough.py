"""What goes wrong around the wizard line by line."""

from __future__ import annotations

from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from tests.unit.test_plain import to_step, walk
from wizard.draft import Draft
from wizard.model import SetupError


class Full(DescribedGateway):
    """A server whose disk takes no draft."""

    def keep(self, draft: Draft) -> None:
        raise SetupError("draft.yaml could not be written: No space left on device.", "df -h /var")


def test_answers_that_can_not_be_kept_are_no_obstacle_and_said_so_at_the_end() -> None:
    lines = [*to_step("tls"), "1", "10.0.0.9", "b", "10.0.0.8", "q"]
    code, shown = walk(Full(scenario.load("exposed")), *lines)
    flat = " ".join(shown.split())
    assert flat.count("Your answers are not kept for a next start: draft.yaml could not be written") == 1
    assert "Nothing was changed. Your answers could not be kept: draft.yaml" in flat
    assert code != 1
