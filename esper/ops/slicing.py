"""Parts of a tensor, and a tensor turned round: each copies elements and computes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Dim, Size
from esper.ir.graph import Value
from esper.ir.operator import (
    Attribute,
    Attrs,
    AttrValue,
    Cost,
    Input,
    Kind,
    Operator,
    Outside,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import TensorType
from esper.ops.axes import axes_of, integers_of, listed
from esper.ops.rules import traffic

_AXES = Attribute("axes", Kind.DIMS, doc="the axes; negative ones count from the end")
_SLICES = (
    _AXES,
    Attribute("start", Kind.DIMS, (), doc="the first index along each axis; left out, 0"),
    Attribute("stop", Kind.DIMS, (), doc="the index after the last along each axis; left out, its size"),
    Attribute("step", Kind.DIMS, (), doc="the distance of indices along each axis; left out, 1"),
)


def _bounds(site: Site, x: TensorType) -> tuple[tuple[int, ...], list[Size], list[Size], tuple[int, ...]]:
    """Axes, starts, stops and steps; a negative start or stop counts from the end of its axis."""
    axes = axes_of(site, x)
    for name in ("start", "stop", "step"):
        given = site.sizes(name)
        site.require(
            len(given) in (0, len(axes)),
            f"`{name}` has {len(given)} values and `axes` has {len(axes)}: expected one for each axis",
        )
    sizes = [x.shape[axis] for axis in axes]
    starts = [_from_front(at, size) for at, size in zip(site.sizes("start"), sizes, strict=False)]
    stops = [_from_front(at, size) for at, size in zip(site.sizes("stop"), sizes, strict=False)]
    steps = site.integers("step")
    site.require(
        len(steps) == len(site.sizes("step")) and all(step >= 1 for step in steps),
        f"`step` is {listed(site.sizes('step'))}, expected integers of at least 1 (`flip` turns round)",
    )
    return axes, starts or [0] * len(axes), stops or sizes, steps or (1,) * len(axes)


def _from_front(at: Size, size: Size) -> Size:
    return size + at if isinstance(at, int) and at < 0 else at


def _sliced(site: Site, x: TensorType) -> TensorType:
    """What the slices leave of `x`. Bounds that depend on size symbols are checked when these have values."""
    shape = list(x.shape)
    for axis, start, stop, step in zip(*_bounds(site, x), strict=True):
        size = x.shape[axis]
        for low, high in ((0, start), (start + 1, stop), (stop, size)):
            room = high - low
            site.require(
                isinstance(room, Dim) or room >= 0,
                f"{start} to {stop} is no part of axis {axis} of {x}, expected 0 <= start < stop <= {size}",
            )
        shape[axis] = (stop - start + (step - 1)) // step
    return x.with_shape(tuple(shape))


def _infer_slice(site: Site) -> Sequence[TensorType]:
    return [_sliced(site, site.type(0))]


def _infer_slice_backward(site: Site) -> Sequence[TensorType]:
    g = site.type(0)
    x = g.with_shape(site.sizes("shape"))
    expected = _sliced(site, x)
    site.require(g == expected, f"`g` is {g}, expected {expected} for a slice of {x}")
    return [x]


def _bounds_of(attrs: Attrs) -> dict[str, AttrValue]:
    return {name: attrs[name] for name in ("axes", "start", "stop", "step")}


def _slice_vjp(v: Vjp) -> Sequence[Value | None]:
    shape = v.build.type(v.operand(0)).shape
    return [v.op("slice_backward", v.gradient, shape=shape, **_bounds_of(v.attrs))]


def _slice_cost(site: Site) -> Cost:
    """It reads the part alone."""
    size = site.results[0].bytes
    return Cost(0, size, size)


def _draw_slices(draw: Sampler) -> tuple[Value, dict[str, AttrValue]]:
    """Slices of one or two axes, with an element in them whatever the size of a symbol is."""
    x = draw.tensor(min_rank=1)
    shape = draw.type(x).shape
    first = draw.integer(0, len(shape) - 1)
    axes = [first] if len(shape) == 1 or draw.boolean() else [first, (first + 1) % len(shape)]
    starts: list[Size] = []
    stops: list[Size] = []
    for axis in axes:
        size = shape[axis]
        start = draw.integer(0, size - 1) if isinstance(size, int) else draw.choice((0, -1))
        stop = draw.integer(start + 1, size) if isinstance(size, int) else size
        starts.append(start)
        stops.append(stop)
    attrs: dict[str, AttrValue] = {
        "axes": tuple(axis - len(shape) if draw.boolean() else axis for axis in axes),
        "start": tuple(starts),
        "stop": tuple(stops),
        "step": tuple(draw.integer(1, 2) for _ in axes) if draw.boolean() else (),
    }
    return x, attrs


def _sample_slice(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x, attrs = _draw_slices(draw)
    return [x], attrs


def _sample_slice_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x, attrs = _draw_slices(draw)
    type = draw.type(x)
    part = _sliced(Site(SLICE, (type,), attrs), type)
    return [draw.tensor(part.shape, part.dtype)], {"shape": type.shape, **attrs}


SLICE = define(
    Operator(
        name="slice",
        doc="The elements of `x` at `start`, `start + step`, … before `stop` along each of `axes`; a negative"
        " start or stop counts from the end of its axis.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=_SLICES,
        infer=_infer_slice,
        reference="esper.ops.reference.slicing:slice_axes",
        vjp=_slice_vjp,
        cost=_slice_cost,
        sample=_sample_slice,
    )
)

define(
    Operator(
        name="slice_backward",
        doc="The gradient of `slice`: `g` in the places of a tensor of `shape` that the slices name, zeros "
        "elsewhere.",
        lowering=Outside(),
        inputs=(Input("g"),),
        attributes=(Attribute("shape", Kind.DIMS, doc="the sizes of the result"), *_SLICES),
        infer=_infer_slice_backward,
        reference="esper.ops.reference.slicing:slice_backward",
        vjp=lambda v: [v.op("slice", v.gradient, **_bounds_of(v.attrs))],
        cost=lambda site: traffic(site, 0),
        sample=_sample_slice_backward,
        in_language=False,
    )
)


def _infer_flip(site: Site) -> Sequence[TensorType]:
    x = site.type(0)
    axes_of(site, x)
    return [x]


def _sample_flip(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(min_rank=1)
    rank = draw.type(x).rank
    axes = tuple(axis for axis in range(rank) if draw.boolean())
    return [x], {"axes": axes or (-1,)}


define(
    Operator(
        name="flip",
        doc="`x` with the elements along each of `axes` in the opposite order.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=(_AXES,),
        infer=_infer_flip,
        reference="esper.ops.reference.slicing:flip",
        vjp=lambda v: [v.op("flip", v.gradient, axes=v.attrs["axes"])],
        cost=lambda site: traffic(site, 0),
        sample=_sample_flip,
    )
)


def _infer_roll(site: Site) -> Sequence[TensorType]:
    x = site.type(0)
    axes, shifts = axes_of(site, x), site.sizes("shifts")
    site.require(
        len(shifts) == len(axes),
        f"`shifts` has {len(shifts)} values and `axes` has {len(axes)}: expected one for each axis",
    )
    return [x]


def _roll_vjp(v: Vjp) -> Sequence[Value | None]:
    shifts = v.attrs["shifts"]
    assert isinstance(shifts, tuple)
    back = tuple(-shift for shift in shifts if isinstance(shift, int | Dim))
    return [v.op("roll", v.gradient, shifts=back, axes=v.attrs["axes"])]


def _sample_roll(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, attrs = _sample_flip(draw)
    shifts = tuple(draw.integer(-3, 3) for _ in integers_of(attrs["axes"]))
    return operands, {"shifts": shifts, **attrs}


define(
    Operator(
        name="roll",
        doc="`x` with the element at `i` moved to `i + shift` along each of `axes`, those beyond an end to "
        "the other.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=(
            Attribute("shifts", Kind.DIMS, doc="how far elements move along each axis"),
            _AXES,
        ),
        infer=_infer_roll,
        reference="esper.ops.reference.slicing:roll",
        vjp=_roll_vjp,
        cost=lambda site: traffic(site, 0),
        sample=_sample_roll,
    )
)
