"""Padding: elements before and after some axes, a constant or the tensor's own."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.ir.operator import Attribute, AttrValue, Input, Kind, Operator, Outside, Sampler, Site, Vjp, define
from esper.ir.types import TensorType
from esper.ops.rules import require_floating, traffic

MODES = ("constant", "reflect", "replicate", "circular")

_PAD = Attribute(
    "pad", Kind.DIMS, doc="elements before and after the last axis, then the one before it, and so on"
)
_MODE = Attribute(
    "mode",
    Kind.STRING,
    "constant",
    MODES,
    doc="`constant`: `value`; `reflect`: as in a mirror that the border is part of; `replicate`: the border; "
    "`circular`: the other end",
)
_VALUE = Attribute("value", Kind.FLOAT, 0.0, doc="of the elements that `constant` adds", unbounded=True)
_SHAPE = Attribute("shape", Kind.DIMS, doc="the sizes of the result")


def _padded(site: Site, type: TensorType) -> TensorType:
    """`type` with its padding, all checked."""
    require_floating(site)
    pad, mode = site.integers("pad"), site.attrs["mode"]
    site.require(
        len(pad) == len(site.sizes("pad")) and len(pad) % 2 == 0 and len(pad) <= 2 * type.rank,
        f"`pad` is [{', '.join(map(str, site.sizes('pad')))}], expected two numbers for each of up to "
        f"{type.rank} axes of {type}",
    )
    shape = list(type.shape)
    for index in range(len(pad) // 2):
        axis = type.rank - 1 - index
        before, after = pad[2 * index : 2 * index + 2]
        site.require(before >= 0 and after >= 0, f"`pad` has {min(before, after)}, expected zero or more")
        size = type.shape[axis]
        most = {"reflect": 1, "circular": 0}.get(str(mode))
        site.require(
            most is None or not isinstance(size, int) or max(before, after) <= size - most,
            f"`pad` has {max(before, after)} for axis {axis} of {type}: `{mode}` adds at most its size"
            f"{' less one' if most else ''}",
        )
        shape[axis] = size + before + after
    return type.with_shape(tuple(shape))


def _infer_backward(site: Site) -> Sequence[TensorType]:
    g = site.type(0)
    x = g.with_shape(site.sizes("shape"))
    expected = _padded(site, x)
    site.require(g == expected, f"`g` is {g}, expected {expected} for {x}")
    return [x]


def _vjp(v: Vjp) -> Sequence[Value | None]:
    shape = v.build.type(v.operand(0)).shape
    return [v.op("pad_backward", v.gradient, shape=shape, pad=v.attrs["pad"], mode=v.attrs["mode"])]


def _vjp_backward(v: Vjp) -> Sequence[Value | None]:
    """The rule is linear: its gradient is the padding itself."""
    return [v.op("pad", v.gradient, pad=v.attrs["pad"], mode=v.attrs["mode"])]


def _attrs(draw: Sampler, shape: tuple[Size, ...]) -> dict[str, AttrValue]:
    axes = draw.integer(1, min(2, len(shape)))
    mode = draw.choice(MODES)
    pad: list[int] = []
    for size in shape[::-1][:axes]:
        most = 0 if mode == "reflect" and size == 1 else 1
        pad += [draw.integer(0, most), draw.integer(0, most)]
    return {"pad": tuple(pad), "mode": mode}


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=1)
    value = draw.choice((0.0, 1.0, -2.5))
    return [x], {**_attrs(draw, draw.type(x).shape), "value": value}


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    shape = draw.shape(1, 3)
    attrs = _attrs(draw, shape)
    pad = attrs["pad"]
    assert isinstance(pad, tuple)
    padded = list(shape)
    for index, added in enumerate(pad):
        assert isinstance(added, int)
        padded[-1 - index // 2] = padded[-1 - index // 2] + added
    return [draw.tensor(tuple(padded), draw.dtype())], {**attrs, "shape": shape}


define(
    Operator(
        name="pad",
        doc="`x` with elements added before and after its last axes.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=(_PAD, _MODE, _VALUE),
        infer=lambda site: [_padded(site, site.type(0))],
        reference="esper.ops.reference.padding:pad",
        vjp=_vjp,
        cost=lambda site: traffic(site, 0),
        sample=_sample,
    )
)

define(
    Operator(
        name="pad_backward",
        doc="The gradient of `pad`: what reached the added elements is added to those that they were copied "
        "from, or dropped if they were constant.",
        lowering=Outside(),
        inputs=(Input("g"),),
        attributes=(_SHAPE, _PAD, _MODE),
        infer=_infer_backward,
        reference="esper.ops.reference.padding:pad_backward",
        vjp=_vjp_backward,
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=_sample_backward,
        in_language=False,
    )
)
