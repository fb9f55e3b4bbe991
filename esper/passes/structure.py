"""The rewrites of `simplify` that attributes and shapes decide: sums, products, selections and casts.

Each takes away an operator, or gives a cheaper one for it. A rule sees a node with its operands in the
graph built so far, and gives a node or value in its place, or None where it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from esper.ir.build import Builder, infer_types
from esper.ir.dims import product
from esper.ir.graph import Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS
from esper.ir.types import DType
from esper.ops.rules import attribute_integer
from esper.passes.canonicalize import WIDER

GREATEST_COUNT = 256  # the last integer up to which all are numbers of bfloat16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule looks. `single`: the nodes that one node reads, and that are no result of the graph."""

    build: Builder
    single: frozenset[str]


@dataclass(frozen=True, slots=True)
class Structural:
    """One rewrite of nodes with the operator `op`. `fast_math`: an infinity or digits may come or go."""

    op: str
    rule: Callable[[Place, Node], Node | Value | None]
    fast_math: bool = False


def _axes(node: Node) -> tuple[int, ...]:
    axes = node.attrs["axes"]
    assert isinstance(axes, tuple)
    return tuple(axis for axis in axes if isinstance(axis, int))


def _reduction_of_reduction(place: Place, node: Node) -> Node | None:
    """A sum of a sum is one over both their axes, where nothing else reads the inner; so is a maximum."""
    inner = place.build.made_by(node.operands[0], node.op)
    if inner is None or inner.name not in place.single:
        return None
    (x,) = inner.operands
    assert x is not None
    first, then = _axes(inner), _axes(node)
    if not inner.attrs["keepdims"]:
        left = [axis for axis in range(place.build.type(x).rank) if axis not in first]
        then = tuple(left[axis] for axis in then)
    attrs = frozen_attrs({**node.attrs, "axes": tuple(sorted({*first, *then}))})
    types = infer_types(OPERATORS[node.op], [place.build.type(x)], attrs)
    return node.replace(operands=inner.operands, attrs=attrs) if types == node.types else None


def _sum_of_broadcast(place: Place, node: Node) -> Node | None:
    """The sum of n copies is n times the value."""
    view = place.build.made_by(node.operands[0], "broadcast_to")
    if view is None:
        return None
    build, axes = place.build, _axes(node)
    (x,) = view.operands
    assert x is not None
    shape = build.type(x).shape
    aligned = (1,) * (view.type.rank - len(shape)) + shape
    count = product(view.type.shape[axis] for axis in axes)
    is_wide = node.type.dtype in (DType.F32, DType.F64)
    is_exact = isinstance(count, int) and count <= GREATEST_COUNT
    if any(aligned[axis] != 1 for axis in axes) or not (is_wide or is_exact):
        return None
    kept = tuple(size for axis, size in enumerate(aligned) if node.attrs["keepdims"] or axis not in axes)
    if shape != kept:
        x = build.op("reshape", x, shape=kept, span=node.span)
    factor = build.op("size", value=count, dtype=node.type.dtype, span=node.span)
    if kept == node.type.shape:
        return node.replace(op="mul", operands=(x, factor), attrs=frozen_attrs({}))
    total = build.op("mul", x, factor, span=node.span)
    attrs = frozen_attrs({"shape": node.type.shape})
    return node.replace(op="broadcast_to", operands=(total,), attrs=attrs)


def _matmul_of_permute(place: Place, node: Node) -> Node | None:
    """A product reads an operand whose last two axes are swapped by its flags."""
    ranks = [place.build.type(value).rank for value in node.operands if value is not None]
    for index, flag in enumerate(("transpose_a", "transpose_b")):
        view = place.build.made_by(node.operands[index], "permute")
        rank = ranks[index]
        if view is None or _axes(view) != (*range(rank - 2), rank - 1, rank - 2):
            continue
        if index == 0 and ranks[0] > ranks[1]:
            continue  # the rows of all matrices of `a` are multiplied by one `b`: they must stand in order
        operands = (*node.operands[:index], view.operands[0], *node.operands[index + 1 :])
        attrs = frozen_attrs({**node.attrs, flag: not node.attrs[flag]})
        return node.replace(operands=operands, attrs=attrs)
    return None


def _log_of_softmax(place: Place, node: Node) -> Node | None:
    """`log_softmax` computes it whole, and stays finite where softmax is zero."""
    inner = place.build.made_by(node.operands[0], "softmax")
    if inner is None or inner.name not in place.single:
        return None
    axis = attribute_integer(inner.attrs, "axis")
    return node.replace(op="log_softmax", operands=inner.operands, attrs=frozen_attrs({"axis": axis}))


def _where_of_where(place: Place, node: Node) -> Node | None:
    """Inside a branch the condition is known."""
    for index in (1, 2):
        inner = place.build.made_by(node.operands[index], "where")
        if inner is not None and inner.operands[0] == node.operands[0]:
            operands = tuple(
                inner.operands[index] if position == index else value
                for position, value in enumerate(node.operands)
            )
            types = [None if value is None else place.build.type(value) for value in operands]
            if infer_types(OPERATORS["where"], types, node.attrs) == node.types:
                return node.replace(operands=operands)
    return None


def _cast_of_cast(place: Place, node: Node) -> Node | Value | None:
    """A cast to a dtype that holds the value exactly changes nothing before another."""
    inner = place.build.made_by(node.operands[0], "cast")
    if inner is None or (x := inner.operands[0]) is None:
        return None
    type = place.build.type(x)
    if inner.type.dtype not in WIDER.get(type.dtype, ()):
        return None
    return x if type == node.type else node.replace(operands=(x,))


STRUCTURE = (
    Structural("sum", _reduction_of_reduction),
    Structural("amax", _reduction_of_reduction),
    Structural("sum", _sum_of_broadcast),
    Structural("matmul", _matmul_of_permute),
    Structural("log", _log_of_softmax, fast_math=True),
    Structural("where", _where_of_where),
    Structural("cast", _cast_of_cast),
)
