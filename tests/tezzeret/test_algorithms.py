"""The laws that every algorithm keeps: nothing twice, everything in the end, equal for equal seeds."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.errors import MissingPackage
from esper.lang import Interval, load
from esper.tezzeret.algorithms import (
    ALGORITHMS,
    NSGA2,
    ONE_OBJECTIVE,
    REFUSED,
    Algorithm,
    Outcome,
    RandomSearch,
    RegularizedEvolution,
    make_algorithm,
    surpasses,
)
from esper.tezzeret.algorithms.nsga2 import crowding, fronts
from esper.tezzeret.pareto import front, hypervolume
from esper.tezzeret.space import Point, Space, space_of

QUICK = tuple(name for name in ALGORITHMS if name != "bayesian")
CASES = [(name, objectives) for name in ALGORITHMS for objectives in (1, 2)]

domains = st.dictionaries(
    st.sampled_from("abcd"),
    st.sampled_from([(1, 2, 3), (4,), (True, False), ("gelu", "relu", "silu"), (0.0, 0.1, 0.5, 1.0)]),
    min_size=1,
    max_size=4,
)


def told(point: Point, objectives: int) -> Outcome:
    """Some outcome of a point, the same for equal points: refused, infeasible or feasible."""
    mixed = random.Random(repr(sorted(point.items())))
    kind = mixed.randrange(8)
    if kind == 0:
        return REFUSED
    figures = tuple(mixed.randrange(5) for _ in range(objectives))
    return Outcome(figures, violation=0.5 * mixed.randrange(1, 4) if kind < 4 else 0.0)


def walked(
    algorithm: Algorithm, count: int, objectives: int, width: int = 1, shuffled: random.Random | None = None
) -> list[Point]:
    """Up to `count` points in the order they were asked, `width` of them untold at a time."""
    asked: list[Point] = []
    waiting: list[Point] = []
    while True:
        while len(waiting) < width and len(asked) < count and (point := algorithm.ask()) is not None:
            asked.append(point)
            waiting.append(point)
        if not waiting:
            return asked
        index = 0 if shuffled is None else shuffled.randrange(len(waiting))
        point = waiting.pop(index)
        algorithm.tell(point, told(point, objectives))


def of(name: str, objectives: int) -> int:
    return 1 if name in ONE_OBJECTIVE else objectives


@pytest.mark.parametrize("name", QUICK)
@given(domains, st.integers(0, 3), st.sampled_from((1, 2)), st.sampled_from((1, 3, 50)), st.randoms())
@settings(max_examples=40)
def test_every_point_of_a_finite_space_is_asked_for_once_in_any_order_of_tells(
    name: str, found: dict[str, Any], seed: int, objectives: int, width: int, order: random.Random
) -> None:
    space = Space(found)
    objectives = of(name, objectives)
    asked = walked(make_algorithm(name, space, seed, objectives), 10_000, objectives, width, order)
    assert sorted(map(space.encode, asked)) == sorted(map(space.encode, space.points()))


@given(domains, st.integers(0, 3), st.sampled_from((1, 2)), st.sampled_from((1, 5)), st.randoms())
@settings(max_examples=5)
def test_bayesian_search_asks_for_every_point_once_too(
    found: dict[str, Any], seed: int, objectives: int, width: int, order: random.Random
) -> None:
    space = Space(dict(list(found.items())[:3]))
    asked = walked(make_algorithm("bayesian", space, seed, objectives), 10_000, objectives, width, order)
    assert sorted(map(space.encode, asked)) == sorted(map(space.encode, space.points()))


BRANCHES = """blueprint branches(
    kind: op = relu in {relu, gelu},
    deep: bool = false in {true, false},
    width: int = 4 in {2, 4, 8},
    hidden: int = 3 in {1, 3, 5, 7},
) {
    input x: f32[N, 8]
    h = x |> linear(width) |> kind()
    if deep { h = h |> linear(hidden) |> kind() }
    output linear(h, 8)
}
"""


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_where_parameters_matter_in_one_branch_alone_every_point_is_asked_for_once(
    tmp_path: Path, name: str, objectives: int
) -> None:
    path = tmp_path / "branches.esp"
    path.write_text(BRANCHES)
    space = space_of(load(path), {})
    objectives = of(name, objectives)
    algorithm = make_algorithm(name, space, 0, objectives)
    known = next(iter(space.points()))
    algorithm.tell(known, told(known, objectives))
    asked = [known, *walked(algorithm, 1000, objectives, width=2)]
    assert len(asked) == space.size == 2 * 3 * (1 + 4)
    assert len({space.encode(point) for point in asked}) == len(asked)


ENDLESS = Space(
    {"p": Interval(0.0, 0.5), "q": Interval(1e-4, 1.0, is_log=True), "r": (1, 2), "s": ("a", "b")}
)


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_in_an_endless_space_points_lie_inside_and_differ(name: str, objectives: int) -> None:
    objectives = of(name, objectives)
    asked = walked(make_algorithm(name, ENDLESS, 0, objectives), 60, objectives, width=2)
    assert len({ENDLESS.encode(point) for point in asked}) == 60
    assert all(point in ENDLESS for point in asked)


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_equal_seeds_ask_equal_points_and_others_others(name: str, objectives: int) -> None:
    objectives = of(name, objectives)
    first, second, other = (
        walked(make_algorithm(name, ENDLESS, seed, objectives), 50, objectives, width=3) for seed in (5, 5, 6)
    )
    assert first == second != other


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_what_was_told_unasked_is_not_asked_for(name: str, objectives: int) -> None:
    space = Space({"a": tuple(range(6)), "b": ("x", "y", "z")})
    objectives = of(name, objectives)
    algorithm = make_algorithm(name, space, 0, objectives)
    known = [point for index, point in enumerate(space.points()) if index % 3 == 0]
    for point in known:
        algorithm.tell(point, told(point, objectives))
    asked = walked(algorithm, 100, objectives)
    assert len(asked) == 18 - len(known)
    assert not any(point in known for point in asked)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_space_whose_every_point_is_refused_is_asked_to_its_end(name: str) -> None:
    space = Space({"a": tuple(range(5)), "b": (True, False)})
    algorithm = make_algorithm(name, space, 0)
    asked = 0
    while (point := algorithm.ask()) is not None:
        algorithm.tell(point, REFUSED)
        asked += 1
    assert asked == 10


def evaluations_until(
    make: Callable[[int], Algorithm], figure: Callable[[Point], Outcome], goal: float
) -> list[int]:
    """For 9 seeds, sorted: how many points were asked for until a feasible one is no worse than `goal`."""

    def evaluations(algorithm: Algorithm) -> int:
        for count in itertools.count(1):
            point = algorithm.ask()
            assert point is not None
            outcome = figure(point)
            algorithm.tell(point, outcome)
            if not outcome.violation and outcome.objectives[0] <= goal:
                return count
        raise AssertionError

    return sorted(evaluations(make(seed)) for seed in range(9))


HILLS = Space({name: tuple(range(8)) for name in "abcd"})


def valley(point: Point) -> Outcome:
    """Least, 0, where everything is 5; infeasible where a + b is above 11."""
    numbers = {name: int(value) for name, value in point.items()}
    violation = max(0, numbers["a"] + numbers["b"] - 11) / 11
    return Outcome((float(sum((value - 5) ** 2 for value in numbers.values())),), violation)


@pytest.mark.parametrize(("name", "share"), [("local", 8), ("evolutionary", 4), ("bayesian", 8)])
def test_on_a_smooth_valley_the_median_needs_a_fraction_of_what_random_search_needs(
    name: str, share: int
) -> None:
    drawn = evaluations_until(lambda seed: make_algorithm("random", HILLS, seed), valley, 1.0)
    led = evaluations_until(lambda seed: make_algorithm(name, HILLS, seed), valley, 1.0)
    assert led[4] * share <= drawn[4]


def test_the_oldest_of_a_population_leaves_it_even_if_it_is_the_best() -> None:
    space = Space({"a": tuple(range(100)), "b": tuple(range(100))})
    algorithm = RegularizedEvolution(space, random.Random(0), population=4)
    best = {"a": 0, "b": 0}
    algorithm.tell(best, Outcome((0.0,)))
    for index in range(4):
        algorithm.tell({"a": 50, "b": 50 + index}, Outcome((1.0,)))
    for _ in range(4):
        algorithm.ask()
    children = [algorithm.ask() or best for _ in range(50)]
    assert sum(0 in child.values() for child in children) < 5
    assert sum(50 in child.values() for child in children) > 20


def test_feasible_comes_before_infeasible_and_less_violated_before_more() -> None:
    good, bad = Outcome((9.0, 9.0)), Outcome((0.0, 0.0), violation=0.1)
    worse = Outcome((0.0, 0.0), violation=0.2)
    assert surpasses(good, bad) and surpasses(bad, worse) and surpasses(worse, REFUSED)
    assert not surpasses(bad, good) and not surpasses(good, Outcome((8.0, 10.0)))
    assert fronts([worse, good, bad, Outcome((8.0, 10.0))]) == [[1, 3], [2], [0]]


def test_crowding_is_infinite_at_the_ends_and_smaller_where_it_is_dense() -> None:
    distances = crowding([(0, 10), (1, 8), (2, 7), (10, 0)])
    assert distances[0] == distances[3] == float("inf")
    assert distances[1] < distances[2]


def trade_off(point: Point) -> Outcome:
    """Two objectives that pull apart along `a`, and four parameters that only cost."""
    a = int(point["a"]) / 15
    waste = sum(int(point[name]) for name in "bcde") / 28
    return Outcome((a + waste, (1 - a) ** 2 + waste))


def test_nsga2_finds_more_of_the_front_than_random_search_with_as_many_points() -> None:
    space = Space({"a": tuple(range(16)), **{name: tuple(range(8)) for name in "bcde"}})
    volumes: dict[type, list[float]] = {NSGA2: [], RandomSearch: []}
    for kind, seed in [(kind, seed) for kind in volumes for seed in range(5)]:
        algorithm = kind(space, random.Random(seed))
        figures = []
        for _ in range(150):
            point = algorithm.ask()
            assert point is not None
            outcome = trade_off(point)
            figures.append(outcome.objectives)
            algorithm.tell(point, outcome)
        volumes[kind].append(hypervolume([figures[index] for index in front(figures)], (2.0, 2.0)))
    assert min(volumes[NSGA2]) > max(volumes[RandomSearch])


def test_without_optuna_the_extra_that_has_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackage) as caught:
        make_algorithm("bayesian", HILLS, 0)
    assert caught.value.help_text == "pip install 'esper-toolchain[search]'"
