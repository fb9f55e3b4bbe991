"""What `benchmarks/search_efficiency.py` counts: evaluations until a goal, intervals, shares of a front."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks import search_efficiency as benchmark
from benchmarks.search_efficiency import Fronts, Problem
from benchmarks.tabular import FIGURES, Table
from esper.tezzeret.algorithms import REFUSED, Outcome, RandomSearch
from esper.tezzeret.evaluator import Evaluator
from esper.tezzeret.space import Point, Space

SPACE = Space({"a": (1, 2, 3, 4), "b": ("x", "y")})


class InOrder:
    """Asks for the points as the space lists them."""

    def __init__(self) -> None:
        self.points = iter(SPACE.points())

    def ask(self) -> Point | None:
        return next(self.points, None)

    def tell(self, point: Point, outcome: Outcome) -> None:
        assert point in SPACE and outcome.violation >= 0


def problem(goal: float) -> Problem:
    """The least, 0, is refused, 1 is infeasible; the others get better in the order of the list."""
    outcomes = {SPACE.encode(point): Outcome((9.0 - index,)) for index, point in enumerate(SPACE.points())}
    keys = list(outcomes)
    outcomes[keys[0]], outcomes[keys[1]] = REFUSED, Outcome((1.0,), violation=0.5)
    return Problem("list", SPACE, outcomes, goal, "")


def test_a_search_arrives_with_the_first_feasible_point_that_is_good_enough() -> None:
    assert benchmark.evaluations(InOrder(), problem(7.0)) == 3
    assert benchmark.evaluations(InOrder(), problem(4.5)) == 6
    assert problem(4.5).good == 3
    with pytest.raises(SystemExit, match="found nothing good"):
        benchmark.evaluations(InOrder(), problem(0.5))


def test_a_search_that_is_given_up_counts_as_what_it_was_given() -> None:
    assert benchmark.evaluations(InOrder(), problem(0.5), longest=5) == 5


def test_what_random_search_needs_is_drawn_by_the_law_that_running_it_follows() -> None:
    ran = [
        benchmark.evaluations(RandomSearch(SPACE, random.Random(seed)), problem(4.5)) for seed in range(300)
    ]
    drawn = [benchmark.drawn(problem(4.5), seed) for seed in range(300)]
    assert np.mean(ran) == pytest.approx(9 / 4, abs=0.3)
    assert np.mean(drawn) == pytest.approx(9 / 4, abs=0.3)


def test_a_space_by_latency_knows_the_best_and_what_is_refused() -> None:
    evaluator = Evaluator("shuffle_block", fixed={"channels": 16})
    found = benchmark.by_latency("shuffle", evaluator.space, benchmark.enumerated(evaluator))
    assert len(found.outcomes) == evaluator.space.size
    taken = [outcome.objectives[0] for outcome in found.outcomes.values() if not outcome.is_refused]
    assert 0 < len(taken) < len(found.outcomes)
    assert found.goal == benchmark.NEAR * min(taken) and found.good >= 1


def test_ratios_are_of_medians_and_their_intervals_hold_them() -> None:
    rng = np.random.default_rng(1)
    fast, slow = rng.integers(5, 15, 100), rng.integers(50, 150, 100)
    times, low, high = benchmark.ratio(slow, fast)
    assert times == np.median(slow) / np.median(fast) and low <= times <= high
    assert high - low < times


def test_an_algorithm_that_mostly_does_not_arrive_is_no_so_many_times_faster() -> None:
    runs = np.full(20, benchmark.LONGEST)
    lines = benchmark.rows(problem(4.5), {"random": runs, "local": runs, "bayesian": runs})
    assert "| more than 300 | | |" in lines[-1] and "300.0" in lines[0]


def test_an_algorithm_that_reports_nothing_ends_the_benchmark() -> None:
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(SystemExit, match="`local` reports nothing"):
        benchmark.rows(problem(4.5), {"random": np.array([3]), "local": nothing})


def table() -> Table:
    points = list(SPACE.points())
    costs = {figure: np.arange(1.0, 9.0) for figure in FIGURES}
    accuracy = np.linspace(0.2, 0.9, 8)[:, None].repeat(3, axis=1)
    return Table({}, "", points, [], costs, accuracy, 0.0)


def test_all_points_have_the_whole_volume_and_fewer_have_less() -> None:
    fronts = Fronts.of(table(), SPACE)
    assert fronts.size == 8
    assert fronts.share(RandomSearch(SPACE, random.Random(0)), 8) == pytest.approx(1.0)
    assert 0.0 < fronts.share(RandomSearch(SPACE, random.Random(0)), 4) < 1.0
