"""Interpolation of maps to other sizes, and rearrangements of channels into space and back."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
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
from esper.ops.rules import attribute_integer, require_floating, traffic

_SCALE = Attribute("scale", Kind.INT, 0, doc="factor on each axis of S; 0 leaves the sizes to `size`")
_SIZE = Attribute("size", Kind.DIMS, (), doc="the sizes of S in the result, where there is no `scale`")
_MODE = Attribute(
    "mode",
    Kind.STRING,
    "nearest",
    ("nearest", "linear"),
    doc="`nearest`, or `linear` along each axis with the corners of the outer elements aligned",
)
_SHAPE = Attribute("shape", Kind.DIMS, doc="the sizes of the result")
_FACTOR = Attribute("factor", Kind.INT, doc="how many elements along each axis")


def _require_map(site: Site, x: TensorType) -> None:
    site.require(3 <= x.rank <= 5, f"`x` is {x}, expected [N, C, ...S] with one to three axes in S")


def _resized(site: Site, x: TensorType) -> TensorType:
    require_floating(site)
    _require_map(site, x)
    scale, size = site.integer("scale"), site.sizes("size")
    site.require(scale >= 0, f"`scale` is {scale}, expected at least 1")
    site.require((scale == 0) == bool(size), "give either `scale` or `size`")
    if scale:
        size = tuple(axis * scale for axis in x.shape[2:])
    site.require(
        len(size) == x.rank - 2, f"`size` is [{', '.join(map(str, size))}], expected {x.rank - 2} for {x}"
    )
    possible = all(not isinstance(axis, int) or axis >= 1 for axis in size)
    site.require(possible, f"`size` is [{', '.join(map(str, size))}], expected at least 1 along each axis")
    return x.with_shape((*x.shape[:2], *size))


def _infer_backward(site: Site) -> Sequence[TensorType]:
    g = site.type(0)
    x = g.with_shape(site.sizes("shape"))
    expected = _resized(site, x)
    site.require(g == expected, f"`g` is {g}, expected {expected} for {x}")
    return [x]


def _vjp(v: Vjp) -> Sequence[Value | None]:
    shape = v.build.type(v.operand(0)).shape
    return [v.op("interpolate_backward", v.gradient, shape=shape, **v.attrs)]


def _vjp_backward(v: Vjp) -> Sequence[Value | None]:
    """The rule is linear: its gradient is the interpolation itself."""
    kept = {name: value for name, value in v.attrs.items() if name != "shape"}
    return [v.op("interpolate", v.gradient, **kept)]


def _geometry(draw: Sampler, axes: int) -> dict[str, AttrValue]:
    mode = draw.choice(("nearest", "linear"))
    if draw.boolean():
        return {"mode": mode, "scale": draw.integer(1, 3)}
    return {"mode": mode, "size": tuple(draw.integer(1, 5) for _ in range(axes))}


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=3, max_rank=4)
    return [x], _geometry(draw, draw.type(x).rank - 2)


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    shape = draw.shape(3, 4)
    attrs = _geometry(draw, len(shape) - 2)
    scale, size = attrs.get("scale"), attrs.get("size")
    resized: tuple[Size, ...] = ()
    if isinstance(scale, int):
        resized = tuple(axis * scale for axis in shape[2:])
    elif isinstance(size, tuple):
        resized = tuple(axis for axis in size if isinstance(axis, int))
    return [draw.tensor((*shape[:2], *resized), draw.dtype())], {**attrs, "shape": shape}


define(
    Operator(
        name="interpolate",
        doc="`x` [N, C, ...S] at other sizes of S, as torch's `interpolate` with `align_corners=False`.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=(_SCALE, _SIZE, _MODE),
        infer=lambda site: [_resized(site, site.type(0))],
        reference="esper.ops.reference.interpolation:interpolate",
        vjp=_vjp,
        cost=lambda site: traffic(site, site.results[0].elements * 8),
        sample=_sample,
    )
)

define(
    Operator(
        name="interpolate_backward",
        doc="The gradient of `interpolate`: each element's share of what it was interpolated to.",
        lowering=Outside(),
        inputs=(Input("g"),),
        attributes=(_SHAPE, _SCALE, _SIZE, _MODE),
        infer=_infer_backward,
        reference="esper.ops.reference.interpolation:interpolate_backward",
        vjp=_vjp_backward,
        cost=lambda site: traffic(site, site.type(0).elements * 8),
        sample=_sample_backward,
        in_language=False,
    )
)


def _infer_shuffle(site: Site) -> Sequence[TensorType]:
    x, factor = site.type(0), site.integer("factor")
    _require_map(site, x)
    site.require(factor >= 1, f"`factor` is {factor}, expected at least 1")
    block = factor ** (x.rank - 2)
    channels = x.shape[1]
    reason = f"`x` is {x}: {channels} channels are no multiple of {block}, factor = {factor} for each axis"
    site.require_size(0, 1, channels // block * block, reason)
    return [x.with_shape((x.shape[0], x.shape[1] // block, *(size * factor for size in x.shape[2:])))]


def _infer_unshuffle(site: Site) -> Sequence[TensorType]:
    x, factor = site.type(0), site.integer("factor")
    _require_map(site, x)
    site.require(factor >= 1, f"`factor` is {factor}, expected at least 1")
    for axis, size in enumerate(x.shape[2:], start=2):
        reason = f"`x` is {x}: {size} along axis {axis} is no multiple of factor = {factor}"
        site.require_size(0, axis, size // factor * factor, reason)
    block = factor ** (x.rank - 2)
    return [x.with_shape((x.shape[0], x.shape[1] * block, *(size // factor for size in x.shape[2:])))]


def _shuffle(build: Builder, node: Node) -> Sequence[Value]:
    """[N, C, r, r, H, W] to [N, C, H, r, W, r]."""
    (x,) = node.operands
    assert x is not None
    factor, shape = attribute_integer(node.attrs, "factor"), build.type(x).shape
    axes = len(shape) - 2
    apart = (shape[0], shape[1] // factor**axes, *(factor for _ in range(axes)), *shape[2:])
    order = (0, 1, *(place for axis in range(axes) for place in (2 + axes + axis, 2 + axis)))
    h = build.op("permute", build.op("reshape", x, shape=apart), axes=order)
    return [build.op("reshape", h, shape=node.type.shape)]


def _unshuffle(build: Builder, node: Node) -> Sequence[Value]:
    """[N, C, H, r, W, r] to [N, C, r, r, H, W]."""
    (x,) = node.operands
    assert x is not None
    factor, shape = attribute_integer(node.attrs, "factor"), build.type(x).shape
    axes = len(shape) - 2
    apart = (*shape[:2], *(part for size in shape[2:] for part in (size // factor, factor)))
    inner = [3 + 2 * axis for axis in range(axes)]
    outer = [2 + 2 * axis for axis in range(axes)]
    h = build.op("permute", build.op("reshape", x, shape=apart), axes=(0, 1, *inner, *outer))
    return [build.op("reshape", h, shape=node.type.shape)]


def _sample_shuffle(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    factor, axes = draw.integer(1, 2), draw.integer(1, 2)
    shape = (*draw.shape(1, 1), draw.integer(1, 2) * factor**axes, *draw.shape(axes, axes))
    return [draw.tensor(shape, draw.dtype())], {"factor": factor}


def _sample_unshuffle(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    factor, axes = draw.integer(1, 2), draw.integer(1, 2)
    shape = (*draw.shape(2, 2), *(size * factor for size in draw.shape(axes, axes)))
    return [draw.tensor(shape, draw.dtype())], {"factor": factor}


def _moves(site: Site) -> Cost:
    return traffic(site, 0)


define(
    Operator(
        name="pixel_shuffle",
        doc="Channels to space: `x` [N, C * factor ** axes, ...S] to [N, C, ...(S * factor)] (Shi et al. "
        "2016).",
        lowering=Composite(_shuffle),
        inputs=(Input("x"),),
        attributes=(_FACTOR,),
        infer=_infer_shuffle,
        reference="esper.ops.reference.interpolation:pixel_shuffle",
        no_gradient="`expand` replaces it by its definition",
        cost=_moves,
        sample=_sample_shuffle,
    )
)

define(
    Operator(
        name="pixel_unshuffle",
        doc="Space to channels, the inverse of `pixel_shuffle`: `x` [N, C, ...S] to [N, C * factor ** axes, "
        "...(S / factor)].",
        lowering=Composite(_unshuffle),
        inputs=(Input("x"),),
        attributes=(_FACTOR,),
        infer=_infer_unshuffle,
        reference="esper.ops.reference.interpolation:pixel_unshuffle",
        no_gradient="`expand` replaces it by its definition",
        cost=_moves,
        sample=_sample_unshuffle,
    )
)


def _infer_channel_shuffle(site: Site) -> Sequence[TensorType]:
    x, groups = site.type(0), site.integer("groups")
    site.require(x.rank >= 2, f"`x` is {x}, expected [N, C, ...]")
    site.require(groups >= 1, f"`groups` is {groups}, expected at least 1")
    reason = f"`x` is {x}: its channels are not known to divide by groups = {groups}"
    site.require_size(0, 1, x.shape[1] // groups * groups, reason)
    return [x]


def _channel_shuffle(build: Builder, node: Node) -> Sequence[Value]:
    (x,) = node.operands
    assert x is not None
    groups, shape = attribute_integer(node.attrs, "groups"), build.type(x).shape
    apart = (shape[0], groups, shape[1] // groups, *shape[2:])
    order = (0, 2, 1, *range(3, len(apart)))
    h = build.op("permute", build.op("reshape", x, shape=apart), axes=order)
    return [build.op("reshape", h, shape=shape)]


def _sample_channel_shuffle(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    groups = draw.integer(1, 3)
    shape = (*draw.shape(1, 1), groups * draw.integer(1, 2), *draw.shape(0, 2))
    return [draw.tensor(shape, draw.dtype())], {"groups": groups}


define(
    Operator(
        name="channel_shuffle",
        doc="The channels of `groups` groups interleaved: channel `g * n + i` goes to `i * groups + g` "
        "(Zhang et al. 2018, ShuffleNet).",
        lowering=Composite(_channel_shuffle),
        inputs=(Input("x"),),
        attributes=(Attribute("groups", Kind.INT, doc="how many groups"),),
        infer=_infer_channel_shuffle,
        reference="esper.ops.reference.interpolation:channel_shuffle",
        no_gradient="`expand` replaces it by its definition",
        cost=_moves,
        sample=_sample_channel_shuffle,
    )
)
