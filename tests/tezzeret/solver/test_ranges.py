"""Whatever a graph is given, its values lie within the ranges that are told of them."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.types import DType, TensorType
from esper.ops.reference.evaluate import evaluate
from esper.tezzeret.solver.ranges import ANY, ranges

TYPE = TensorType(DType.F32, (3, 5))
FOUND = torch.tensor(
    [[-1e4, -90.0, -6.5, -1.5, -0.5], [-1e-3, 0.0, 1e-3, 0.5, 1.0], [1.5, 6.5, 88.0, 90.0, 1e4]]
)
UNARY = ("abs", "exp", "expm1", "neg", "relu", "relu6", "sigmoid", "softmax", "softplus", "square", "tanh")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")


def node(name: str, op: str, *operands: str) -> Node:
    attrs: dict[str, AttrValue] = {"axis": -1} if op == "softmax" else {}
    for one in OPERATORS[op].attributes:
        if one.stored and one.name not in attrs and isinstance(one.default, bool | int | float | str):
            attrs[one.name] = one.default
    return Node(name, op, tuple(map(Value, operands)), frozen_attrs(attrs), (TYPE,))


def require_within(nodes: list[Node]) -> None:
    """Of the last of `nodes`, over inputs small and great; what overflows has no range to lie in."""
    x = Node("x", "input", (), frozen_attrs({}), (TYPE,))
    ir = BlueprintIR("block", (x, *nodes), (("y", Value(nodes[-1].name)),))
    low, high = ranges(ir).get(Value(nodes[-1].name), ANY)
    made = evaluate(ir, {"x": FOUND}, {})["y"].double()
    made = made[torch.isfinite(made)]
    slack = 1e-5 * max(1.0, made.abs().max().item()) if made.numel() else 0.0
    assert not made.numel() or (low - slack <= made.min().item() and made.max().item() <= high + slack)


@pytest.mark.parametrize("op", UNARY)
def test_chains_of_operators_stay_within_their_ranges(op: str) -> None:
    for after in (*UNARY, "sqrt", "rsqrt"):
        require_within([node("one", op, "x"), node("two", after, "one")])


@pytest.mark.parametrize("op", BINARY)
def test_what_two_values_come_to_stays_within_its_range(op: str) -> None:
    for first, second in product(UNARY[::2], repeat=2):
        require_within([node("one", first, "x"), node("two", second, "x"), node("three", op, "one", "two")])
        require_within([node("one", first, "x"), node("three", op, "one", "one")])
