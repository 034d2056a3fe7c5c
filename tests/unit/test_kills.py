"""Which instants `tests/lab/kill` chooses, from how long each action took where nobody killed it."""

from __future__ import annotations

import pytest

from tests.lab.kills import LATEST, Reference, choose_instants

SECONDS = (0.001, 0.4, 0.01, 1.6)
REFERENCE = Reference(("write a", "run b", "write c", "run d"), SECONDS, ("a", "c"))


def test_every_action_is_killed_at_its_beginning() -> None:
    at_begin = [one for one in choose_instants(REFERENCE, 4) if not one.after]
    assert [(one.number, one.words) for one in at_begin] == list(enumerate(REFERENCE.words, 1))


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_rest_falls_within_the_long_actions_most_in_the_longest(seed: int) -> None:
    instants = choose_instants(REFERENCE, 14, seed)
    within = [one for one in instants if one.after]
    assert len(instants) == 14
    assert [sum(one.number == number for one in within) for number in (1, 2, 3, 4)] == [0, 2, 0, 8]
    assert all(0 < one.after <= LATEST * SECONDS[one.number - 1] for one in within)


def test_seed_names_the_moments() -> None:
    assert choose_instants(REFERENCE, 14, 3) == choose_instants(REFERENCE, 14, 3)
    assert choose_instants(REFERENCE, 14, 3) != choose_instants(REFERENCE, 14)


def test_few_kills_are_spread_from_the_first_action_to_the_last() -> None:
    assert [one.number for one in choose_instants(REFERENCE, 2)] == [1, 4]
