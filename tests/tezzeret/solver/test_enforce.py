"""A repair keeps its rules and changes least, or it is proven that nothing does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.lang import BlueprintRejected
from esper.tezzeret import Candidate, Constraint, Evaluator, parse_constraint
from esper.tezzeret.errors import NothingToChoose
from esper.tezzeret.solver import enforce, parse_rule, validate
from esper.tezzeret.solver.bounding import Bounding
from esper.tezzeret.solver.boxes import search_boxes
from esper.tezzeret.solver.changes import by_change, change, default_point
from esper.tezzeret.solver.errors import Infeasible, NoRepairFound
from esper.tezzeret.solver.rates import finite
from esper.tezzeret.space import Point

SMALL = """
blueprint small(
    width: dim = 12 in {4, 8, 12},
    depth: int = 2 in 1..3,
    act: op = relu in {relu, gelu},
    kind: choice = linear,
) {
    require width * depth <= 28: "too large"
    input x: f32[N, 8]
    h = x
    repeat depth {
        h = h + (h |> linear(width) |> act() |> linear(8))
    }
    if depth > 1 {
        h = layer_norm(h)
    }
    output h
}
""".replace("    kind: choice = linear,\n", "")

CHAIN = (
    "blueprint chain(\n"
    + "".join(
        f"    width_{n}: dim = 16 in {{4, 8, 16, 32}},\n    act_{n}: op = relu in {{relu, gelu}},\n"
        for n in range(8)
    )
    + ") {\n    input x: f32[N, 8]\n    h = x\n"
    + "".join(f"    h = h |> linear(width_{n}) |> act_{n}()\n" for n in range(8))
    + "    output linear(h, 8)\n}\n"
)

FEW = settings(max_examples=max(settings().max_examples // 10, 10))
QUANTITIES = ("params", "flops", "memory", "latency_ms")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    path = tmp_path_factory.mktemp("enforce") / "small.esp"
    path.write_text(SMALL)
    return Evaluator(path, sizes={"N": 4})


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    path = tmp_path_factory.mktemp("enforce") / "chain.esp"
    path.write_text(CHAIN)
    return Evaluator(path, sizes={"N": 4})


def all_of(evaluator: Evaluator) -> Iterator[Candidate]:
    for point in evaluator.space.points():
        try:
            yield evaluator(point)
        except BlueprintRejected:
            continue


def keeps(candidate: Candidate, rules: list[Constraint]) -> bool:
    return all(rule.holds(getattr(candidate.figures, rule.quantity)) for rule in rules)


BOUNDS = st.lists(
    st.tuples(st.sampled_from(QUANTITIES), st.sampled_from(("<=", "<", ">=")), st.floats(0, 1)),
    min_size=1,
    max_size=3,
    unique_by=lambda bound: bound[:2],
)


@given(bounds=BOUNDS)
@FEW
def test_a_repair_changes_least_of_all_that_keep_the_rules_and_none_means_none(
    small: Evaluator, bounds: list[tuple[str, str, float]]
) -> None:
    every = list(all_of(small))
    rules = []
    for quantity, comparison, place in bounds:
        figures = sorted({getattr(one.figures, quantity) for one in every})
        rules.append(Constraint(quantity, comparison, figures[round(place * (len(figures) - 1))]))
    fitting = [one for one in every if keeps(one, rules)]
    origin = default_point(small.space, {"width": 12, "depth": 2, "act": "relu"})
    try:
        repair = enforce(small, rules)
    except Infeasible as error:
        assert not fitting
        conflict = error.details["rules"]
        assert not any(keeps(one, conflict) for one in every)
        for left_out in conflict:
            others = [rule for rule in conflict if rule != left_out]
            assert any(keeps(one, others) for one in every)
        relaxed = {rule.quantity: rule for rule in error.details["relaxation"]}
        assert relaxed and len(enforce(small, _replaced(rules, error)).candidate.bounds) == len(rules)
        return
    assert keeps(repair.candidate, rules) and repair.is_least
    least = min(change(small.space, origin, one.values) for one in fitting)
    assert repair.change == least == change(small.space, origin, repair.candidate.values)
    assert len(repair.changes) == least.edits


def _replaced(rules: list[Constraint], error: Infeasible) -> list[Constraint]:
    """`rules` with the relaxation in place of those that it moves: same figure, same side."""
    relaxed = list(error.details["relaxation"])
    found = []
    for rule in rules:
        side = rule.comparison[0]
        moved = [one for one in relaxed if one.quantity == rule.quantity and one.comparison[0] == side]
        loosest = moved[0] if moved else rule
        is_looser = loosest.bound >= rule.bound if side == "<" else loosest.bound <= rule.bound
        found.append(loosest if is_looser else rule)
    return found


@given(data=st.data())
@FEW
def test_a_bound_on_a_box_exceeds_no_figure_of_its_points(small: Evaluator, data: st.DataObject) -> None:
    domains = {n: d for n, d in small.space.domains.items() if isinstance(d, tuple)}
    box = {
        name: tuple(data.draw(st.lists(st.sampled_from(domain), min_size=1, unique=True)))
        for name, domain in domains.items()
    }
    least = Bounding(small).least(box)
    inside = [one for one in all_of(small) if all(one.values[name] in box[name] for name in box)]
    for quantity in (*QUANTITIES, "bytes", "memory_mb"):
        for one in inside:
            assert least.of(Constraint(quantity, "<=", 1.0)) <= getattr(one.figures, quantity)


@pytest.mark.parametrize(
    "name", ["mobilenet_block", "separable_conv", "gru_layer", "inception_block", "norm"]
)
def test_a_point_has_no_fewer_parameters_than_its_bound(name: str) -> None:
    evaluator = Evaluator(name, sizes={"N": 4})
    try:
        point: Point = evaluator.space.settled(next(evaluator.space.points()))
    except NothingToChoose:
        point = {}
    found, least = evaluator(point).figures, Bounding(evaluator).least({n: (v,) for n, v in point.items()})
    assert least.params == found.params
    assert 0 < least.flops <= found.flops and 0 < least.seconds[0] <= found.latency


def test_what_no_output_depends_on_is_no_part_of_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "dead.esp"
    path.write_text(
        "blueprint dead(width: dim = 8 in {4, 8}) {\n    input x: f32[N, 8]\n"
        "    h = linear(x, width)\n    h = linear(x, 2)\n    output h\n}\n"
    )
    evaluator = Evaluator(path, sizes={"N": 4})
    least = Bounding(evaluator).least({"width": (8,)})
    assert least.flops == 2 * 4 * 8 * 2 and least.flops <= evaluator({"width": 8}).figures.flops


def test_an_impossible_bound_on_a_large_space_is_proven_without_counting_it(chain: Evaluator) -> None:
    assert chain.space.bound > 10**6
    for rule in ("params<=100", "latency_ms<=1e-9", "memory<=500"):
        with pytest.raises(Infeasible, match="bounds on 1 boxes") as caught:
            enforce(chain, [parse_rule(rule)], tried=20)
        (relaxed,) = caught.value.details["relaxation"]
        assert relaxed.quantity == parse_rule(rule).quantity  # type: ignore[union-attr]


def test_the_boxes_of_a_space_are_divided_until_each_is_ruled_out(small: Evaluator) -> None:
    every = sorted(one.figures.params for one in all_of(small))
    tight = Evaluator(small.blueprint, sizes={"N": 4}, constraints=(Constraint("params", "<", every[0]),))
    proof = search_boxes(tight, tight.space)
    assert proof.is_complete and proof.fitting is None
    loose = Evaluator(small.blueprint, sizes={"N": 4}, constraints=(Constraint("params", "<=", every[0]),))
    found = search_boxes(loose, loose.space)
    assert found.fitting is not None and found.fitting.figures.params == every[0]
    assert not search_boxes(loose, loose.space, limit=0).is_complete


def test_a_large_space_is_repaired_near_to_where_it_stands(chain: Evaluator) -> None:
    repair = enforce(chain, [parse_rule("params<=1200")], tried=300)
    assert repair.candidate.figures.params <= 1200 and repair.tried <= 400
    assert chain.reference(repair.candidate.values).figures == repair.candidate.figures


def test_nothing_is_said_to_be_impossible_that_is_not_proven(chain: Evaluator) -> None:
    with pytest.raises(NoRepairFound, match="not proven"):
        enforce(chain, [parse_rule("params<=1200"), parse_rule("params>=1199.5")], tried=40)


def test_points_come_in_the_order_of_their_change(small: Evaluator, chain: Evaluator) -> None:
    for evaluator in (small, chain):
        origin = evaluator.space.settled(next(evaluator.space.points()))
        stream = by_change(evaluator.space, origin)
        found = [next(stream) for _ in range(25 if evaluator is chain else 10)]
        assert found[0][1] == origin
        assert [moved for moved, _ in found] == sorted(moved for moved, _ in found)
        assert len({evaluator.space.encode(point) for _, point in found}) == len(found)


def test_a_blueprint_that_keeps_its_rules_is_left_alone(small: Evaluator) -> None:
    repair = enforce(small, [parse_rule("params<=100000")])
    assert repair.changes == () and repair.change.edits == 0 and repair.tried == 1


def test_structure_is_repaired_and_relaxed_as_figures_are(small: Evaluator) -> None:
    repair = enforce(small, [parse_rule("depth<=5")])
    assert repair.changes == ("depth: 2 -> 1",)
    assert validate(small.lower(repair.candidate.values), [parse_rule("depth<=5")]) == []
    with pytest.raises(Infeasible) as caught:
        enforce(small, [parse_rule("depth<=1")])
    assert str(caught.value.details["relaxation"][0]) == "depth<=4"


def test_another_operator_is_taken_where_one_may_not_be(small: Evaluator) -> None:
    assert enforce(small, [parse_rule("without relu")]).changes == ("act: relu -> gelu",)
    with pytest.raises(Infeasible, match="`without linear`") as caught:
        enforce(small, [parse_rule("without linear")])
    assert caught.value.help_text.startswith("give up")


def test_rates_cost_the_same_but_where_a_pass_drops_them() -> None:
    evaluator = Evaluator("attention_layer", sizes={"N": 2, "T": 8})
    space, is_whole = finite(evaluator.space, evaluator.loaded, {"n_heads": 4, "dropout": 0.1})
    assert is_whole and {0.0, 0.1} <= set(space.domains["dropout"])  # type: ignore[arg-type]
    costs = {str(v): evaluator({"n_heads": 4, "dropout": v}).figures for v in (0.05, 0.1, 0.25, 0.49)}
    assert len(set(costs.values())) == 1


def test_a_rate_that_decides_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "rate.esp"
    path.write_text(
        "blueprint rate(p: float = 0.1 in 0.0..0.5) {\n    input x: f32[N, 8]\n    h = x\n"
        "    if p > 0.3 {\n        h = linear(h, 8)\n    }\n    output h + dropout(x, p)\n}\n"
    )
    evaluator = Evaluator(path)
    assert not finite(evaluator.space, evaluator.loaded, {"p": 0.1})[1]
    with pytest.raises(NoRepairFound):
        enforce(evaluator, [parse_rule("params>=1000")])
    assert enforce(evaluator, [parse_rule("params>=72")]).candidate.values["p"] > 0.3  # type: ignore[operator]


def test_bounds_of_many_statements_prove_what_points_cannot(tmp_path: Path) -> None:
    """Over a million points; each statement alone reads 1,296 combinations."""
    domains = ", ".join(f"{name}: dim = 16 in 1..36" for name in "abcd")
    path = tmp_path / "deep.esp"
    path.write_text(
        f"blueprint deep({domains}) {{\n    input x: f32[N, 64]\n"
        "    output x |> linear(a) |> linear(b) |> linear(c) |> linear(d) |> linear(64)\n}\n"
    )
    with pytest.raises(Infeasible, match="bounds on 1 boxes of the space rule them out"):
        enforce(Evaluator(path, constraints=(parse_constraint("params<=100"),)))


def test_what_watches_a_repair_can_end_it(tmp_path: Path) -> None:
    def end() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        enforce(Evaluator("mlp_block", constraints=(parse_constraint("params<=1"),)), watch=end)
