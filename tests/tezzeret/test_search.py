"""Searches of a blueprint's domains, by figures counted from its graph."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir.dims import evaluate_size
from esper.lang import Interval, ParameterValue, load, lower
from esper.tezzeret import (
    ALGORITHMS,
    Constraint,
    Evaluator,
    Plan,
    Progress,
    SearchResult,
    Stop,
    parse_constraint,
    quantities,
    run_search,
    space_of,
)
from esper.tezzeret.costs import DEVICES
from esper.tezzeret.errors import (
    ConstraintsContradict,
    MalformedConstraint,
    NothingEvaluated,
    NothingFeasible,
    NothingToChoose,
    NothingValid,
    UnknownQuantity,
    UnknownTarget,
    WorkerLost,
)
from esper.tezzeret.pareto import front, knee
from esper.tezzeret.space import Space

SIZES: dict[str, Any] = {"N": 4, "S": (8,)}


def searched(
    blueprint: str | Path,
    *,
    fixed: Mapping[str, ParameterValue] | None = None,
    sizes: Mapping[str, Any] | None = None,
    constraints: Sequence[Constraint] = (),
    **plan: Any,
) -> SearchResult:
    """A search as commands start it; `plan` are the fields of `Plan`."""
    evaluator = Evaluator(blueprint, fixed=fixed or {}, sizes=sizes or {}, constraints=constraints)
    return run_search(evaluator, Plan(**plan))


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
    result = searched("mlp_block", fixed={"features": 16}, sizes=SIZES, objective="memory")
    assert result.exhaustive
    assert result.best.figures.memory == min(trial.figures.memory for trial in result.trials)
    assert result.best.values["expand"] == 1


def test_equal_seeds_give_equal_results() -> None:
    first, second = (searched("depthwise", sizes=SIZES, trials=4, seed=3) for _ in range(2))
    assert first == second


@given(st.integers(600, 5_000))
@settings(max_examples=10)
def test_the_best_and_the_front_satisfy_the_constraint(bound: int) -> None:
    limit = parse_constraint(f"params <= {bound}")
    result = searched("mlp_block", fixed={"features": 16}, sizes=SIZES, constraints=[limit])
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
    result = searched(stating(tmp_path, f"constraint params <= {bound}"))
    assert sorted(int(trial.values["k"]) for trial in result.trials if trial.is_feasible) == [1, 2]


def test_a_constraint_on_a_target_is_about_that_gpu(tmp_path: Path) -> None:
    ir = lower(stating(tmp_path, ""), k=3)
    slower, faster = (quantities(ir, device=DEVICES[name]).latency_ms for name in ("sm_80", "sm_90"))
    assert faster < slower
    between = (slower + faster) / 2
    path = stating(tmp_path, f'constraint latency_ms <= {between:.12f} on "sm_90"')
    assert len(searched(path, fixed={}).front) >= 1
    with pytest.raises(NothingFeasible, match=r"latency_ms<=.* on sm_80"):
        searched(stating(tmp_path, 'constraint latency_ms <= 0.0000001 on "sm_80"'))
    with pytest.raises(UnknownTarget, match="no figures for the target `sm_1`"):
        searched(stating(tmp_path, 'constraint latency_ms <= 1 on "sm_1"'))


def test_no_trial_of_the_front_surpasses_another() -> None:
    front = searched("depthwise", sizes=SIZES).front
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
        searched(path)


def test_points_that_the_blueprint_refuses_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "odd.esp"
    path.write_text(
        'blueprint odd(k: int = 1 in {1, 2, 3}) { require k % 2 == 1: "even" input x: f32[N] output x * k }'
    )
    result = searched(path)
    assert (len(result.trials), result.invalid, result.exhaustive) == (2, 1, True)


def test_points_with_too_many_nodes_are_counted_as_refused(tmp_path: Path) -> None:
    evaluator = Evaluator(many(tmp_path), max_nodes=10)
    result = run_search(evaluator, Plan(trials=196))
    assert result.trials and result.invalid > 20 and result.exhaustive
    assert all(len(evaluator.lower(trial.values).nodes) <= 10 for trial in result.trials)
    with pytest.raises(NothingValid, match="nodes"):
        run_search(Evaluator(many(tmp_path), max_nodes=2), Plan(trials=10))


def test_the_hash_is_that_of_the_graph_with_the_best_values() -> None:
    best = searched("depthwise", sizes=SIZES, trials=3).best
    values: dict[str, Any] = dict(best.values)
    assert best.ir_hash == lower("depthwise", sizes=SIZES, **values).hash


def test_where_nothing_fits_the_tightest_constraint_is_named() -> None:
    limits = [parse_constraint(text) for text in ("params<=100000", "params<=10")]
    with pytest.raises(NothingFeasible, match=r"satisfies `params<=10`; the nearest has 9,024"):
        searched("depthwise", constraints=limits)


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
        searched("norm")


def test_searching_imports_neither_torch_nor_triton() -> None:
    script = (
        "import sys; from esper.tezzeret import Evaluator, Plan, run_search;"
        "run_search(Evaluator('mlp_block'), Plan(trials=2));"
        "sys.exit(bool({'torch', 'triton'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def many(tmp_path: Path) -> Path:
    """A blueprint of at most 196 points, some refused and some with the graph of others."""
    path = tmp_path / "many.esp"
    path.write_text(
        """blueprint many(
            width: int = 8 in {1, 2, 4, 8, 16, 32, 64},
            hidden: int = 8 in {1, 2, 4, 8, 16, 32, 64},
            act: op = relu in {relu, gelu},
            twice: bool = true in {true, false},
        ) {
            require width != 16 or hidden != 16: "this test refuses it"
            input x: f32[N, 8]
            let even = (width + 1) // 2 * 2
            h = x |> linear(even) |> act()
            if width > 2 {
                h = h |> linear(hidden)
                if twice { h = h |> act() |> linear(hidden) }
            }
            output linear(h, 8)
        }"""
    )
    return path


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("objective", ["latency", "balanced"])
def test_every_algorithm_gives_equal_results_for_equal_seeds_and_keeps_the_limits(
    tmp_path: Path, algorithm: str, objective: str
) -> None:
    limit = parse_constraint("params>=500")
    first, second = (
        searched(
            many(tmp_path), constraints=[limit], algorithm=algorithm, objective=objective, trials=40, seed=3
        )
        for _ in range(2)
    )
    assert first == second
    assert len(first.trials) + first.invalid == 40 and first.stopped == Stop.TRIALS
    assert all(trial.figures.params >= 500 for trial in (*first.top, *first.front))
    assert len(first.top) == 10 and first.best in first.front


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_graph_that_was_met_before_costs_no_trial(tmp_path: Path, algorithm: str) -> None:
    result = searched(many(tmp_path), algorithm=algorithm, trials=196, patience=1)
    assert result.exhaustive and result.stopped == Stop.EXHAUSTED
    assert len({trial.ir_hash for trial in result.trials}) == len(result.trials)
    assert result.duplicates > 0 and result.invalid > 0
    assert len(result.trials) + result.duplicates + result.invalid == result.space_size


def test_the_best_of_two_figures_is_the_knee_of_what_nothing_surpasses_in_both(tmp_path: Path) -> None:
    result = searched(many(tmp_path), objective="balanced", trials=196)
    figures = [(trial.figures.latency, trial.figures.memory) for trial in result.trials]
    kept = front(figures)
    assert result.best == result.trials[kept[knee([figures[index] for index in kept])]]


def test_the_ten_best_are_in_order_and_nothing_better_is_left_out(tmp_path: Path) -> None:
    result = searched(many(tmp_path), objective="memory", trials=196)
    found = sorted(trial.figures.memory for trial in result.trials)
    assert [trial.figures.memory for trial in result.top] == found[:10]


@pytest.mark.parametrize("width", [1, 4])
def test_threads_and_processes_give_what_one_thread_gives_at_the_same_width(
    tmp_path: Path, width: int
) -> None:
    evaluator, plan = Evaluator(many(tmp_path), sizes={"N": 4}), Plan(trials=30, width=width)
    expected = run_search(evaluator, plan)
    with ThreadPoolExecutor(3) as threads:
        assert run_search(evaluator, plan, executor=threads) == expected
    if width > 1:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
            assert run_search(evaluator, plan, executor=processes) == expected


def _late(delay: float, fn: Any, *args: Any, **kwargs: Any) -> Any:
    time.sleep(delay)
    return fn(*args, **kwargs)


class Late(ThreadPoolExecutor):
    """Evaluations that end in another order than they began in."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        delay = random.random() / 100
        return super().submit(_late, delay, fn, *args, **kwargs)


