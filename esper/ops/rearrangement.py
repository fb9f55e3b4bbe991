"""Shorthands for reshapes, permutations and broadcasts, by torch's names, and equal parts of an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.build import Builder
from esper.ir.dims import Dim, Size, product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Cost,
    Input,
    Kind,
    Operator,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops.axes import axes_of, axis_of, listed
from esper.ops.rules import attribute_integer, traffic

Attrs = dict[str, AttrValue]


def _shorthand(
    name: str,
    doc: str,
    attributes: tuple[Attribute, ...],
    infer: Callable[[Site, TensorType], tuple[Size, ...]],
    definition: Callable[[Builder, Node, Value], Value],
    sample: Callable[[Sampler, TensorType], Attrs],
    cost: Callable[[Site], Cost] = lambda site: Cost(0, 0, 0),
    max_rank: int = 4,
) -> None:
    """Defines an operator of one operand `x`; `infer` gives the result's shape.

    cost: a view's, unless another is given: the consumer reads through it.
    """

    def define_result(build: Builder, node: Node) -> Sequence[Value]:
        (x,) = node.operands
        assert x is not None
        return [definition(build, node, x)]

    def draw_operand(draw: Sampler) -> tuple[Sequence[Value | None], Attrs]:
        x = draw.tensor(min_rank=1, max_rank=max_rank)
        return [x], sample(draw, draw.type(x))

    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Composite(define_result),
            inputs=(Input("x"),),
            attributes=attributes,
            infer=lambda site: [site.type(0).with_shape(infer(site, site.type(0)))],
            reference=f"esper.ops.reference.rearrangement:{name}",
            no_gradient="`expand` replaces it by its definition",
            cost=cost,
            sample=draw_operand,
        )
    )


def _reshaped(build: Builder, node: Node, x: Value) -> Value:
    return build.op("reshape", x, shape=node.type.shape)


def _an_axis(draw: Sampler, type: TensorType) -> int:
    return draw.integer(-type.rank, type.rank - 1)


def _squeezed(site: Site, x: TensorType) -> tuple[Size, ...]:
    axes = axes_of(site, x)
    for axis in axes:
        site.require(x.shape[axis] == 1, f"axis {axis} of {x} is {x.shape[axis]}, expected 1")
    return tuple(size for axis, size in enumerate(x.shape) if axis not in axes)


_shorthand(
    "squeeze",
    "`x` without `axes`, which have size 1.",
    (Attribute("axes", Kind.DIMS, doc="the axes; negative ones count from the end"),),
    _squeezed,
    _reshaped,
    lambda draw, type: {
        "axes": tuple(a for a, size in enumerate(type.shape) if size == 1 and draw.boolean())
    },
)


def _unsqueezed(site: Site, x: TensorType) -> tuple[Size, ...]:
    axis = axis_of(site, x.with_shape((*x.shape, 1)))
    return (*x.shape[:axis], 1, *x.shape[axis:])


_shorthand(
    "unsqueeze",
    "`x` with one more axis, of size 1, at `axis` of the result.",
    (Attribute("axis", Kind.INT, doc="its place; negative from the end of the result"),),
    _unsqueezed,
    _reshaped,
    lambda draw, type: {"axis": draw.integer(-type.rank - 1, type.rank)},
)


def _flattened(site: Site, x: TensorType) -> tuple[Size, ...]:
    start, end = axis_of(site, x, "start"), axis_of(site, x, "end")
    site.require(start <= end, f"`start` is axis {start} and `end` is axis {end} of {x}, which comes before")
    return (*x.shape[:start], product(x.shape[start : end + 1]), *x.shape[end + 1 :])


def _sample_flatten(draw: Sampler, type: TensorType) -> Attrs:
    start = draw.integer(0, type.rank - 1)
    return {"start": start, "end": draw.integer(start, type.rank - 1) - type.rank}


_shorthand(
    "flatten",
    "`x` with the axes from `start` to `end` as one, in row-major order.",
    (
        Attribute("start", Kind.INT, 0, doc="the first axis of those; negative from the end"),
        Attribute("end", Kind.INT, -1, doc="the last axis of those; negative from the end"),
    ),
    _flattened,
    _reshaped,
    _sample_flatten,
)


def _swapped(site: Site, x: TensorType) -> tuple[Size, ...]:
    return tuple(
        x.shape[axis] for axis in _swap(x.rank, axis_of(site, x, "axis0"), axis_of(site, x, "axis1"))
    )


def _swap(rank: int, first: int, second: int) -> tuple[int, ...]:
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def _transpose(build: Builder, node: Node, x: Value) -> Value:
    rank = build.type(x).rank
    first, second = (attribute_integer(node.attrs, name) for name in ("axis0", "axis1"))
    return build.op("permute", x, axes=_swap(rank, first % rank, second % rank))


_shorthand(
    "transpose",
    "`x` with two axes exchanged.",
    (
        Attribute("axis0", Kind.INT, -2, doc="one axis; negative from the end"),
        Attribute("axis1", Kind.INT, -1, doc="the other axis; negative from the end"),
    ),
    _swapped,
    _transpose,
    lambda draw, type: {"axis0": _an_axis(draw, type), "axis1": _an_axis(draw, type)},
)


def _require_counts(site: Site, counts: Sequence[Size]) -> None:
    site.require(
        all(isinstance(count, Dim) or count >= 1 for count in counts),
        f"`repeats` is {listed(counts)}, expected at least 1",
    )


def _tiled(site: Site, x: TensorType) -> tuple[Size, ...]:
    repeats = site.sizes("repeats")
    site.require(
        len(repeats) >= x.rank, f"`repeats` has {len(repeats)} values, expected one for each axis of {x}"
    )
    _require_counts(site, repeats)
    shape = (*[1] * (len(repeats) - x.rank), *x.shape)
    return tuple(count * size for count, size in zip(repeats, shape, strict=True))


def _tile(build: Builder, node: Node, x: Value) -> Value:
    """Each axis beside an axis of its repeats, which is broadcast."""
    repeats = node.attrs["repeats"]
    assert isinstance(repeats, tuple)
    counts = [count for count in repeats if isinstance(count, int | Dim)]
    shape = (*[1] * (len(counts) - build.type(x).rank), *build.type(x).shape)
    apart = build.op("reshape", x, shape=tuple(s for size in shape for s in (1, size)))
    pairs = zip(counts, shape, strict=True)
    wide = build.op("broadcast_to", apart, shape=tuple(s for pair in pairs for s in pair))
    return _reshaped(build, node, wide)


_shorthand(
    "tile",
    "`x` repeated as a whole along each axis.",
    (Attribute("repeats", Kind.DIMS, doc="how often, for each axis; more values make leading axes"),),
    _tiled,
    _tile,
    lambda draw, type: {"repeats": tuple(draw.integer(1, 2) for _ in range(type.rank + draw.integer(0, 1)))},
    cost=lambda site: traffic(site, 0),
    max_rank=3,
)


def _interleaved(site: Site, x: TensorType) -> tuple[Size, ...]:
    axis, repeats = axis_of(site, x), site.attrs["repeats"]
    assert isinstance(repeats, int | Dim)
    _require_counts(site, [repeats])
    return (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :])


def _repeat_interleave(build: Builder, node: Node, x: Value) -> Value:
    type, repeats = build.type(x), node.attrs["repeats"]
    assert isinstance(repeats, int | Dim)
    after = attribute_integer(node.attrs, "axis") % type.rank + 1
    apart = build.op("reshape", x, shape=(*type.shape[:after], 1, *type.shape[after:]))
    wide = build.op("broadcast_to", apart, shape=(*type.shape[:after], repeats, *type.shape[after:]))
    return _reshaped(build, node, wide)


_shorthand(
    "repeat_interleave",
    "`x` with each slice along `axis` repeated before the next.",
    (
        Attribute("repeats", Kind.DIM, doc="how often"),
        Attribute("axis", Kind.INT, doc="the axis; negative from the end"),
    ),
    _interleaved,
    _repeat_interleave,
    lambda draw, type: {"repeats": draw.integer(1, 3), "axis": _an_axis(draw, type)},
    cost=lambda site: traffic(site, 0),
)


def _chunked(site: Site, x: TensorType) -> tuple[Size, ...]:
    axis, chunks, index = axis_of(site, x), site.integer("chunks"), site.integer("index")
    site.require(chunks >= 1, f"`chunks` is {chunks}, expected at least 1")
    site.require(
        -chunks <= index < chunks, f"`index` is {index}, expected 0 to {chunks - 1} for chunks = {chunks}"
    )
    size = x.shape[axis]
    reason = f"axis {axis} of {x} is {size}, not divisible by chunks = {chunks}"
    site.require_size(0, axis, size // chunks * chunks, reason)
    return (*x.shape[:axis], size // chunks, *x.shape[axis + 1 :])


def _chunk(build: Builder, node: Node, x: Value) -> Value:
    axis = attribute_integer(node.attrs, "axis") % node.type.rank
    index = attribute_integer(node.attrs, "index") % attribute_integer(node.attrs, "chunks")
    size = node.type.shape[axis]
    return build.op("slice", x, axes=(axis,), start=(size * index,), stop=(size * (index + 1),))


def _sample_chunk(draw: Sampler, type: TensorType) -> Attrs:
    axis = _an_axis(draw, type)
    size = type.shape[axis]
    chunks = draw.choice([count for count in range(1, 5) if size % count == 0])
    return {"chunks": chunks, "index": draw.integer(-chunks, chunks - 1), "axis": axis}


_shorthand(
    "chunk",
    "Part number `index` of `x` cut into `chunks` equal parts along `axis`.",
    (
        Attribute("chunks", Kind.INT, doc="how many parts; the axis divides by it"),
        Attribute("index", Kind.INT, doc="which part, from 0; negative from the end"),
        Attribute("axis", Kind.INT, -1, doc="the axis; negative from the end"),
    ),
    _chunked,
    _chunk,
    _sample_chunk,
    cost=lambda site: Cost(0, site.results[0].bytes, site.results[0].bytes),
)
