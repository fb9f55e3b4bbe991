"""The bare convolution of one to three axes and its two gradients, which PyTorch runs.

The three are the partial derivatives of one trilinear form of g, x and weight, so each is the gradient of
another.
Stride, padding and dilation are the same along each axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.dims import Dim, Size, product
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
from esper.ops.rules import require_floating, traffic

SAME = -1

STRIDE = Attribute("stride", Kind.INT, 1, doc="step between windows")
DILATION = Attribute("dilation", Kind.INT, 1, doc="step between the elements of one window")
GROUPS = Attribute("groups", Kind.DIM, 1, doc="how many groups of channels are convolved apart")
GEOMETRY = (
    STRIDE,
    Attribute("padding", Kind.INT, 0, doc="zeros before and after each axis"),
    DILATION,
    GROUPS,
)
_SHAPE = Attribute("shape", Kind.DIMS, doc="the sizes of the result")


def result_type(site: Site, x: TensorType, weight: TensorType, padding: int) -> TensorType:
    """The type of the convolution of x with weight, all checked; without `groups` each channel is one."""
    if not 3 <= x.rank <= 5:
        site.refuse(f"`x` is {x}, expected [N, C, ...S] with one to three axes in S")
    if weight.rank != x.rank:
        site.refuse(f"`weight` is {weight}, expected {x.rank} axes for {x}")
    if x.dtype is not weight.dtype:
        site.refuse(f"`x` is {x} and `weight` is {weight}: the dtypes differ")
    stride, dilation = site.integer("stride"), site.integer("dilation")
    for name, value, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)):
        if value < least:
            site.refuse(f"`{name}` is {value}, expected at least {least}")
    _require_channels(site, x, weight)
    sizes = tuple(
        _windows(site, x, axis, kernel, stride, padding, dilation)
        for axis, kernel in enumerate(weight.shape[2:], start=2)
    )
    return x.with_shape((x.shape[0], weight.shape[0], *sizes))


def _require_channels(site: Site, x: TensorType, weight: TensorType) -> None:
    groups = site.attrs.get("groups", x.shape[1])
    assert isinstance(groups, int | Dim)
    if not (isinstance(groups, Dim) or groups >= 1):
        site.refuse(f"`groups` is {groups}, expected at least 1")
    for type, axis in ((x, 1), (weight, 0)):
        size = type.shape[axis]
        rest = size - size // groups * groups
        if not (isinstance(rest, Dim) or rest == 0):
            what = f"`x` is {x}: its channels are" if type is x else "channels is"
            site.refuse(f"{what} {size}, not divisible by groups = {groups}")
    if weight.shape[1] != x.shape[1] // groups:
        expected = x.shape[1] // groups
        site.refuse(f"`weight` is {weight}, expected {expected} along axis 1 for {x} in groups = {groups}")


def _windows(
    site: Site, x: TensorType, axis: int, kernel: Size, stride: int, padding: int, dilation: int
) -> Size:
    """`(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1`."""
    reach = dilation * (kernel - 1) + 1
    room = x.shape[axis] + 2 * padding - reach
    if not (isinstance(room, Dim) or room >= 0):
        site.refuse(f"`x` is {x}: axis {axis} and padding = {padding} have no room for a window of {reach}")
    return room // stride + 1


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    return [result_type(site, site.type(0), site.type(1), site.integer("padding"))]


def _infer_input_grad(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    g, weight = site.type(0), site.type(1)
    x = g.with_shape(site.sizes("shape"))
    _require_gradient(site, g, result_type(site, x, weight, site.integer("padding")))
    return [x]


def _infer_weight_grad(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    g, x = site.type(0), site.type(1)
    weight = g.with_shape(site.sizes("shape"))
    _require_gradient(site, g, result_type(site, x, weight, site.integer("padding")))
    return [weight]


def _require_gradient(site: Site, g: TensorType, expected: TensorType) -> None:
    site.require(g == expected, f"`g` is {g}, expected {expected}")


def cost_of(
    windows: Callable[[Site], TensorType], weight: Callable[[Site], TensorType]
) -> Callable[[Site], Cost]:
    """Two operations for each window and each of its weights."""

    def cost(site: Site) -> Cost:
        return traffic(site, windows(site).elements * product(weight(site).shape[1:]) * 2)

    return cost


_cost = cost_of(lambda site: site.results[0], lambda site: site.type(1))


def _vjp(v: Vjp) -> Sequence[Value | None]:
    x, weight = v.operand(0), v.operand(1)
    dx = dweight = None
    if v.needed[0]:
        dx = v.op("convolution_input_grad", v.gradient, weight, shape=v.build.type(x).shape, **v.attrs)
    if v.needed[1]:
        dweight = v.op("convolution_weight_grad", v.gradient, x, shape=v.build.type(weight).shape, **v.attrs)
    return [dx, dweight]


def geometry(attrs: Attrs) -> dict[str, AttrValue]:
    return {name: value for name, value in attrs.items() if name != "shape"}


def _input_grad_vjp(v: Vjp) -> Sequence[Value | None]:
    """`<dx, input_grad(g, w)>` is `<convolution(dx, w), g>` and `<weight_grad(g, dx), w>`."""
    g, weight, attrs = v.operand(0), v.operand(1), geometry(v.attrs)
    dg = dweight = None
    if v.needed[0]:
        dg = v.op("convolution", v.gradient, weight, **attrs)
    if v.needed[1]:
        dweight = v.op("convolution_weight_grad", g, v.gradient, shape=v.build.type(weight).shape, **attrs)
    return [dg, dweight]


def _weight_grad_vjp(v: Vjp) -> Sequence[Value | None]:
    """`<dw, weight_grad(g, x)>` is `<convolution(x, dw), g>` and `<input_grad(g, dw), x>`."""
    g, x, attrs = v.operand(0), v.operand(1), geometry(v.attrs)
    dg = dx = None
    if v.needed[0]:
        dg = v.op("convolution", x, v.gradient, **attrs)
    if v.needed[1]:
        dx = v.op("convolution_input_grad", g, v.gradient, shape=v.build.type(x).shape, **attrs)
    return [dg, dx]


def _sample_geometry(draw: Sampler) -> tuple[Value, Value, dict[str, AttrValue]]:
    rank = draw.integer(3, 4)
    x = draw.tensor(dtype=draw.dtype(), min_rank=rank, max_rank=rank)
    type = draw.type(x)
    channels = type.shape[1]
    divisors: list[Size] = [1, channels]
    if isinstance(channels, int):
        divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    groups: Size = draw.choice(divisors)
    features = groups * draw.integer(1, 2)
    kernel, dilation = draw.integer(1, 3), draw.integer(1, 2)
    weight = draw.param((features, channels // groups, *([kernel] * (rank - 2))), type.dtype)
    return (
        x,
        weight,
        {
            "stride": draw.integer(1, 2),
            "padding": (dilation * (kernel - 1) + 1) // 2 + draw.integer(0, 1),
            "dilation": dilation,
            "groups": groups,
        },
    )


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x, weight, attrs = _sample_geometry(draw)
    return [x, weight], attrs


def _sample_gradient(draw: Sampler) -> tuple[Value, Value, Value, dict[str, AttrValue]]:
    """An incoming gradient with the x and the weight that it belongs to."""
    x, weight, attrs = _sample_geometry(draw)
    site = Site(CONVOLUTION, (draw.type(x), draw.type(weight)), attrs)
    result = result_type(site, draw.type(x), draw.type(weight), site.integer("padding"))
    return draw.tensor(result.shape, result.dtype), x, weight, attrs


def _sample_input_grad(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    g, x, weight, attrs = _sample_gradient(draw)
    return [g, weight], {"shape": draw.type(x).shape, **attrs}


def _sample_weight_grad(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    g, x, weight, attrs = _sample_gradient(draw)
    return [g, x], {"shape": draw.type(weight).shape, **attrs}


CONVOLUTION = define(
    Operator(
        name="convolution",
        doc="The cross-correlation of `x` [N, C, ...S] with `weight` [channels, C / groups, ...kernel].",
        lowering=Outside(),
        inputs=(Input("x"), Input("weight")),
        attributes=GEOMETRY,
        infer=_infer,
        reference="esper.ops.reference.convolution:convolution",
        vjp=_vjp,
        cost=_cost,
        sample=_sample,
        in_language=False,
    )
)

define(
    Operator(
        name="convolution_input_grad",
        doc="The gradient of the `x` of `convolution`, of the sizes `shape`, from that of its result, `g`.",
        lowering=Outside(),
        inputs=(Input("g"), Input("weight")),
        attributes=(_SHAPE, *GEOMETRY),
        infer=_infer_input_grad,
        reference="esper.ops.reference.convolution:convolution_input_grad",
        vjp=_input_grad_vjp,
        cost=cost_of(lambda site: site.type(0), lambda site: site.type(1)),
        sample=_sample_input_grad,
        in_language=False,
    )
)

define(
    Operator(
        name="convolution_weight_grad",
        doc="The gradient of the `weight` of `convolution`, of the sizes `shape`, from that of its result, "
        "`g`.",
        lowering=Outside(),
        inputs=(Input("g"), Input("x")),
        attributes=(_SHAPE, *GEOMETRY),
        infer=_infer_weight_grad,
        reference="esper.ops.reference.convolution:convolution_weight_grad",
        vjp=_weight_grad_vjp,
        cost=cost_of(lambda site: site.type(0), lambda site: site.results[0]),
        sample=_sample_weight_grad,
        in_language=False,
    )
)
