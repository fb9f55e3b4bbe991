"""The model that ranks children: by ranks alone, on any domain, better than chance from a few outcomes."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.lang import Interval
from esper.tezzeret.algorithms import REFUSED, Outcome, RegularizedEvolution
from esper.tezzeret.algorithms.coordinates import Coordinates
from esper.tezzeret.algorithms.surrogate import Surrogate, normal_scores
from esper.tezzeret.space import Point, Space

MIXED = Space(
    {
        "width": (64, 8, 16, 32),
        "kind": ("conv", "pool", "skip"),
        "bias": (True, False),
        "rate": Interval(1e-4, 1.0, is_log=True),
        "fixed": (3,),
    }
)
"""Numbers in and out of order, names, truth values, an interval, and nothing to choose."""


def figure(point: Point) -> float:
    """Less for wide ones, for `conv`, and for rates near 0.01; bias costs pools alone."""
    kinds = {"conv": 0.0, "pool": 2.0, "skip": 3.0}
    width, rate, kind = point["width"], point["rate"], str(point["kind"])
    assert isinstance(width, int) and isinstance(rate, float)
    extra = 1.0 if point["bias"] and kind == "pool" else 0.0
    return kinds[kind] - math.log2(width) + (math.log10(rate) + 2) ** 2 + extra


def test_numbers_lie_in_their_order_and_names_as_far_apart_as_ends() -> None:
    rows = Coordinates(MIXED).rows
    low: Point = {"width": 8, "kind": "conv", "bias": True, "rate": 1e-4, "fixed": 3}
    high: Point = {**low, "width": 64, "rate": 1.0}
    middle: Point = {**low, "width": 16, "rate": 1e-2}
    gap = rows([high])[0] - rows([low])[0]
    assert sorted(gap[gap != 0]) == [1.0, 1.0]
    assert rows([middle])[0][0] == 1 / 3 and rows([middle])[0][-2] == 0.5
    other: Point = {**low, "kind": "pool"}
    assert np.linalg.norm(rows([low])[0] - rows([other])[0]) == 1.0


def test_a_default_outside_its_domain_has_a_row_too() -> None:
    space = Space({"n": (2, 4, 8), "p": Interval(0.1, 0.5), "k": ("a", "b")})
    rows = Coordinates(space).rows([{"n": 100, "p": 0.0, "k": "c"}, {"n": 0, "p": 0.9, "k": "a"}])
    assert np.isfinite(rows).all() and rows.min() >= 0.0 and rows.max() <= 1.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 50)), min_size=2, max_size=30))
def test_scores_keep_the_order_of_ranks_and_know_nothing_else(ranks: list[tuple[int, int]]) -> None:
    scores = normal_scores([(float(a), float(b)) for a, b in ranks])
    ordered = sorted(zip(ranks, scores, strict=True))
    for (one, first), (other, second) in itertools.pairwise(ordered):
        assert (one < other) == (first < second)
    stretched = normal_scores([(a**3, math.exp(b / 9)) for a, b in ranks])
    assert np.array_equal(scores, stretched)


@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_ten_it_promises_most_are_better_than_the_middle_by_far(seed: int) -> None:
    rng = random.Random(seed)
    seen, unseen = MIXED.samples(40, rng), MIXED.samples(200, rng)
    surrogate = Surrogate(MIXED)
    surrogate.learn(seen, [(figure(point),) for point in seen])
    promises = surrogate.promise(unseen)
    chosen = sorted(range(len(unseen)), key=promises.__getitem__)[:10]
    best, middle = np.quantile([figure(point) for point in unseen], (0.05, 0.5))
    found = np.mean([figure(unseen[index]) for index in chosen])
    assert found < (best + middle) / 2


def test_refused_points_and_equal_outcomes_teach_without_failing() -> None:
    rng = random.Random(0)
    points = MIXED.samples(12, rng)
    surrogate = Surrogate(MIXED)
    surrogate.learn(points, [REFUSED.rank] * 6 + [(0.0, 1.0)] * 6)
    refused, equal = surrogate.promise([points[0], points[-1]])
    assert equal < refused
    surrogate.learn(points, [(0.0, 1.0)] * 12)
    assert np.isfinite(surrogate.promise(points)).all()


def test_an_increasing_function_of_the_objective_changes_no_point_of_an_evolution() -> None:
    def asked(scale: float) -> list[Point]:
        algorithm, found = RegularizedEvolution(MIXED, random.Random(3)), []
        for _ in range(40):
            point = algorithm.ask()
            assert point is not None
            algorithm.tell(point, Outcome((math.exp(scale * figure(point)),)))
            found.append(point)
        return found

    assert asked(1.0) == asked(4.0)
