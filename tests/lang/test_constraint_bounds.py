"""The targets that a check knows are those that a search has figures of."""

from __future__ import annotations

from esper.lang.constraint_bounds import TARGETS
from esper.tezzeret.costs import DEVICES


def test_a_check_knows_the_targets_of_a_search() -> None:
    assert tuple(DEVICES) == TARGETS
