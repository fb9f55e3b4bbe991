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

MEETING = """
blueprint meeting(
    a: dim = 8 in 1..40,
    b: dim = 8 in 1..40,
    groups: int = 1 in {1, 2, 4},
    kind: op = relu in {relu, glu},
) {
    require b % groups == 0: "groups are of one size"
    let half = a // 2
    input x: f32[N, a, 16, T]
    h = x |> conv(b, kernel=3, groups=groups) |> group_norm(groups)
    if a > 2 * groups { h = h + conv(x, b, kernel=1) } else { h = h * 2 }
    let wide = half + 9
    g = reshape(h, [N, b * 16, T]) |> permute([0, 2, 1]) |> linear(2 * wide) |> kind()
    output mean(g, axes=[2]) * (1 / wide) output y = h * mean(h, axes=[1], keepdims=true) + h
}
"""
"""Sizes that are equal, twice one another, or divide, for some values and not for others."""

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


def widened(evaluator: Evaluator, point: Point, by: int) -> Point:
    """`point` with other `dim` parameters."""
    dims = [p for p in evaluator.loaded.blueprint.parameters if p.kind.text == "dim"]
    return {**point, **{p.name.text: by * (index + 1) for index, p in enumerate(dims)}}


@pytest.mark.parametrize("name", [entry.name for entry in library()])
def test_every_library_blueprint_costs_the_same_by_parts_and_whole(name: str) -> None:
    evaluator = Evaluator(name, sizes={"N": 4})
    first, second = (some_points(evaluator, 2) * 2)[:2]
    for point in (first, widened(evaluator, second, 96)):
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


@given(esp_programs(), st.lists(st.sampled_from((8, 12, 16, 24, 50)), max_size=2))
@settings(SOME, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_program_costs_the_same_by_parts_and_whole(tmp_path: Path, text: str, widths: list[int]) -> None:
    path = tmp_path / "program.esp"
    path.write_text(text)
    evaluator = Evaluator(path)
    for point in ({}, *({"width": width} for width in widths)):
        try:
            whole = evaluator.reference(point)
        except EsperError as error:
            with pytest.raises(type(error)):
                evaluator(point)
        else:
            assert evaluator(point) == whole


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meeting") / "meeting.esp"
    path.write_text(MEETING)
    Evaluator(path, sizes={"T": 3}).lower({})  # raises nothing
    return path


@given(st.data())
@SOME
def test_points_of_any_sizes_cost_the_same_by_parts_and_whole(meeting: Path, data: st.DataObject) -> None:
    evaluator = Evaluator(meeting, sizes={"N": 2, "T": 3})
    size = st.one_of(st.integers(1, 40), st.sampled_from((8, 16, 32)))
    for _ in range(2):
        point: Point = {
            "a": data.draw(size),
            "b": data.draw(size),
            "groups": data.draw(st.sampled_from((1, 2, 4))),
            "kind": data.draw(st.sampled_from(("relu", "glu"))),
        }
        try:
            whole = evaluator.reference(point)
        except BlueprintRejected:
            with pytest.raises(BlueprintRejected):
                evaluator(point)
        else:
            assert evaluator(point) == whole


def test_points_of_other_sizes_measure_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "chain.esp"
    path.write_text(
        "blueprint chain(a: dim = 8 in 8..512, b: dim = 8 in 8..512, c: dim = 8 in 8..512) {"
        " input x: f32[N, 3, ...S]"
        " output x |> conv(a, kernel=5) |> batch_norm() |> relu() |> conv(b) |> layer_norm() |> conv(c) }"
    )
    evaluator = Evaluator(path)
    evaluator({"a": 100, "b": 200, "c": 300})
    measured = evaluator.measured
    for point in evaluator.space.samples(20, random.Random(0)):
        if len({3, *point.values()}) == 4:
            assert evaluator(point).figures.params > 0
    assert evaluator.measured == measured and not evaluator.wholes


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
