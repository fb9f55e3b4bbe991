"""Reductions over a set of axes. Narrow floats are accumulated in float32."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
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
    VjpRule,
    define,
)
from esper.ir.types import TensorType
from esper.ops import statistics as stats
from esper.ops.axes import integers_of
from esper.ops.rules import require_floating, traffic

ATTRIBUTES = (
    Attribute("axes", Kind.DIMS, doc="the axes to reduce, from 0, in rising order"),
    Attribute("keepdims", Kind.BOOL, False, doc="whether reduced axes stay, with size 1"),
)


def infer_reduction(site: Site) -> Sequence[TensorType]:
    """A floating tensor without `axes`, or with size 1 along them."""
    require_floating(site)
    return reduced(site)


def reduced(site: Site) -> Sequence[TensorType]:
    """As `infer_reduction`, for tensors of any dtype."""
    type, axes = site.type(0), site.integers("axes")
    require_axes(site, type, axes)
    if site.flag("keepdims"):
        return [type.with_shape(tuple(1 if a in axes else s for a, s in enumerate(type.shape)))]
    return [type.with_shape(tuple(s for a, s in enumerate(type.shape) if a not in axes))]


def require_axes(site: Site, type: TensorType, axes: Sequence[int]) -> None:
    """Raises `TypeRuleViolated` unless `axes` are some of the axes of `type`, in rising order."""
    site.require(bool(axes), "`axes` is empty")
    site.require(list(axes) == sorted(set(axes)), f"`axes` {list(axes)} are not distinct and rising")
    site.require(axes[0] >= 0 and axes[-1] < type.rank, f"`axes` {list(axes)} are not all axes of {type}")


def sample_reduction(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    """Samples a floating tensor and some of its axes."""
    x = draw.tensor(dtype=draw.dtype(), min_rank=1)
    rank = draw.type(x).rank
    axes = tuple(axis for axis in range(rank) if draw.boolean())
    return [x], {"axes": axes or (rank - 1,), "keepdims": draw.boolean()}


def spread(v: Vjp, value: Value) -> Value:
    """A reduced `value` broadcast back to the operand's shape."""
    shape = v.build.type(v.operand(0)).shape
    axes = v.attrs["axes"]
    assert isinstance(axes, tuple)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    if v.build.type(value).shape != kept:
        value = v.op("reshape", value, shape=kept)
    return v.op("broadcast_to", value, shape=shape)


def extremum_vjp(beyond: str) -> VjpRule:
    """The gradient goes to the extreme elements, in equal shares where several are; beside NaN all is NaN.

    `beyond` is the comparison that holds between the result and all other elements.
    """

    def vjp(v: Vjp) -> Sequence[Value | None]:
        x = v.operand(0)
        other = v.op(beyond, spread(v, v.result()), x)
        dtype = v.build.type(x).dtype
        zero, one = v.build.constant(0.0, dtype), v.build.constant(1.0, dtype)
        chosen = v.op("broadcast_to", v.op("where", other, zero, one), shape=v.build.type(x).shape)
        count = v.op("sum", chosen, axes=v.attrs["axes"], keepdims=bool(v.attrs["keepdims"]))
        is_number = v.op("equal", v.result(), v.result())
        share = v.op("div", v.gradient, v.op("where", is_number, count, v.result()))
        return [v.op("mul", chosen, spread(v, share))]

    return vjp


define(
    Operator(
        name="sum",
        doc="The sum over `axes`.",
        lowering=Reduction("sum"),
        inputs=(Input("x"),),
        attributes=ATTRIBUTES,
        infer=infer_reduction,
        reference="esper.ops.reference.reduction:sum",
        vjp=lambda v: [spread(v, v.gradient)],
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=sample_reduction,
    )
)

define(
    Operator(
        name="amax",
        doc="The greatest element over `axes`.",
        lowering=Reduction("max"),
        inputs=(Input("x"),),
        attributes=ATTRIBUTES,
        infer=infer_reduction,
        reference="esper.ops.reference.reduction:amax",
        vjp=extremum_vjp("greater"),
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=sample_reduction,
    )
)


def _mean(build: Builder, node: Node) -> Sequence[Value]:
    (x,) = node.operands
    assert x is not None
    axes = integers_of(node.attrs["axes"])
    wide = stats.widen(build, x)
    total = build.op("sum", wide, axes=axes, keepdims=bool(node.attrs["keepdims"]))
    mean = build.op("div", total, stats.count(build, wide, axes))
    return [stats.cast(build, mean, build.type(x).dtype)]


define(
    Operator(
        name="mean",
        doc="The mean over `axes`.",
        lowering=Composite(_mean),
        inputs=(Input("x"),),
        attributes=ATTRIBUTES,
        infer=infer_reduction,
        reference="esper.ops.reference.reduction:mean",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=sample_reduction,
    )
)
