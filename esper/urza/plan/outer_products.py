"""Products whose inner dimension is 1 are no products: each element is one of `a` times one of `b`.

As a pointwise multiplication it is computed where it is read, and nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.rewrite import rewrite


def with_outer_products(ir: BlueprintIR) -> BlueprintIR:
    """`ir` with `a[..., M, 1] @ b[..., 1, N]` as a multiplication; a matrix `b` serves every batch."""
    return rewrite(ir, _rule)


def _rule(build: Builder, node: Node) -> Sequence[Value] | None:
    if node.op != "matmul":
        return None
    a, b = (operand for operand in node.operands if operand is not None)
    shape = build.type(a).shape
    if shape[-2 if node.attrs["transpose_a"] else -1] != 1:
        return None
    rows, columns = node.type.shape[-2:]
    left = _read_as(build, a, (*shape[:-2], rows, 1))
    right = _read_as(build, b, (*build.type(b).shape[:-2], 1, columns))
    return [build.op("mul", left, right)]


def _read_as(build: Builder, value: Value, shape: tuple[Size, ...]) -> Value:
    return value if build.type(value).shape == shape else build.op("reshape", value, shape=shape)
