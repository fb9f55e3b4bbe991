"""Random search over a blueprint's domains, by figures counted from its graph."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir.dims import evaluate_size
from esper.lang import Interval, load, lower
from esper.tezzeret import parse_constraint, quantities, random_search, space_of
from esper.tezzeret.costs import DEVICES
from esper.tezzeret.errors import (
    MalformedConstraint,
    NothingFeasible,
    NothingToChoose,
    NothingValid,
    UnknownQuantity,
    UnknownTarget,
)
from esper.tezzeret.space import Space

SIZES: dict[str, Any] = {"N": 4, "S": (8,)}


def test_parameters_are_those_of_the_graph() -> None:
    ir = lower("mlp_block", features=16, sizes=SIZES)
    assert quantities(ir, SIZES).params == evaluate_size(ir.parameters, {}) == ir.parameters


def test_twice_the_batch_is_about_twice_the_arithmetic() -> None:
    ir = lower("mlp_block", features=16)
    once, twice = (quantities(ir, {"N": n, "S": (8, 8)}).flops for n in (8, 16))
    assert twice == pytest.approx(2 * once, rel=1e-3)


def test_the_space_is_the_product_of_the_open_domains() -> None:
    space = space_of(load("mlp_block"), {"act": "gelu"})
    assert space.domains == {"expand": (1, 2, 4, 8)}
    assert space_of(load("mlp_block"), {}).size == 16


@given(st.integers(1, 40), st.integers(0, 5))
def test_points_of_a_sample_differ(count: int, seed: int) -> None:
    space = space_of(load("depthwise"), {})
    points = space.samples(count, random.Random(seed))
    assert space.size is not None
    assert len(points) == min(count, space.size)
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert points == space.samples(count, random.Random(seed))


def test_intervals_are_drawn_from_evenly_or_by_magnitude() -> None:
    space = Space({"p": Interval(0.0, 0.5), "q": Interval(1e-4, 1.0, is_log=True), "r": (1, 2)})
    points = space.samples(400, random.Random(0))
    assert space.size is None and points == space.samples(400, random.Random(0))
    p, q = ([float(point[name]) for point in points] for name in ("p", "q"))
    assert all(0.0 <= value <= 0.5 for value in p) and all(1e-4 <= value <= 1.0 for value in q)
    assert sum(value < 0.25 for value in p) == pytest.approx(200, abs=45)
    assert sum(value < 1e-2 for value in q) == pytest.approx(200, abs=45)


def test_a_search_of_every_point_finds_the_least() -> None:
    result = random_search("mlp_block", fixed={"features": 16}, sizes=SIZES, objective="memory")
    assert result.exhaustive
    assert result.best.figures.memory == min(trial.figures.memory for trial in result.trials)
    assert result.best.values["expand"] == 1


def test_equal_seeds_give_equal_results() -> None:
    first, second = (random_search("depthwise", sizes=SIZES, trials=4, seed=3) for _ in range(2))
    assert first == second


@given(st.integers(600, 5_000))
@settings(max_examples=10)
def test_the_best_and_the_front_satisfy_the_constraint(bound: int) -> None:
    limit = parse_constraint(f"params <= {bound}")
    result = random_search("mlp_block", fixed={"features": 16}, sizes=SIZES, constraints=[limit])
    assert all(trial.figures.params <= bound for trial in (result.best, *result.front))
    assert result.infeasible == sum(trial.figures.params > bound for trial in result.trials)


def stating(tmp_path: Path, constraint: str) -> Path:
    path = tmp_path / "stated.esp"
    path.write_text(
        f"blueprint stated(k: int = 3 in 1..3) {{ {constraint} input x: f32[N, 8] output linear(x, 8 * k) }}"
    )
    return path


@pytest.mark.parametrize("bound", ["150", "72 * k + 72 * (2 - k)"])
def test_a_search_keeps_the_constraints_that_the_blueprint_states(tmp_path: Path, bound: str) -> None:
    result = random_search(stating(tmp_path, f"constraint params <= {bound}"))
    assert sorted(int(trial.values["k"]) for trial in result.trials if trial.is_feasible) == [1, 2]


def test_a_constraint_on_a_target_is_about_that_gpu(tmp_path: Path) -> None:
    ir = lower(stating(tmp_path, ""), k=3)
    slower, faster = (quantities(ir, device=DEVICES[name]).latency_ms for name in ("sm_80", "sm_90"))
    assert faster < slower
    between = (slower + faster) / 2
    path = stating(tmp_path, f'constraint latency_ms <= {between:.12f} on "sm_90"')
    assert len(random_search(path, fixed={}).front) >= 1
    with pytest.raises(NothingFeasible, match=r"latency_ms<=.* on sm_80"):
        random_search(stating(tmp_path, 'constraint latency_ms <= 0.0000001 on "sm_80"'))
    with pytest.raises(UnknownTarget, match="no figures for the target `sm_1`"):
        random_search(stating(tmp_path, 'constraint latency_ms <= 1 on "sm_1"'))


def test_no_trial_of_the_front_surpasses_another() -> None:
    front = random_search("depthwise", sizes=SIZES).front
    figures = [(t.figures.latency, t.figures.memory, t.figures.params) for t in front]
    assert len(set(figures)) == len(figures)
    for one in figures:
        assert not any(
            other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in figures
        )


def test_every_point_refused_is_an_error_with_the_first_refusal(tmp_path: Path) -> None:
    path = tmp_path / "never.esp"
    path.write_text(
        'blueprint never(k: int = 1 in {1, 2}) { require k > 2: "k is small" input x: f32[N] output x * k }'
    )
    with pytest.raises(NothingValid, match=r"(?s)none of 2 candidates of `never`.*k is small"):
        random_search(path)


def test_points_that_the_blueprint_refuses_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "odd.esp"
    path.write_text(
        'blueprint odd(k: int = 1 in {1, 2, 3}) { require k % 2 == 1: "even" input x: f32[N] output x * k }'
    )
    result = random_search(path)
    assert (len(result.trials), result.invalid, result.exhaustive) == (2, 1, True)


def test_the_hash_is_that_of_the_graph_with_the_best_values() -> None:
    best = random_search("depthwise", sizes=SIZES, trials=3).best
    values: dict[str, Any] = dict(best.values)
    assert best.ir_hash == lower("depthwise", sizes=SIZES, **values).hash


def test_where_nothing_fits_the_tightest_constraint_is_named() -> None:
    limits = [parse_constraint(text) for text in ("params<=100000", "params<=10")]
    with pytest.raises(NothingFeasible, match=r"satisfies `params<=10`; the nearest has 9,024"):
        random_search("depthwise", constraints=limits)


@pytest.mark.parametrize("text", ["", "params", "params=3", "params<=", "<=3", "params<=1e", "params<=3; x"])
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(MalformedConstraint):
        parse_constraint(text)


def test_an_unknown_quantity_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownQuantity) as caught:
        parse_constraint("parms<=3")
    assert caught.value.help_text == "did you mean `params`?"


def test_a_blueprint_without_domains_has_nothing_to_choose() -> None:
    with pytest.raises(NothingToChoose):
        random_search("norm")


def test_searching_imports_neither_torch_nor_triton() -> None:
    script = (
        "import sys; from esper.tezzeret import random_search; random_search('mlp_block', trials=2);"
        "sys.exit(bool({'torch', 'triton'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
