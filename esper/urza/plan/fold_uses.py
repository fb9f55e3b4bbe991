"""Reductions along axes side by side, anywhere in a tensor: what has neither whole rows nor fixed sums.

The space of a fold is [outer axes, the axes it reduces, inner axes]; one kernel reads it once. A reduction
over axes that are apart becomes several, the last axes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Reduction
from esper.ir.rewrite import rewrite
from esper.ir.types import DType
from esper.ops.axes import integers_of
from esper.ops.rules import attribute_integer

KINDS: Mapping[str, str] = {
    "sum": "sum",
    "amax": "max",
    "prod": "prod",
    "argmax": "argmax",
    "argmin": "argmin",
}
"""How a fold of each operator is called in `kernels.folds`."""

Along = tuple[int, int]
"""The first of the axes that are reduced, and the one after the last."""


def along(ir: BlueprintIR | Builder, node: Node) -> Along:
    """The axes that a fold reduces."""
    axes = _axes(node, ir.type(node.operand).rank)
    return axes[0], axes[-1] + 1


def with_folds(ir: BlueprintIR, others: Callable[[Builder, Node], bool]) -> BlueprintIR:
    """`ir` with reductions that are folds: each along axes side by side, which stay with size 1.

    others: whether a reduction has a kernel of another form, and is left as it is.
    """

    def rule(build: Builder, node: Node) -> Sequence[Value] | None:
        if node.op not in KINDS:
            return None
        if isinstance(OPERATORS[node.op].lowering, Reduction) and others(build, node):
            return None
        x = node.operand
        if node.op in ("argmax", "argmin"):
            if node.attrs["keepdims"]:
                return None
            kept = build.op(node.op, x, axis=node.attrs["axis"], keepdims=True)
            return [build.op("reshape", kept, shape=node.type.shape)]
        runs = _runs(_axes(node, build.type(x).rank), build.type(x).shape)
        if len(runs) == 1 and node.attrs["keepdims"] and build.type(x).dtype is node.type.dtype:
            return None
        narrow = len(runs) > 1 and build.type(x).dtype in (DType.BF16, DType.F16)
        found = build.op("cast", x, dtype=DType.F32) if narrow and node.op != "amax" else x
        for run in reversed(runs):
            found = build.op(node.op, found, axes=run, keepdims=True)
        if build.type(found).dtype is not node.type.dtype:
            found = build.op("cast", found, dtype=node.type.dtype)
        return [found if node.attrs["keepdims"] else build.op("reshape", found, shape=node.type.shape)]

    return rewrite(ir, rule)


def _axes(node: Node, rank: int) -> tuple[int, ...]:
    if "axes" in node.attrs:
        return integers_of(node.attrs["axes"])
    return (attribute_integer(node.attrs, "axis") % rank,)


def _runs(axes: Sequence[int], shape: tuple[Size, ...]) -> list[tuple[int, ...]]:
    """`axes` in runs without gaps, but for axes of size 1.

    What folds a whole tensor has the last axis for itself, so that more than one program runs.
    """
    runs: list[tuple[int, ...]] = []
    for axis in axes:
        if runs and all(size == 1 for size in shape[runs[-1][-1] + 1 : axis]):
            runs[-1] = (*runs[-1], axis)
        else:
            runs.append((axis,))
    whole = [axis for axis, size in enumerate(shape) if size != 1]
    if len(runs) == 1 and len(whole) > 1 and set(whole) <= set(axes):
        return [tuple(axis for axis in axes if axis < whole[-1]), tuple(a for a in axes if a >= whole[-1])]
    return runs
