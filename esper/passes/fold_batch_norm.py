"""fold_batch_norm: a batch norm by running statistics disappears into the product or convolution before it.

With `scale = weight * rsqrt(running_var + eps)`, for each channel of the result,

    batch_norm(W x + b) = (scale * W) x + (scale * (b - running_mean) + bias)

The scaled weight is computed in the graph, from parameters and buffers that stay what they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.rewrite import map_bodies, rewrite
from esper.ops import statistics as stats
from esper.ops.rules import attribute_number
from esper.passes.law import Law, register

_CONVOLUTIONS = ("conv", "depthwise_conv", "convolution")
_PRODUCTS = ("linear", "matmul")


@register
@dataclass(frozen=True)
class FoldBatchNorm:
    """For graphs after `inference`: a batch norm in training is left alone, as is one whose operand, or the
    product under its bias, something else reads too.
    """

    name: ClassVar[str] = "fold_batch_norm"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        ir = map_bodies(ir, self.run)
        reads = Counter([*(o for node in ir.nodes for o in node.operands if o is not None), *ir.results])

        def rule(build: Builder, node: Node) -> Sequence[Value] | None:
            if node.op != "batch_norm" or node.attrs["training"]:
                return None
            return _folded(build, node, reads)

        return rewrite(ir, rule)


@dataclass(frozen=True, slots=True)
class _Affine:
    """`product(…) + offset`, where offset has the product's channels or is absent."""

    product: Node
    offset: Value | None


def _folded(build: Builder, node: Node, reads: Counter[Value]) -> Sequence[Value] | None:
    """The results of a batch norm without it; None where it cannot be folded."""
    x, weight, bias, mean, variance = node.operands
    assert x is not None and mean is not None and variance is not None
    found = _affine(build, x, reads)
    if found is None:
        return None
    rstd = build.op("rsqrt", build.op("add", variance, attribute_number(node.attrs, "eps")))
    scale = rstd if weight is None else build.op("mul", rstd, stats.widen(build, weight))
    shift = build.op("mul", mean, build.op("neg", scale))
    if bias is not None:
        shift = build.op("add", shift, stats.widen(build, bias))
    scaled = _with_scaled_weight(build, found.product, scale)
    type = build.type(scaled)
    spread_scale, spread_shift = (stats.along_channels(build, value, type.rank) for value in (scale, shift))
    if found.offset is not None:
        moved = build.op("mul", stats.widen(build, found.offset), spread_scale)
        spread_shift = build.op("add", moved, spread_shift)
    wide = build.op("add", stats.widen(build, scaled), spread_shift)
    return [stats.cast(build, wide, type.dtype), mean, rstd, mean, variance]


def _affine(build: Builder, value: Value, reads: Counter[Value]) -> _Affine | None:
    """`value` as a product plus an offset; None where it is none, or where parts are read elsewhere."""
    node = build.node(value.node)
    if reads[value] != 1:
        return None
    if _has_channels(build, node):
        return _Affine(node, None)
    if node.op != "add":
        return None
    for product, offset in (node.operands, node.operands[::-1]):
        assert product is not None and offset is not None
        source = build.node(product.node)
        if _has_channels(build, source) and reads[product] == 1 and source.type == node.type:
            shape = build.type(offset).shape
            padded = (*(1 for _ in range(node.type.rank - len(shape))), *shape)
            if all(size == 1 for axis, size in enumerate(padded) if axis != 1):
                return _Affine(source, offset)
    return None


def _has_channels(build: Builder, node: Node) -> bool:
    """Whether `node` is a product whose weight has an axis for axis 1 of the result."""
    if node.op in _CONVOLUTIONS:
        return True
    operands = [build.type(operand) for operand in node.operands[:2] if operand is not None]
    return node.op in _PRODUCTS and all(type.rank == 2 for type in operands)


def _with_scaled_weight(build: Builder, product: Node, scale: Value) -> Value:
    """`product` with its weight, and its bias if it has one, times `scale` [C]."""
    x, weight, *rest = product.operands
    assert x is not None and weight is not None
    type = build.type(weight)
    along_rows = product.op != "matmul" or bool(product.attrs["transpose_b"])
    (channels,) = build.type(scale).shape
    shape = (channels, *(1 for _ in type.shape[1:])) if along_rows else (channels,)
    wide = build.op("mul", stats.widen(build, weight), stats.reshaped(build, scale, shape))
    operands: list[Value | None] = [x, stats.cast(build, wide, type.dtype)]
    for bias in rest:
        moved = None if bias is None else build.op("mul", stats.widen(build, bias), scale)
        operands.append(None if moved is None else stats.cast(build, moved, type.dtype))
    return build.op(product.op, *operands, name=None, span=product.span, **product.attrs)
