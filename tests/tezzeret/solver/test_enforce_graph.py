"""A graph is repaired by few edits, and what goes in and comes out stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue, lower
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs import quantities
from esper.tezzeret.costs.exact import exact_memory
from esper.tezzeret.evaluator import Evaluator
from esper.tezzeret.solver import GraphRepair, Repair, enforce_graph, parse_rule, repair, validate
from esper.tezzeret.solver.errors import Infeasible, NoRepairFound

SIZES: dict[str, SizeValue] = {"N": 4, "S": (4,)}
FEW = settings(max_examples=max(settings().max_examples // 25, 4))


@pytest.fixture(scope="module")
def mlp() -> BlueprintIR:
    return lower("mlp_block", sizes={"S": (4,)}, features=32)


def ends(ir: BlueprintIR) -> list[object]:
    return [[node.type for node in ir.inputs], [ir.type(value) for _, value in ir.outputs]]


@given(quantity=st.sampled_from(("params", "flops", "bytes", "depth")), share=st.floats(0.3, 1.1))
@FEW
def test_a_repaired_graph_keeps_the_rule_and_its_ends(mlp: BlueprintIR, quantity: str, share: float) -> None:
    found = 5 if quantity == "depth" else getattr(quantities(mlp, SIZES), quantity)
    rule = Constraint(quantity, "<=", round(found * share))
    try:
        repair = enforce_graph(mlp, [rule], SIZES)
    except NoRepairFound as error:
        assert error.details["rules"] == (rule,)
        return
    assert validate(repair.ir, [rule], SIZES) == [] and ends(repair.ir) == ends(mlp)
    assert bool(repair.edits) == (found > rule.bound)


def test_one_edit_is_taken_where_one_suffices(mlp: BlueprintIR) -> None:
    repair = enforce_graph(mlp, [parse_rule("params<=4500")], SIZES)
    assert repair.edits == ("linear narrowed from 128 to 64",) and repair.is_least
    assert repair.ir.hash == lower("mlp_block", sizes={"S": (4,)}, features=32, expand=2).hash


def test_an_operator_that_may_not_be_is_replaced(mlp: BlueprintIR) -> None:
    repair = enforce_graph(mlp, [parse_rule("without gelu"), parse_rule("depth>=5")], SIZES)
    assert repair.edits == ("gelu replaced by relu",)


def test_memory_is_kept_by_computing_again_where_edits_are_not_enough() -> None:
    ir = lower("attention", features=16, heads=2)
    sizes: dict[str, SizeValue] = {"N": 1, "T": 64}
    kept, exact = quantities(ir, sizes).memory, exact_memory(ir, sizes).memory
    assert exact < kept
    rules = [Constraint("memory", "<=", exact), parse_rule("depth>=5"), parse_rule("linear in f32")]
    repair = enforce_graph(ir, [*rules, Constraint("params", ">=", quantities(ir, sizes).params)], sizes)
    assert exact_memory(repair.ir, sizes).memory <= exact
    assert repair.recomputes or quantities(repair.ir, sizes).memory <= exact


def test_what_is_left_broken_is_told_of_the_nearest(mlp: BlueprintIR) -> None:
    with pytest.raises(NoRepairFound, match="not proven") as caught:
        enforce_graph(mlp, [parse_rule("params>=1000000")], SIZES)
    assert "the nearest is left with this: it breaks `params>=1000000`" in caught.value.help_text


def test_values_are_changed_before_the_graph_is_edited() -> None:
    evaluator = Evaluator("mlp_block", fixed={"features": 16}, sizes=SIZES)
    least = min(evaluator(point).figures.params for point in evaluator.space.points())
    assert isinstance(repair(evaluator, [Constraint("params", "<=", least)]), Repair)
    found = repair(evaluator, [Constraint("params", "<", least)])
    assert isinstance(found, GraphRepair) and found.edits
    assert validate(found.ir, [Constraint("params", "<", least)], SIZES) == []
    with pytest.raises(Infeasible, match="all 16 were counted"):
        repair(evaluator, [parse_rule("params>=1000000")])


def test_what_is_left_out_takes_no_other_operator_along(mlp: BlueprintIR) -> None:
    operators = len(structure_of(mlp))
    repair = enforce_graph(mlp, [parse_rule("params<=3000")], SIZES)
    assert len(structure_of(repair.ir)) >= operators - len(repair.edits)
    assert repair.ir.params


def structure_of(ir: BlueprintIR) -> list[str]:
    return [node.op for node in ir.nodes if node.operands]