def test_the_order_in_which_evaluations_end_changes_nothing(tmp_path: Path) -> None:
    evaluator, plan = Evaluator(many(tmp_path)), Plan(trials=40, width=6)
    with Late(6) as executor:
        assert run_search(evaluator, plan, executor=executor) == run_search(evaluator, plan)


class Dying(Executor):
    """A pool whose worker is lost at the third evaluation."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        future: Future[Any] = Future()
        if self.count < 3:
            future.set_result(fn(*args, **kwargs))
        else:
            future.set_exception(BrokenExecutor("killed by signal 9"))
        return future


def test_a_lost_worker_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(WorkerLost, match="killed by signal 9"):
        run_search(Evaluator(many(tmp_path)), Plan(), executor=Dying())


def test_a_cancelled_search_keeps_the_best_so_far(tmp_path: Path) -> None:
    evaluator = Evaluator(many(tmp_path))
    seen: list[Progress] = []
    result = run_search(
        evaluator, Plan(trials=300, seed=1), watch=seen.append, is_cancelled=lambda: len(seen) >= 20
    )
    assert result.stopped == Stop.CANCELLED and len(result.trials) + result.invalid == seen[-1].evaluated
    assert seen[-1].best == result.best
    assert result.best.figures.latency == min(trial.figures.latency for trial in result.trials)
    with pytest.raises(NothingEvaluated, match="cancelled"):
        run_search(evaluator, Plan(), is_cancelled=lambda: True)


def test_progress_tells_a_best_that_never_gets_worse(tmp_path: Path) -> None:
    seen: list[Progress] = []
    limit = parse_constraint("params>=9000")
    run_search(Evaluator(many(tmp_path), constraints=[limit]), Plan(trials=60, seed=5), watch=seen.append)
    ranks = [(one.best.violation, one.best.figures.latency) for one in seen if one.best is not None]
    assert len(ranks) > 50 and ranks == sorted(ranks, reverse=True) and ranks[0][0] > ranks[-1][0] == 0


def test_a_search_that_no_longer_gets_better_ends_early(tmp_path: Path) -> None:
    path = many(tmp_path)
    result = searched(path, algorithm="random", trials=130, patience=15)
    assert result.stopped == Stop.PATIENCE and len(result.trials) < 130
    place = result.trials.index(result.best)
    assert len(result.trials) - place - 1 + result.invalid >= 15
    assert searched(path, algorithm="random", trials=196, patience=15).exhaustive


def test_a_search_ends_when_its_time_is_up(tmp_path: Path) -> None:
    start = time.monotonic()
    result = searched(many(tmp_path), trials=100_000_000, seconds=0.05, fixed={"act": "relu"})
    assert result.stopped in (Stop.TIME, Stop.EXHAUSTED) and time.monotonic() - start < 5
    with pytest.raises(NothingEvaluated, match="time"):
        searched(many(tmp_path), seconds=0.0)


def test_an_endless_space_of_few_graphs_is_not_searched_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "endless.esp"
    path.write_text(
        "blueprint endless(p: float = 0.1 in 0.0..0.5) { input x: f32[N, 8] output linear(x, 8) }"
    )
    result = searched(path, trials=10)
    assert len(result.trials) == 1 and result.stopped == Stop.EXHAUSTED and not result.exhaustive


def test_constraints_that_contradict_are_named_and_no_others() -> None:
    limits = ["memory_mb<=1000", "params<=1200", "flops>=400000000", "latency_ms<=10"]
    with pytest.raises(ConstraintsContradict) as caught:
        searched("mlp_block", fixed={"features": 16}, constraints=[parse_constraint(text) for text in limits])
    assert "satisfies `params<=1200` and `flops>=400000000` at once" in str(caught.value)
    assert "keeping the others, the nearest to `params<=1200` has" in caught.value.help_text
    assert "memory" not in str(caught.value) and "try more points" not in caught.value.help_text


def test_a_figure_out_of_reach_is_bounded_by_what_every_point_has() -> None:
    with pytest.raises(NothingFeasible) as caught:
        searched("mlp_block", fixed={"features": 16}, constraints=[parse_constraint("latency_ms<=1e-9")])
    least = min(trial.figures.latency_ms for trial in searched("mlp_block", fixed={"features": 16}).trials)
    assert "none of all 16 candidates" in str(caught.value)
    assert f"the nearest has {least:,.6g}" in str(caught.value)
    with pytest.raises(NothingFeasible) as caught:
        searched("mlp_block", constraints=[parse_constraint("latency_ms<=1e-9")], trials=3)
    assert caught.value.help_text.startswith("try more points, ")


def test_a_search_begins_at_its_starts_whatever_ends_it() -> None:
    evaluator = Evaluator("mlp_block")
    points = list(evaluator.space.points())
    starts = [points[-1], points[-1], points[-2]]
    found = run_search(evaluator, Plan(seconds=0.0), start=starts)
    assert [trial.values for trial in found.trials] == [points[-1], points[-2]]
    assert found.stopped == "time" and found.duplicates == 1
    again = run_search(evaluator, Plan(), start=starts, is_cancelled=lambda: True)
    assert again.trials == found.trials and again.stopped == "cancelled"
