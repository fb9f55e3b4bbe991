"""Fronts, hypervolumes and knees, against what can be counted cell by cell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.tezzeret.fidelity import Judged
from esper.tezzeret.objectives import JUDGED_OBJECTIVES
from esper.tezzeret.pareto import dominates, front, hypervolume, knee

SIDE = 6
"""Vectors are whole numbers below it, so that volumes are counts of unit cells."""


def vectors(objectives: int, least: int = 0) -> st.SearchStrategy[list[tuple[int, ...]]]:
    return st.lists(st.tuples(*[st.integers(0, SIDE - 1)] * objectives), min_size=least, max_size=12)


some_vectors = st.integers(1, 4).flatmap(lambda objectives: vectors(objectives, least=1))


@given(some_vectors)
def test_the_front_is_what_nothing_dominates_and_the_first_of_equals(found: list[tuple[int, ...]]) -> None:
    expected = [
        index
        for index, vector in enumerate(found)
        if not any(dominates(other, vector) for other in found) and vector not in found[:index]
    ]
    assert front(found) == expected


def test_equal_vectors_do_not_dominate_each_other_whatever_holds_them() -> None:
    assert not dominates([1.0, 2.0], (1.0, 2.0)) and dominates([1.0, 1.0], (1.0, 2.0))


@given(
    st.lists(st.tuples(*[st.integers(1, 3)] * 4), min_size=1, max_size=8),
    st.sampled_from(("accuracy", "balanced")),
)
@settings(max_examples=40)
def test_nothing_is_ranked_before_what_dominates_it(figures: list[tuple[int, ...]], name: str) -> None:
    objective = JUDGED_OBJECTIVES[name]
    found = [
        Judged(params=params, flops=1, bytes=1, memory=memory, latency=latency * 1e-6, error=error / 4)
        for error, latency, memory, params in figures
    ]
    ranked = [objective.vector(found[place]) for place in objective.ranked(found)]
    assert not any(dominates(later, one) for place, one in enumerate(ranked) for later in ranked[place:])


@given(some_vectors)
def test_everything_off_the_front_is_dominated_or_equal_to_some_of_it(found: list[tuple[int, ...]]) -> None:
    kept = [found[index] for index in front(found)]
    assert all(vector in kept or any(dominates(one, vector) for one in kept) for vector in found)


@given(some_vectors)
def test_the_hypervolume_is_the_number_of_cells_that_are_dominated(found: list[tuple[int, ...]]) -> None:
    objectives = len(found[0])
    cells = itertools.product(range(SIDE), repeat=objectives)
    counted = sum(any(all(a <= c for a, c in zip(v, cell, strict=True)) for v in found) for cell in cells)
    assert hypervolume(found, (SIDE,) * objectives) == counted


@given(some_vectors, st.data())
def test_another_vector_never_lessens_the_hypervolume(
    found: list[tuple[int, ...]], data: st.DataObject
) -> None:
    reference = (SIDE,) * len(found[0])
    more = data.draw(st.tuples(*[st.integers(0, SIDE + 2)] * len(found[0])))
    grown = hypervolume([*found, more], reference)
    assert grown >= hypervolume(found, reference)
    if any(dominates(one, more) or one == more for one in found):
        assert grown == hypervolume(found, reference)


def test_what_is_not_below_the_reference_adds_nothing() -> None:
    assert hypervolume([(1.0, 5.0), (9.0, 0.0)], (4.0, 5.0)) == 0.0
    assert hypervolume([], (1.0, 1.0, 1.0)) == 0.0


def test_the_hypervolume_of_a_front_of_hundreds_is_exact() -> None:
    generator, side = np.random.default_rng(0), 30
    directions = np.abs(generator.normal(size=(300, 3)))
    on_a_sphere = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    found = (side - np.ceil(on_a_sphere * side)).astype(int)
    cells = np.zeros((side, side, side), dtype=bool)
    for x, y, z in found:
        cells[x:, y:, z:] = True
    assert len(front(found.tolist())) > 100
    assert hypervolume(found.tolist(), (side,) * 3) == cells.sum()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(0, 10), (1, 2), (10, 0)], 1),
        ([(0, 10), (5, 5), (10, 0)], 0),
        ([(0, 10), (4, 4), (2, 5), (10, 0)], 2),
        ([(3, 3)], 0),
        ([(0, 0, 10), (0, 10, 0), (10, 0, 0), (2, 2, 2)], 3),
        ([(7, 0, 10), (7, 2, 1), (7, 10, 0)], 1),
    ],
)
def test_the_knee_is_farthest_below_the_plane_through_the_extremes(
    found: Sequence[tuple[int, ...]], expected: int
) -> None:
    assert knee(found) == expected


@given(
    vectors(3, least=1),
    st.lists(st.integers(-8, 8), min_size=3, max_size=3),
    st.lists(st.sampled_from((0.25, 1, 8, 1024)), min_size=3, max_size=3),
)
def test_units_and_origins_of_objectives_change_neither_front_nor_knee(
    found: list[tuple[int, ...]], origins: list[int], units: list[float]
) -> None:
    scaled = [tuple((a + o) * u for a, o, u in zip(v, origins, units, strict=True)) for v in found]
    kept = front(found)
    assert front(scaled) == kept
    assert knee([scaled[index] for index in kept]) == knee([found[index] for index in kept])
