"""Reductions over a set of axes. Narrow floats are accumulated in float32."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Input,
    Kind,
    Operator,
    Reduction,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import TensorType
from esper.ops.rules import require_floating, traffic

_ATTRIBUTES = (
    Attribute("axes", Kind.DIMS, doc="the axes to reduce, from 0, in rising order"),
    Attribute("keepdims", Kind.BOOL, False, doc="whether reduced axes stay, with size 1"),
)


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    type, axes = site.type(0), site.integers("axes")
    site.require(bool(axes), "`axes` is empty")
    site.require(list(axes) == sorted(set(axes)), f"`axes` {list(axes)} are not distinct and rising")
    site.require(axes[0] >= 0 and axes[-1] < type.rank, f"`axes` {list(axes)} are not all axes of {type}")
    if site.flag("keepdims"):
        return [type.with_shape(tuple(1 if a in axes else s for a, s in enumerate(type.shape)))]
    return [type.with_shape(tuple(s for a, s in enumerate(type.shape) if a not in axes))]


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=1)
    rank = draw.type(x).rank
    axes = tuple(axis for axis in range(rank) if draw.boolean())
    return [x], {"axes": axes or (rank - 1,), "keepdims": draw.boolean()}


def _spread(v: Vjp, value: Value) -> Value:
    """A reduced `value` broadcast back to the operand's shape."""
    shape = v.build.type(v.operand(0)).shape
    axes = v.attrs["axes"]
    assert isinstance(axes, tuple)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    if v.build.type(value).shape != kept:
        value = v.op("reshape", value, shape=kept)
    return v.op("broadcast_to", value, shape=shape)


def _amax_vjp(v: Vjp) -> Sequence[Value | None]:
    """The gradient goes to the greatest elements, in equal shares where several are."""
    x = v.operand(0)
    axes = v.attrs["axes"]
    below = v.op("greater", _spread(v, v.result()), x)
    dtype = v.build.type(x).dtype
    zero, one = v.build.constant(0.0, dtype), v.build.constant(1.0, dtype)
    chosen = v.op("broadcast_to", v.op("where", below, zero, one), shape=v.build.type(x).shape)
    count = v.op("sum", chosen, axes=axes, keepdims=bool(v.attrs["keepdims"]))
    return [v.op("mul", chosen, _spread(v, v.op("div", v.gradient, count)))]


define(
    Operator(
        name="sum",
        doc="The sum over `axes`.",
        lowering=Reduction("sum"),
        inputs=(Input("x"),),
        attributes=_ATTRIBUTES,
        infer=_infer,
        reference="esper.ops.reference.reduction:sum",
        vjp=lambda v: [_spread(v, v.gradient)],
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=_sample,
    )
)

define(
    Operator(
        name="amax",
        doc="The greatest element over `axes`.",
        lowering=Reduction("max"),
        inputs=(Input("x"),),
        attributes=_ATTRIBUTES,
        infer=_infer,
        reference="esper.ops.reference.reduction:amax",
        vjp=_amax_vjp,
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=_sample,
    )
)


def _mean(build: Builder, node: Node) -> Sequence[Value]:
    (x,) = node.operands
    assert x is not None
    axes = node.attrs["axes"]
    assert isinstance(axes, tuple)
    type = build.type(x)
    total = build.op("sum", x, span=node.span, axes=axes, keepdims=bool(node.attrs["keepdims"]))
    count = build.op(
        "size", value=product(type.shape[int(str(a))] for a in axes), dtype=type.dtype, span=node.span
    )
    return [build.op("div", total, count, span=node.span)]


define(
    Operator(
        name="mean",
        doc="The mean over `axes`.",
        lowering=Composite(_mean),
        inputs=(Input("x"),),
        attributes=_ATTRIBUTES,
        infer=_infer,
        reference="esper.ops.reference.reduction:mean",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=_sample,
    )
)
