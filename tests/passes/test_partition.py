"""partition: the two graphs together are the joint graph, and what is saved is what must be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from esper.ir import OPERATORS, BlueprintIR, Builder, DType, TensorType, symbol, verify
from esper.ir.operator import View
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph, partition, run_passes
from esper.passes.errors import NotAJointGraph
from esper.testing import blueprint_irs, random_values

ROWS = TensorType(DType.F32, (symbol("N"), 4))


def joint_of(ir: BlueprintIR) -> BlueprintIR | None:
    joint = joint_graph(ir)
    return joint if len(joint.outputs) > len(ir.outputs) else None


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_forward_then_backward_computes_what_the_joint_graph_does(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is None:
        return
    parts = partition(joint)
    verify(parts.forward)
    verify(parts.backward)
    values = random_values(joint)
    together = evaluate(joint, values.inputs, values.weights, seed=values.seed)
    ahead = evaluate(parts.forward, values.inputs, values.weights, seed=values.seed)
    given = {**values.inputs, **{entry.name: ahead[entry.name] for entry in parts.saved}}
    weights = {
        node.name: values.weights[node.name] for node in parts.backward.params + parts.backward.buffers
    }
    inputs = {node.name: given[node.name] for node in parts.backward.inputs}
    back = evaluate(
        _with_sizes(parts.backward, joint), {**values.inputs, **inputs}, weights, seed=values.seed
    )
    for name, expected in together.items():
        found = back[name] if name in back else ahead[name]
        assert torch.equal(expected.nan_to_num(), found.nan_to_num()), name


def _with_sizes(backward: BlueprintIR, joint: BlueprintIR) -> BlueprintIR:
    """The backward graph with all inputs of the joint graph, from which the evaluator has its sizes."""
    absent = [node for node in joint.inputs if node.name not in backward]
    return backward.replace(nodes=(*absent, *backward.nodes))


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_no_leaf_constant_or_view_is_saved(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is None:
        return
    for entry in partition(joint).saved:
        node = joint.node(entry.value.node)
        assert not isinstance(OPERATORS[node.op].lowering, View)
        assert node.operands or node.name in dict(joint.updates)


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_the_forward_graph_is_the_graph_itself_but_for_what_it_saves(ir: BlueprintIR) -> None:
    joint = joint_of(ir)
    if joint is None:
        return
    forward = partition(joint).forward
    plain = run_passes(forward.replace(outputs=forward.outputs[: len(ir.outputs)]), "dce")
    assert plain.hash == run_passes(ir, "expand,canonicalize,fold,cse,dce").hash


def test_each_value_that_the_backward_graph_reads_is_saved_once() -> None:
    build = Builder("b")
    x = build.input("x", ROWS)
    y = build.op("exp", x)
    parts = partition(joint_graph(build.finish({"y": build.op("mul", y, y)})))
    assert [str(entry.value) for entry in parts.saved] == ["%exp"]
    assert str(parts.saved_bytes) == "16*N"


def test_a_buffer_that_the_step_updates_is_saved_and_one_that_it_keeps_is_not() -> None:
    for updates, expected in (({"b": "neg"}, ["%b"]), ({}, [])):
        build = Builder("g")
        x, b = build.input("x", ROWS), build.buffer("b", ROWS)
        after = build.op("neg", b)
        outputs = {"y": build.op("mul", x, b), "z": after}
        ir = build.finish(outputs, dict.fromkeys(updates, after))
        assert [str(entry.value) for entry in partition(joint_graph(ir)).saved] == expected


def test_a_graph_without_gradients_is_refused() -> None:
    build = Builder("b")
    with pytest.raises(NotAJointGraph, match="no gradient outputs"):
        partition(build.finish({"y": build.op("neg", build.input("x", ROWS))}))
