"""The bound on a further family's score: its coverage, and what it needs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.tezzeret.prediction.conformal import bound, least_families

scores = st.lists(
    st.tuples(st.sampled_from("abcdefghijkl"), st.floats(0, 1e6, allow_nan=False)), min_size=1, max_size=60
)


def drawn(rng: random.Random, family: int) -> list[tuple[str, float]]:
    """Scores of a family that has an error of its own, and as many members as chance gives."""
    own = rng.lognormvariate(0, 1)
    return [(str(family), own * abs(rng.gauss(1, 0.3))) for _ in range(rng.randint(1, 12))]


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_a_further_family_is_covered_as_often_as_the_level_says(level: float) -> None:
    rng = random.Random(0)
    shares = []
    for _ in range(1000):
        known = [one for family in range(24) for one in drawn(rng, family)]
        limit = bound(known, level)
        further = drawn(rng, 24)
        shares.append(sum(score <= limit for _, score in further) / len(further))
    covered = sum(shares) / len(shares)
    assert level - 0.02 <= covered <= level + 1 / 25 + 0.02


@settings(max_examples=60)
@given(scores)
def test_a_higher_level_never_has_a_lower_bound(found: list[tuple[str, float]]) -> None:
    bounds = [bound(found, level) for level in (0.1, 0.5, 0.8, 0.9, 0.99)]
    assert bounds == sorted(bounds)


@settings(max_examples=60)
@given(scores, st.integers(1, 5))
def test_how_often_a_family_was_measured_changes_nothing(found: list[tuple[str, float]], times: int) -> None:
    family = found[0][0]
    repeated = found + [one for one in found if one[0] == family] * times
    assert bound(repeated, 0.7) == bound(found, 0.7)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_a_finite_bound_needs_the_least_number_of_families(level: float) -> None:
    least = least_families(level)
    enough = [(str(number), 1.0) for number in range(least)]
    assert bound(enough, level) == 1.0
    assert bound(enough[1:], level) == math.inf
