"""Each pass on generated graphs: its law, a valid result, the same twice, nothing to do the second time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from esper.ir import OPERATORS, BlueprintIR, Builder, DType, TensorType, verify
from esper.ir.operator import Composite, Decompose
from esper.passes import DEFAULT, PASSES, Law, joint_graph, partition, run_passes
from esper.testing import blueprint_irs, random_values
from esper.testing.laws import require_gradients, require_law
from esper.testing.variants import renamed

LAW = settings.get_profile("law")
REWRITES = [name for name, entry in PASSES.items() if entry.law is not Law.CHANGES_SIGNATURE]


@pytest.mark.parametrize("name", REWRITES)
@LAW
@given(ir=blueprint_irs())
def test_a_pass_holds_its_law(name: str, ir: BlueprintIR) -> None:
    require_law(PASSES[name].law, ir, run_passes(ir, name), random_values(ir))


@pytest.mark.parametrize("name", REWRITES)
@LAW
@given(ir=blueprint_irs())
def test_a_pass_finds_nothing_to_do_in_what_it_made(name: str, ir: BlueprintIR) -> None:
    once = PASSES[name].run(ir)
    assert PASSES[name].run(once) == once


@pytest.mark.parametrize("name", REWRITES)
@LAW
@given(ir=blueprint_irs())
def test_a_pass_keeps_the_signature(name: str, ir: BlueprintIR) -> None:
    after = PASSES[name].run(ir)
    assert after.inputs == ir.inputs
    assert [(key, after.type(value)) for key, value in after.outputs] == [
        (key, ir.type(value)) for key, value in ir.outputs
    ]
    assert [key for key, _ in after.updates] == [key for key, _ in ir.updates]


@pytest.mark.parametrize("name", REWRITES)
@LAW
@given(ir=blueprint_irs())
def test_a_pass_made_twice_from_the_same_graph_gives_the_same(name: str, ir: BlueprintIR) -> None:
    assert str(PASSES[name].run(ir)) == str(PASSES[name].run(BlueprintIR.from_json(ir.to_json())))


@pytest.mark.parametrize("name", REWRITES)
@LAW
@given(ir=blueprint_irs(differentiable=True, max_nodes=5))
def test_gradients_after_a_pass_are_the_gradients_before(name: str, ir: BlueprintIR) -> None:
    after = run_passes(ir, name)
    if after == ir:  # the gradients of graphs as they are: `test_autodiff`
        return
    if all(
        OPERATORS[node.op].vjp or not node.operands or OPERATORS[node.op].in_language for node in after.nodes
    ):
        require_gradients(ir, joint_graph(after), random_values(ir))


@LAW
@given(ir=blueprint_irs())
def test_the_pipeline_holds_the_weakest_law_of_its_passes(ir: BlueprintIR) -> None:
    require_law(Law.REAL_EQUAL, ir, run_passes(ir, DEFAULT), random_values(ir))


@LAW
@given(ir=blueprint_irs())
def test_the_pipeline_reaches_a_fixed_point(ir: BlueprintIR) -> None:
    once = run_passes(ir, DEFAULT)
    assert run_passes(once, DEFAULT) == once


@LAW
@given(ir=blueprint_irs(differentiable=True))
def test_the_joint_graph_is_a_fixed_point_of_the_pipeline(ir: BlueprintIR) -> None:
    joint = joint_graph(ir)
    assert run_passes(joint, DEFAULT) == joint


@LAW
@given(ir=blueprint_irs())
def test_nothing_is_left_of_what_a_pass_replaces(ir: BlueprintIR) -> None:
    for name, kind in (("expand", Composite), ("decompose", Decompose)):
        after = PASSES[name].run(ir)
        verify(after)
        assert not [node for node in after.nodes if isinstance(OPERATORS[node.op].lowering, kind)]


@LAW
@given(ir=blueprint_irs())
def test_the_pipeline_makes_one_graph_of_graphs_that_differ_in_names_only(ir: BlueprintIR) -> None:
    assert run_passes(ir, DEFAULT).hash == run_passes(renamed(ir), DEFAULT).hash


def test_a_chain_of_ten_thousand_nodes_is_no_deeper_than_the_stack() -> None:
    build = Builder("long")
    value = build.input("x", TensorType(DType.F32, (4,)))
    scale = build.constant(2.0)
    for _ in range(5000):
        value = build.op("mul", value, scale)
        scale = build.op("neg", scale)
    ir = build.finish({"y": value})
    joint = joint_graph(ir)
    assert run_passes(joint, DEFAULT) == joint
    assert len(partition(joint).backward.nodes) > 5000
    assert BlueprintIR.from_json(joint.to_json()).hash == joint.hash
