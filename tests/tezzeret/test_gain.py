"""The choice by volume gained: as the exact hypervolume has it, and by distance where nothing is gained."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.tezzeret.algorithms import NSGA2, REFUSED, Outcome
from esper.tezzeret.algorithms.gain import directions, lacks, most_gained, volume_gains
from esper.tezzeret.pareto import hypervolume
from esper.tezzeret.space import Point, Space

figures = st.integers(0, 8).map(float)


@st.composite
def told(draw: st.DrawFn) -> np.ndarray:
    """Some vectors of 2 to 4 objectives, the worst corner among them."""
    objectives = draw(st.integers(2, 4))
    rows = draw(st.lists(st.tuples(*[figures] * objectives), max_size=12))
    return np.array([*rows, (8.0,) * objectives])


@given(told(), st.integers(0, 10**6))
def test_what_dominates_all_that_was_told_is_chosen_over_what_adds_nothing(
    known: np.ndarray, seed: int
) -> None:
    best, idle = known.min(0) - 1.0, known
    for place in (0, len(idle)):
        children = np.insert(idle, place, best, axis=0)
        assert most_gained(children, known, random.Random(seed)) == place


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_gains_are_differences_of_hypervolumes(objectives: int) -> None:
    numbers = np.random.default_rng(objectives)
    known = numbers.random((8, objectives)) + 0.2
    children = numbers.random((10, objectives))
    along = directions(60_000, objectives, random.Random(0))
    found = volume_gains(children, known, 1.3, along)
    reference = (1.3,) * objectives
    before = hypervolume(known.tolist(), reference)
    exact = [hypervolume([*known.tolist(), child], reference) - before for child in children.tolist()]
    assert max(exact) > 0
    assert found == pytest.approx(exact, rel=0.03, abs=0.003)


def test_where_nothing_is_gained_what_lacks_least_is_chosen() -> None:
    known = np.array([(0.0, 10.0), (4.0, 4.0), (10.0, 0.0)])
    children = np.array([(9.0, 9.0), (6.0, 4.5), (5.0, 5.5)])
    assert lacks(children, known) == pytest.approx([5.0, 0.5, 1.0])
    assert most_gained(children, known, random.Random(0)) == 1


@given(told())
def test_what_lacks_nothing_is_what_nothing_dominates(known: np.ndarray) -> None:
    shifted = known - 1e-6
    margin = lacks(known, shifted)
    for vector, lack in zip(known, margin, strict=True):
        is_dominated = bool((shifted <= vector).all(1).any())
        assert (lack >= 0) == is_dominated
        assert lacks(vector[None] - lack - 1e-9, shifted)[0] < 0


MIXED = Space({"a": tuple(range(6)), "b": ("x", "y", "z"), "c": (True, False), "d": tuple(range(5))})


@given(st.integers(0, 10**6), st.integers(2, 4))
@settings(max_examples=5)
def test_equal_seeds_ask_for_equal_points_whatever_is_refused_or_infeasible(
    seed: int, objectives: int
) -> None:
    def asked() -> list[Point]:
        algorithm, found = NSGA2(MIXED, random.Random(seed)), []
        for _ in range(40):
            point = algorithm.ask()
            assert point is not None
            a, d = int(point["a"]), int(point["d"])
            figures = tuple(float((a - index) ** 2 + d * index) for index in range(objectives))
            outcome = REFUSED if a == d else Outcome(figures, violation=max(0, a + d - 6) / 6)
            algorithm.tell(point, outcome)
            found.append(point)
        return found

    assert asked() == asked()
