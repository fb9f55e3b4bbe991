"""Shape operators: they move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Dim, Size, product, size_symbols
from esper.ir.graph import Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Cost,
    Input,
    Kind,
    Operator,
    Outside,
    Sampler,
    Site,
    View,
    Vjp,
    define,
)
from esper.ir.types import TensorType, broadcast_shapes

MOST_WORDS = 1000  # characters of what an error begins with


def _free(site: Site) -> Cost:
    """A view: the consumer reads through it."""
    return Cost(0, 0, 0)


def _infer_reshape(site: Site) -> Sequence[TensorType]:
    type, shape = site.type(0), site.sizes("shape")
    elements = product(shape)
    reason = f"{type} has {type.elements} elements, the shape [{', '.join(map(str, shape))}] has {elements}"
    if type.elements != elements:
        for axis, size in enumerate(type.shape):
            others = product((*type.shape[:axis], *type.shape[axis + 1 :]))
            wanted = elements // others
            if size_symbols(size) and wanted * others == elements:
                site.require_size(0, axis, wanted, reason)
        first, axes = _between(type.shape, shape)
        last = len(shape) - (type.rank - first - axes)
        site.require(axes > 0 and last > first, reason)
        site.require_size(0, first, product(shape[first:last]), reason, axes)
    return [type.with_shape(shape)]


def _between(one: Sequence[Size], other: Sequence[Size]) -> tuple[int, int]:
    """Between the axes that two shapes begin and end with alike: the first axis of `one`, and how many."""
    first = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    least = min(len(one), len(other)) - first
    backwards = zip(one[::-1], other[::-1], strict=False)
    alike = next((i for i, (a, b) in enumerate(backwards) if a != b), least)
    return first, len(one) - first - min(alike, least)


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


def _infer_ensured(site: Site) -> Sequence[TensorType]:
    type, shape, because = site.type(0), site.sizes("shape"), str(site.attrs["because"])
    site.require(
        because.isprintable() and len(because) <= MOST_WORDS,
        f"`because` is no line of at most {MOST_WORDS} printable characters",
    )
    wanted = f"[{', '.join(map(str, shape))}]"
    site.require(len(shape) == type.rank, f"{type} has {type.rank} axes, the shape {wanted} has {len(shape)}")
    for found, size in zip(type.shape, shape, strict=True):
        can_be = found == size or isinstance(found, Dim) or isinstance(size, Dim)
        site.require(can_be, f"{type} is never of the shape {wanted}")
    return [type.with_shape(shape)]


def _ensured_vjp(v: Vjp) -> Sequence[Value | None]:
    shape = v.build.type(v.operand(0)).shape
    return [v.op("ensure_shape", v.gradient, shape=shape, because=v.attrs["because"])]


define(
    Operator(
        name="ensure_shape",
        doc="`x`, whose sizes are those of `shape`: an error when it runs, where they are not.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=(
            Attribute("shape", Kind.DIMS, doc="the sizes of the result"),
            Attribute("because", Kind.STRING, "these sizes are ensured", doc="what the error begins with"),
        ),
        infer=_infer_ensured,
        reference="esper.ops.reference.shape:ensure_shape",
        vjp=_ensured_vjp,
        cost=_free,
        sample=lambda draw: ([x := draw.tensor()], {"shape": draw.type(x).shape}),
    )
)
