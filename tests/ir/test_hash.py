"""The canonical hash: blind to names and order, not to anything that a graph means."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType, Node, TensorType, Value, symbol, verify
from esper.ir.graph import frozen_attrs
from esper.ir.rewrite import replace_results, with_operands
from esper.testing import blueprint_irs
from esper.testing.variants import renamed, reordered

ROWS = TensorType(DType.F32, (symbol("N"), 4))
WEIGHT = TensorType(DType.F32, (4, 4))


@given(blueprint_irs())
def test_renaming_keeps_the_hash(ir: BlueprintIR) -> None:
    other = renamed(ir)
    verify(other)
    assert other.hash == ir.hash


@given(blueprint_irs(), st.integers(0, 10**6))
def test_another_order_of_the_nodes_keeps_the_hash(ir: BlueprintIR, seed: int) -> None:
    other = reordered(ir, seed)
    verify(other)
    assert other.hash == ir.hash


@given(blueprint_irs())
def test_spans_and_dead_nodes_keep_the_hash(ir: BlueprintIR) -> None:
    dead = Node("dead", "constant", (), frozen_attrs({"value": 2.0}), (TensorType(DType.F32),))
    assert ir.replace(nodes=[*ir.nodes, dead]).hash == ir.hash


def _needed(ir: BlueprintIR) -> set[str]:
    needed = {value.node for value in ir.results}
    for node in reversed(ir.nodes):
        if node.name in needed:
            needed.update(operand.node for operand in node.operands if operand is not None)
    return needed


@given(blueprint_irs(), st.data())
def test_swapping_two_operands_changes_the_hash(ir: BlueprintIR, data: st.DataObject) -> None:
    """Of a node whose operands are two leaves, so that no symmetry of the graph undoes the swap."""
    needed = _needed(ir)
    leaves = {node.name for node in ir.nodes if node.op in ("input", "param")}
    swappable = [
        node
        for node in ir.nodes
        if node.name in needed
        and len(node.operands) == 2
        and len({operand and operand.node for operand in node.operands} & leaves) == 2
    ]
    if not swappable:
        return
    node = data.draw(st.sampled_from(swappable))
    left, right = node.operands
    assert left is not None and right is not None
    if {ir.node(left.node).op, ir.node(right.node).op} == {"param"}:
        return  # two params have no order but that of their use
    swapped = node.replace(operands=(right, left))
    assert ir.replace(nodes=[swapped if n is node else n for n in ir.nodes]).hash != ir.hash


@given(blueprint_irs(), st.data())
def test_changing_an_attribute_changes_the_hash(ir: BlueprintIR, data: st.DataObject) -> None:
    needed = _needed(ir)
    choices = [
        (node, name)
        for node in ir.nodes
        for name, value in node.attrs.items()
        if node.name in needed and isinstance(value, bool | float | int)
    ]
    if not choices:
        return
    node, name = data.draw(st.sampled_from(choices))
    value = node.attrs[name]
    other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else value
    changed = node.replace(attrs=frozen_attrs({**node.attrs, name: other}))
    assert ir.replace(nodes=[changed if n is node else n for n in ir.nodes]).hash != ir.hash


@given(blueprint_irs(), st.data())
def test_changing_the_dtype_of_an_input_changes_the_hash(ir: BlueprintIR, data: st.DataObject) -> None:
    if not ir.inputs:
        return
    node = data.draw(st.sampled_from(ir.inputs))
    changed = node.replace(types=(node.type.with_dtype(DType.F16),))
    assert ir.replace(nodes=[changed if n is node else n for n in ir.nodes]).hash != ir.hash


@given(blueprint_irs(), st.data())
def test_tying_two_params_changes_the_hash(ir: BlueprintIR, data: st.DataObject) -> None:
    needed = _needed(ir)
    params = [node for node in ir.params if node.name in needed]
    pairs = [(a, b) for a in params for b in params if a.name < b.name and a.type == b.type]
    if not pairs:
        return
    kept, tied = data.draw(st.sampled_from(pairs))
    replaced = {tied.result(): kept.result()}
    one = BlueprintIR(
        ir.name,
        (ir.node(kept.name), *(with_operands(n, replaced) for n in ir.nodes if n not in (kept, tied))),
        replace_results(ir.outputs, replaced),
        ir.updates,
    )
    verify(one)
    assert one.hash != ir.hash


def build(make: Callable[[Builder, Value, Value], Value], init: str = "zeros") -> str:
    """The hash of a graph on x: f32[N, 4] and a square param w."""
    builder = Builder("b")
    x, w = builder.input("x", ROWS), builder.param("w", WEIGHT, init=init)
    return builder.finish({"y": make(builder, x, w)}).hash


def test_a_minus_b_is_not_b_minus_a() -> None:
    def graph(swap: bool) -> str:
        builder = Builder("b")
        a, b = builder.input("a", ROWS), builder.input("b", ROWS)
        return builder.finish({"y": builder.op("sub", *((b, a) if swap else (a, b)))}).hash

    assert graph(True) != graph(False)


def test_two_weights_are_not_one_used_twice() -> None:
    def tied(b: Builder, x: Value, w: Value) -> Value:
        return b.op("add", b.op("matmul", x, w), b.op("matmul", x, w))

    def free(b: Builder, x: Value, w: Value) -> Value:
        return b.op("add", b.op("matmul", x, w), b.op("matmul", x, b.param("v", WEIGHT)))

    assert build(tied) != build(free)


def test_two_draws_are_not_one_used_twice() -> None:
    def one(b: Builder, x: Value, w: Value) -> Value:
        y = b.op("dropout", x, b.seed(), p=0.5, offset=1)
        return b.op("add", y, y)

    def two(b: Builder, x: Value, w: Value) -> Value:
        first, second = (b.op("dropout", x, b.seed(), p=0.5, offset=1) for _ in range(2))
        return b.op("add", first, second)

    assert build(one) != build(two)


@pytest.mark.parametrize("other", ["ones", "normal"])
def test_an_initialiser_counts(other: str) -> None:
    assert build(lambda b, x, w: b.op("matmul", x, w)) != build(
        lambda b, x, w: b.op("matmul", x, w), init=other
    )


def test_the_order_of_outputs_counts_and_their_names_do_not() -> None:
    def graph(names: tuple[str, str], swap: bool) -> str:
        builder = Builder("b")
        x = builder.input("x", ROWS)
        values = [builder.op("exp", x), builder.op("neg", x)]
        return builder.finish(dict(zip(names, reversed(values) if swap else values, strict=True))).hash

    assert graph(("y", "z"), False) == graph(("a", "b"), False) != graph(("y", "z"), True)


def test_the_order_of_inputs_counts() -> None:
    def graph(names: str) -> str:
        builder = Builder("b")
        a, b = (builder.input(name, ROWS) for name in names)
        return builder.finish({"y": builder.op("sub", a, b)}).hash

    def swapped() -> str:
        builder = Builder("b")
        a, b = (builder.input(name, ROWS) for name in "ab")
        return builder.finish({"y": builder.op("sub", b, a)}).hash

    assert graph("ab") == graph("ba") != swapped()


def test_zero_and_minus_zero_differ() -> None:
    assert build(lambda b, x, w: b.op("mul", x, 0.0)) != build(lambda b, x, w: b.op("mul", x, -0.0))


def test_which_result_is_read_counts() -> None:
    def graph(index: int) -> str:
        builder = Builder("b")
        x = builder.input("x", ROWS)
        return builder.finish({"y": builder.ops("layer_norm", x, None, None)[index]}).hash

    assert graph(1) != graph(2)
