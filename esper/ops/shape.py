"""Shape operators: they move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Size, product
from esper.ir.graph import Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Cost,
    Input,
    Kind,
    Operator,
    Sampler,
    Site,
    View,
    Vjp,
    define,
)
from esper.ir.types import TensorType, broadcast_shapes


def _free(site: Site) -> Cost:
    """A view: the consumer reads through it."""
    return Cost(0, 0, 0)


def _infer_reshape(site: Site) -> Sequence[TensorType]:
    type, shape = site.type(0), site.sizes("shape")
    site.require(
        product(type.shape) == product(shape),
        f"{type} has {type.elements} elements, the shape [{', '.join(map(str, shape))}] has {product(shape)}",
    )
    return [type.with_shape(shape)]


def _sample_reshape(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(min_rank=1)
    shape = draw.type(x).shape
    cut = draw.integer(0, len(shape) - 1)
    merged: tuple[Size, ...] = (*shape[:cut], product(shape[cut:]))
    return [x], {"shape": (1, *merged) if draw.boolean() else merged}


define(
    Operator(
        name="reshape",
        doc="The elements of `x` in row-major order, in another shape of as many elements.",
        lowering=View("reshape"),
        inputs=(Input("x"),),
        attributes=(Attribute("shape", Kind.DIMS, doc="the sizes of the result"),),
        infer=_infer_reshape,
        reference="esper.ops.reference.shape:reshape",
        vjp=lambda v: [v.op("reshape", v.gradient, shape=v.build.type(v.operand(0)).shape)],
        cost=_free,
        sample=_sample_reshape,
    )
)


def _infer_permute(site: Site) -> Sequence[TensorType]:
    type, axes = site.type(0), site.integers("axes")
    site.require(
        sorted(axes) == list(range(type.rank)), f"`axes` {list(axes)} do not name each axis of {type} once"
    )
    return [type.with_shape(tuple(type.shape[axis] for axis in axes))]


def _permute_vjp(v: Vjp) -> Sequence[Value | None]:
    axes = v.attrs["axes"]
    assert isinstance(axes, tuple)
    inverse = tuple(axes.index(axis) for axis in range(len(axes)))
    return [v.op("permute", v.gradient, axes=inverse)]


def _sample_permute(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(min_rank=1)
    axes = list(range(draw.type(x).rank))
    first = draw.integer(0, len(axes) - 1)
    return [x], {"axes": tuple(axes[first:] + axes[:first])}


define(
    Operator(
        name="permute",
        doc="The axes of `x` in another order: axis `i` of the result is axis `axes[i]` of `x`.",
        lowering=View("permute"),
        inputs=(Input("x"),),
        attributes=(Attribute("axes", Kind.DIMS, doc="a permutation of the axes"),),
        infer=_infer_permute,
        reference="esper.ops.reference.shape:permute",
        vjp=_permute_vjp,
        cost=_free,
        sample=_sample_permute,
    )
)


def _infer_broadcast(site: Site) -> Sequence[TensorType]:
    type, shape = site.type(0), site.sizes("shape")
    site.require(
        broadcast_shapes(type.shape, shape) == shape,
        f"{type} does not broadcast to [{', '.join(map(str, shape))}]",
    )
    return [type.with_shape(shape)]


def _sample_broadcast(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(max_rank=3)
    return [x], {"shape": (draw.integer(1, 3), *draw.type(x).shape)}


define(
    Operator(
        name="broadcast_to",
        doc="`x` repeated along leading axes and axes of size 1, up to `shape`.",
        lowering=View("broadcast"),
        inputs=(Input("x"),),
        attributes=(Attribute("shape", Kind.DIMS, doc="the sizes of the result"),),
        infer=_infer_broadcast,
        reference="esper.ops.reference.shape:broadcast_to",
        vjp=lambda v: [v.unbroadcast(v.gradient, 0)],
        cost=_free,
        sample=_sample_broadcast,
    )
)
