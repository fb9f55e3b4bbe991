"""The fast road and the full road give one candidate, to the last digit."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esper.errors import EsperError
from esper.lang import BlueprintRejected, library
from esper.testing import esp_programs
from esper.tezzeret import parse_constraint
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.errors import NothingToChoose, TooComplex, UnknownTarget
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.space import Point

STATED = """
blueprint stated(
    width: dim = 8 in {4, 8, 12},
    depth: int = 1 in 0..3,
    act: op = relu in {relu, gelu, silu},
    rate: float = 0.1 in {0.0, 0.1},
) {
    require width * depth <= 24: "too large"
    constraint params <= 100 * depth + 80
    constraint latency_ms <= 0.000001 on "sm_90"
    let half = width // 2
    input x: f32[N, width]
    h = x
    repeat depth as i {
        let inner = half + i
        h = h + (h |> linear(inner) |> act() |> dropout(rate) |> linear(width))
    }
    output h |> batch_norm() |> dropout(rate)
}
"""

SOME = settings(max_examples=max(settings().max_examples // 10, 15))


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluator") / "stated.esp"
    path.write_text(STATED)
    return path


def some_points(evaluator: Evaluator, count: int) -> list[Point]:
    try:
        return evaluator.space.samples(count, random.Random(0))
    except NothingToChoose:
        return [{}]


@pytest.mark.parametrize("name", [entry.name for entry in library()])
def test_every_library_blueprint_costs_the_same_by_parts_and_whole(name: str) -> None:
    evaluator = Evaluator(name, sizes={"N": 4})
    for point in some_points(evaluator, 2):
        try:
            whole = evaluator.reference(point)
        except BlueprintRejected:
            continue
        assert evaluator(point) == whole
    assert not evaluator.wholes


@given(st.data())
@SOME
def test_points_cost_the_same_whatever_was_evaluated_before(stated: Path, data: st.DataObject) -> None:
    evaluator = Evaluator(stated, constraints=(parse_constraint("memory <= 3000"),))
    for seed in data.draw(st.lists(st.integers(0, 999), min_size=1, max_size=3)):
        point = evaluator.space.sample(random.Random(seed))
        found: list[Candidate | str] = []
        for road in (evaluator, evaluator.reference):
            try:
                found.append(road(point))
            except BlueprintRejected as error:
                found.append(str(error))
        assert found[0] == found[1]


@given(esp_programs())
@settings(SOME, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_program_costs_the_same_by_parts_and_whole(tmp_path: Path, text: str) -> None:
    path = tmp_path / "program.esp"
    path.write_text(text)
    evaluator = Evaluator(path)
    try:
        whole = evaluator.reference({})
    except EsperError as error:
        with pytest.raises(type(error)):
            evaluator({})
    else:
        assert evaluator({}) == whole


def test_points_that_differ_share_what_they_have_in_common(stated: Path) -> None:
    evaluator = Evaluator(stated)
    points = [p for p in evaluator.space.points() if int(p["width"]) * int(p["depth"]) <= 24]
    for point in points:
        evaluator(point)
    assert not evaluator.wholes
    measured = evaluator.measured
    assert measured < 2 * len(points)  # of some ten nodes each
    for point in points:
        evaluator(point)
    assert evaluator.measured == measured


def test_a_violation_is_above_zero_exactly_where_a_constraint_is_broken() -> None:
    for comparison, found, share in (
        ("<=", 12.0, 0.2),
        ("<", 10.0, 2**-52),
        ("<", 9.0, 0.0),
        (">=", 5.0, 0.5),
    ):
        assert Constraint("params", comparison, 10.0).excess(found) == pytest.approx(share)
    assert Constraint("latency_ms", "<=", 0.2).excess(0.3) == pytest.approx(0.5)
    limit = parse_constraint("params<=10")
    broken = Evaluator("mlp_block", constraints=[limit])({"expand": 1, "act": "gelu"})
    assert not broken.is_feasible and broken.violation > 0
    assert broken.violations == {"params<=10": (broken.figures.params - 10) / 10}
    kept = Evaluator("mlp_block")({"expand": 1, "act": "gelu"})
    assert kept.is_feasible and kept.violation == 0 and not kept.violations


def test_an_evaluator_goes_to_other_processes_without_what_it_learned(stated: Path) -> None:
    evaluator = Evaluator(stated, sizes={"N": 2}, constraints=[parse_constraint("params<=100")])
    point: Point = {"width": 4, "depth": 2, "act": "gelu", "rate": 0.1}
    found = evaluator(point)
    assert pickle.loads(pickle.dumps(evaluator))(point) == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_threads_that_share_an_evaluator_get_what_one_gets(stated: Path) -> None:
    points = [p for p in Evaluator(stated).space.points() if int(p["width"]) * int(p["depth"]) <= 24]
    alone = [*map(Evaluator(stated), points)]
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(Evaluator(stated), points)] == alone


def test_a_point_that_the_blueprint_refuses_is_refused_with_its_reason(stated: Path) -> None:
    with pytest.raises(BlueprintRejected, match="too large"):
        Evaluator(stated)({"width": 12, "depth": 3, "act": "relu", "rate": 0.0})
    with pytest.raises(BlueprintRejected, match="one of"):
        Evaluator(stated)({"width": 5, "depth": 1, "act": "relu", "rate": 0.0})


def test_a_candidate_of_too_many_nodes_is_refused_with_the_number(tmp_path: Path) -> None:
    path = tmp_path / "deep.esp"
    path.write_text(
        "blueprint deep(depth: int = 1 in {1, 400}) {"
        " input x: f32[N, 4] h = x repeat depth { h = h |> linear(4) } output h }"
    )
    evaluator = Evaluator(path)
    evaluator({"depth": 1})
    for road in (evaluator, evaluator.reference):
        with pytest.raises(TooComplex, match="1201 nodes, more than max_blueprint_complexity = 1000"):
            road({"depth": 400})
    assert Evaluator(path, max_nodes=2000)({"depth": 400}).figures.params == 400 * 20


def test_a_target_without_figures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aimed.esp"
    path.write_text(
        'blueprint aimed() { constraint latency_ms <= 1 on "sm_1" input x: f32[N] output relu(x) }'
    )
    with pytest.raises(UnknownTarget, match="no figures for the target `sm_1`"):
        Evaluator(path)({})


def test_computing_again_keeps_no_more_than_computing_nothing_twice() -> None:
    for name in ("mlp_block", "norm", "squeeze_excite"):
        evaluator = Evaluator(name, sizes={"N": 2})
        point = some_points(evaluator, 1)[0]
        exact, bound = evaluator.exact(point), evaluator(point).figures.memory
        assert exact.weights <= exact.memory <= bound
        assert exact.forward_arena >= 0 and exact.backward_arena > 0
