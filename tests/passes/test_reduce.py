"""The reducer: minimal, valid, deterministic, on planted faults and on any property of a graph."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir import OPERATORS, BlueprintIR, Builder, DType, TensorType, symbol, verify
from esper.ir.operator import Leaf
from esper.passes.reduce import complexity, reduce
from esper.passes.simpler import simpler_attributes
from esper.testing import blueprint_irs


def long_chain(length: int) -> BlueprintIR:
    """`length` pointwise nodes over [N, 8], a product of two of them near the end."""
    build = Builder("chain")
    x = build.input("x", TensorType(DType.BF16, (symbol("N"), 8)))
    values = [x, build.op("exp", x)]
    for index in range(length):
        op = ("neg", "tanh", "gelu")[index % 3]
        values.append(build.op("add", build.op(op, values[-1]), values[-2]))
    product = build.op("matmul", values[-3], build.op("permute", values[-2], axes=(1, 0)))
    return build.finish({"y": build.op("relu", product), "z": values[-1]})


def test_a_long_graph_is_reduced_to_the_one_node_that_matters() -> None:
    found = reduce(long_chain(300), lambda ir: bool(ir.of("matmul")))
    assert [node.op for node in found.ir.nodes] == ["input", "matmul"]
    assert found.is_minimal
    assert found.tried < 300


def test_nodes_that_must_stand_together_stay() -> None:
    found = reduce(long_chain(30), lambda ir: len(ir.of("gelu")) >= 2 and bool(ir.of("relu")))
    assert sorted(node.op for node in found.ir.nodes) == ["gelu", "gelu", "input", "relu"]


def test_what_is_already_minimal_stays_as_it_is() -> None:
    ir = reduce(long_chain(9), lambda ir: bool(ir.of("relu"))).ir
    assert reduce(ir, lambda ir: bool(ir.of("relu"))).ir == ir


def test_when_the_time_is_over_the_simplest_graph_so_far_is_given() -> None:
    ir = long_chain(30)
    found = reduce(ir, lambda ir: True, seconds=0)
    assert found.ir is ir and not found.is_minimal


def test_a_number_of_an_attribute_becomes_one() -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (2, 3, 9)))
    ir = build.finish({"y": build.op("max_pool", x, kernel=3)})
    tried = [node.attrs["kernel"] for found in simpler_attributes(ir) for node in found.of("max_pool")]
    assert 1 in tried
    assert reduce(ir, lambda ir: bool(ir.of("max_pool"))).ir.of("max_pool")[0].attrs["kernel"] == 1


@pytest.mark.skipif("scan" not in OPERATORS, reason="no operator owns a body")
def test_a_body_is_reduced_too() -> None:
    step = Builder("step")
    type = TensorType(DType.F32, (symbol("N"), 4))
    carry, slice = step.input("carry", type), step.input("slice", type)
    sum = step.op("add", carry, step.op("neg", step.op("tanh", slice)))
    body = step.finish({"carry": step.op("exp", sum)})
    build = Builder("loop")
    first, all = build.input("first", type), build.input("all", type.with_shape((symbol("T"), *type.shape)))
    last = build.op("scan", first, all, body=body, carries=1, sequences=1)
    ir = build.finish({"last": last})
    found = reduce(ir, lambda ir: any(body.of("neg") for node in ir.nodes for _, body in node.bodies))
    (body,) = [body for node in found.ir.nodes for _, body in node.bodies]
    assert {node.op for node in body.nodes} == {"input", "neg"}


def computed(ir: BlueprintIR) -> set[str]:
    return {node.op for node in ir.nodes if not isinstance(OPERATORS[node.op].lowering, Leaf)}


@settings(max_examples=40)
@given(ir=blueprint_irs(), data=st.data())
def test_any_graph_with_an_operator_is_reduced_to_that_operator(ir: BlueprintIR, data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(sorted(computed(ir))))
    found = reduce(ir, lambda ir: bool(ir.of(op)))
    verify(found.ir)
    assert computed(found.ir) == {op}
    assert len(found.ir.of(op)) == 1
    assert complexity(found.ir) <= complexity(ir)
    assert reduce(ir, lambda ir: bool(ir.of(op))).ir == found.ir
