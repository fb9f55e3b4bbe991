"""What tells attention where things stand: rotated pairs of features, sinusoids, biases by distance."""

from __future__ import annotations

from collections.abc import Sequence

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
    Vjp,
    define,
)
from esper.ir.types import TensorType
from esper.ops.axes import axis_of
from esper.ops.rules import require_floating, traffic

_BASE = Attribute("base", Kind.FLOAT, 10000.0, doc="the slowest wave is about this many times the fastest")
_START = Attribute("start", Kind.INT, 0, doc="the position of the first element, for a later part of a text")


def _require_waves(site: Site, x: TensorType) -> None:
    require_floating(site)
    site.require(x.rank >= 2, f"`x` is {x}, expected [..., T, D]")
    site.require(x.shape[-1] % 2 == 0, f"`x` is {x}: its last axis is {x.shape[-1]}, expected pairs")
    base, start = site.number("base"), site.integer("start")
    site.require(base > 1.0, f"`base` is {base}, expected a number above 1")
    site.require(start >= 0, f"`start` is {start}, expected zero or more")


def _infer_rotary(site: Site) -> Sequence[TensorType]:
    x = site.type(0)
    _require_waves(site, x)
    axis = axis_of(site, x)
    site.require(axis != x.rank - 1, f"`axis` is the last axis of {x}, which is that of the features")
    return [x]


def _draw_waves(draw: Sampler) -> tuple[Value, dict[str, AttrValue]]:
    x = draw.tensor((*draw.shape(1, 3), draw.choice((2, 4))), draw.dtype())
    return x, {"base": draw.choice((10000.0, 4.0)), "start": draw.integer(0, 3)}


def _sample_rotary(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x, attrs = _draw_waves(draw)
    rank = draw.type(x).rank
    axis = draw.integer(0, rank - 2) - (rank if draw.boolean() else 0)
    return [x], {"axis": axis, "inverse": draw.boolean(), **attrs}


define(
    Operator(
        name="rotary_embedding",
        doc="Pairs of features rotated by an angle that grows with the position (Su et al. 2021). Feature i "
        "of the first half of the last axis D pairs with i of the second half, at position t by the angle "
        "`t * base ** (-2 i / D)`: (a, b) becomes (a cos - b sin, a sin + b cos). Angles are float32 "
        "(float64 for a float64 operand).",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=(
            _BASE,
            Attribute("axis", Kind.INT, -2, doc="the axis of positions; negative from the end"),
            _START,
            Attribute("inverse", Kind.BOOL, False, doc="whether to rotate back"),
        ),
        infer=_infer_rotary,
        reference="esper.ops.reference.position:rotary_embedding",
        vjp=lambda v: [
            v.op("rotary_embedding", v.gradient, **{**v.attrs, "inverse": not v.attrs["inverse"]})
        ],
        cost=lambda site: traffic(site, site.type(0).elements * 3),
        sample=_sample_rotary,
    )
)


def _no_slope(v: Vjp) -> Sequence[Value | None]:
    """Zeros: the operands say no more than how many positions there are."""
    found: list[Value | None] = []
    for index, needed in enumerate(v.needed):
        type = v.build.type(v.operand(index))
        zero = v.build.constant(0.0, type.dtype)
        found.append(v.op("broadcast_to", zero, shape=type.shape) if needed else None)
    return found


def _written(site: Site) -> Cost:
    """Operands are not read."""
    return Cost(site.results[0].elements * 4, 0, site.results[0].bytes)


def _infer_sinusoidal(site: Site) -> Sequence[TensorType]:
    x = site.type(0)
    _require_waves(site, x)
    return [x.with_shape(x.shape[-2:])]


def _sample_sinusoidal(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x, attrs = _draw_waves(draw)
    return [x], attrs


define(
    Operator(
        name="sinusoidal_encoding",
        doc="Waves to add to `x` [..., T, D] (Vaswani et al. 2017): [T, D] with `sin(t * base ** (-i / D))` "
        "for each even feature i, and the cosine of the same angle for the feature after it.",
        lowering=Outside(),
        inputs=(Input("x", doc="it gives the sizes; its elements are not read"),),
        attributes=(_BASE, _START),
        infer=_infer_sinusoidal,
        reference="esper.ops.reference.position:sinusoidal_encoding",
        vjp=_no_slope,
        cost=_written,
        sample=_sample_sinusoidal,
    )
)


def _infer_alibi(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    q, k = site.type(0), site.type(1)
    for name, type in (("q", q), ("k", k)):
        site.require(type.rank == 4, f"`{name}` is {type}, expected [B, H, T, D]")
    return [q.with_shape((*q.shape[1:3], k.shape[2]))]


def _sample_alibi(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    batch, length, keys, width = (draw.choice((2, 1, 3, 4)) for _ in range(4))
    heads = draw.integer(1, 6)
    q = draw.tensor((batch, heads, length, width), draw.dtype())
    return [q, draw.tensor((batch, heads, keys, width), draw.type(q).dtype)], {}


define(
    Operator(
        name="alibi_bias",
        doc="A `mask` for `scaled_dot_product_attention` of `q` [B, H, T, D] and `k` [B, K, S, D] that falls "
        "with the distance of query t and key s (Press et al. 2022): [H, T, S] with `-m |t - s|`, where the "
        "slopes m of H heads are the geometric row from `2 ** (-8 / H)`, by that ratio, and for an H that is "
        "no power of two, those of the power below it and every other one of the power above.",
        lowering=Outside(),
        inputs=(
            Input("q", doc="it gives sizes; its elements are not read"),
            Input("k", doc="it gives the number of keys"),
        ),
        infer=_infer_alibi,
        reference="esper.ops.reference.position:alibi_bias",
        vjp=_no_slope,
        cost=_written,
        sample=_sample_alibi,
    )
)
