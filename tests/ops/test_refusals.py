"""Wrong uses of every operator: a type rule refuses them, or they run and give the types that it said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import BlueprintIR, Builder, DType, TensorType
from esper.ir.build import infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.graph import Node
from esper.ir.operator import OPERATORS, Leaf, Operator
from esper.ops.reference.evaluate import TORCH_DTYPES, evaluate
from esper.testing import blueprint_irs, random_values

COMPUTED = tuple(entry for entry in OPERATORS.values() if not isinstance(entry.lowering, Leaf))
each_computed = pytest.mark.parametrize("entry", COMPUTED, ids=lambda entry: entry.name)
OTHERS = (DType.I64, DType.BOOL, DType.F64)


@each_computed
@settings(max_examples=15)
@given(data=st.data())
def test_a_wrong_type_is_refused_or_runs_as_inferred(entry: Operator, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1, symbolic=False, dtypes=[DType.F32]))
    node = ir.of(entry.name)[0]
    types = [None if operand is None else ir.type(operand) for operand in node.operands]
    for index, type in enumerate(types):
        if type is None:
            continue
        for wrong in wrong_types(type):
            changed = [*types[:index], wrong, *types[index + 1 :]]
            try:
                results = infer_types(entry, changed, node.attrs)
            except TypeRuleViolated:
                continue
            runs_as(node, changed, results)


@each_computed
@settings(max_examples=5)
@given(data=st.data())
def test_a_missing_operand_is_refused_by_name(entry: Operator, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1))
    node = ir.of(entry.name)[0]
    types = [None if operand is None else ir.type(operand) for operand in node.operands]
    for index in range(len(types)):
        operand = entry.input_of(index)
        if not operand.optional:
            with pytest.raises(TypeRuleViolated, match=f"operand `{operand.name}` is missing"):
                infer_types(entry, [*types[:index], None, *types[index + 1 :]], node.attrs)
    if not (entry.inputs and entry.inputs[-1].variadic):
        for count in {len(types) + 1, max(0, len(types) - 1)} - {len(types)}:
            with pytest.raises(TypeRuleViolated, match=f"takes {len(types)} operands, found {count}"):
                infer_types(entry, [*types, TensorType(DType.F32)][:count], node.attrs)


def wrong_types(type: TensorType) -> Iterator[TensorType]:
    """`type` with another dtype, an axis less or more, or another size of one axis."""
    yield from (type.with_dtype(dtype) for dtype in OTHERS if dtype is not type.dtype)
    if type.rank:
        yield type.with_shape(type.shape[1:])
    yield type.with_shape((2, *type.shape))
    for axis, size in enumerate(type.shape):
        yield type.with_shape((*type.shape[:axis], size + 1, *type.shape[axis + 1 :]))


def runs_as(node: Node, types: list[TensorType | None], results: tuple[TensorType, ...]) -> None:
    """Runs `node` on operands of `types` and compares what comes out with `results`."""
    build = Builder("use")
    operands = [None if type is None else build.input(f"x{index}", type) for index, type in enumerate(types)]
    values = build.append(Node("use", node.op, tuple(operands), node.attrs, results, None)).results
    ir: BlueprintIR = build.finish({f"y{index}": value for index, value in enumerate(values)})
    given = random_values(ir)
    found = evaluate(ir, given.inputs, given.weights, seed=1)
    for name, value in ir.outputs:
        type = ir.type(value)
        assert found[name].dtype is TORCH_DTYPES[type.dtype], (types, dict(node.attrs))
        assert tuple(found[name].shape) == type.concrete_shape({}), (types, dict(node.attrs))
