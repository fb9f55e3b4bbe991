"""The convolution layers: a bare `convolution`, and a bias that fuses with what follows."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size, product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Cost,
    Creation,
    Input,
    Kind,
    Operator,
    Role,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops import statistics as stats
from esper.ops.convolution import DILATION, GROUPS, STRIDE, result_type
from esper.ops.rules import attribute_integer, require_floating, traffic

SAME = -1

_CHANNELS = Attribute("channels", Kind.DIM, doc="channels of the result", stored=False)
_KERNEL = Attribute("kernel", Kind.INT, 3, doc="size of the window along each axis", stored=False)
_PADDING = Attribute(
    "padding",
    Kind.INT,
    SAME,
    doc="zeros before and after each axis; -1 is `dilation * (kernel // 2)`, which for an odd kernel and "
    "stride 1 keeps the sizes",
)
_BIAS = Attribute("bias", Kind.BOOL, True, doc="whether to add a bias", stored=False)
_INIT = Attribute(
    "init", Kind.STRING, "", doc="initialiser of the weight; `zeros` zeroes the bias too", stored=False
)


def _resolved_padding(kernel: tuple[Size, ...], padding: int, dilation: int) -> int | None:
    """Padding in zeros; None if it is left to the default and the kernel is even or has unequal sides."""
    if padding != SAME:
        return padding
    side = kernel[0]
    if any(other != side for other in kernel) or not isinstance(side, int) or side % 2 == 0:
        return None
    return dilation * (side // 2)


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x, weight, bias = site.type(0), site.type(1), site.types[2]
    if not 3 <= x.rank <= 5:
        site.refuse(f"`x` is {x}, expected [N, C, ...S] with one to three axes in S")
    if weight.rank < 3:
        site.refuse(f"`weight` is {weight}, expected [channels, C / groups, ...kernel]")
    kernel = weight.shape[2:]
    padding = _resolved_padding(kernel, site.integer("padding"), site.integer("dilation"))
    if padding is None:
        sides = "x".join(map(str, kernel))
        site.refuse(f"kernel is {sides}, only an odd one keeps the sizes by itself: give `padding`")
    result = result_type(site, x, weight, padding)
    expected = TensorType(result.dtype, result.shape[1:2])
    if bias is not None and bias != expected:
        site.refuse(f"`bias` is {bias}, expected {expected}")
    return [result]


def _cost(site: Site) -> Cost:
    return traffic(site, site.results[0].elements * (product(site.type(1).shape[1:]) * 2 + 1))


def _define(build: Builder, node: Node) -> Sequence[Value]:
    x, weight, bias = node.operands
    assert x is not None and weight is not None
    type = build.type(x)
    padding = _resolved_padding(
        build.type(weight).shape[2:],
        attribute_integer(node.attrs, "padding"),
        attribute_integer(node.attrs, "dilation"),
    )
    assert padding is not None
    y = build.op(
        "convolution",
        x,
        weight,
        stride=attribute_integer(node.attrs, "stride"),
        padding=padding,
        dilation=attribute_integer(node.attrs, "dilation"),
        groups=node.attrs.get("groups", type.shape[1]),
    )
    return [y if bias is None else build.op("add", y, stats.along_channels(build, bias, type.rank))]


def window(creation: Creation) -> tuple[Size, ...]:
    """The sizes of a kernel, `kernel` along each axis of the map."""
    return (creation.size("kernel"),) * (creation.types["x"].rank - 2)


def _inputs_per_group(creation: Creation) -> Size:
    return creation.types["x"].shape[1] // creation.size("groups")


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    rank = draw.integer(3, 4)
    x = draw.tensor(dtype=draw.dtype(), min_rank=rank, max_rank=rank)
    type = draw.type(x)
    groups: Size = type.shape[1] if draw.boolean() else 1
    channels = groups * draw.integer(1, 2)
    weight = draw.param(
        (channels, type.shape[1] // groups, *([draw.choice((1, 3))] * (rank - 2))), type.dtype
    )
    bias = draw.param((channels,), type.dtype) if draw.boolean() else None
    return [x, weight, bias], {"stride": draw.integer(1, 2), "dilation": draw.integer(1, 2), "groups": groups}


def _sample_depthwise(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    rank = draw.integer(3, 4)
    x = draw.tensor(dtype=draw.dtype(), min_rank=rank, max_rank=rank)
    type = draw.type(x)
    channels = type.shape[1]
    weight = draw.param((channels, 1, *([draw.choice((1, 3))] * (rank - 2))), type.dtype)
    bias = draw.param((channels,), type.dtype) if draw.boolean() else None
    return [x, weight, bias], {"stride": draw.integer(1, 2), "dilation": draw.integer(1, 2)}


def _fan_in(creation: Creation) -> Size:
    return _inputs_per_group(creation) * product(window(creation))


define(
    Operator(
        name="conv",
        doc="A convolution of `x` [N, C, ...S], one to three axes S, with `weight` [channels, C / groups, "
        "...kernel] plus `bias` [channels] (LeCun et al. 1989). Each size becomes `(size + 2 * padding -"
        " dilation * (kernel - 1) - 1) // stride + 1`.",
        lowering=Composite(_define),
        inputs=(
            Input("x"),
            Input(
                "weight",
                Role.PARAM,
                shape=lambda c: (c.size("channels"), _inputs_per_group(c), *window(c)),
                init="fan_in_uniform",
                fan_in=_fan_in,
                doc="the filters",
            ),
            Input(
                "bias",
                Role.PARAM,
                optional=True,
                shape=lambda c: (c.size("channels"),),
                init="fan_in_uniform",
                fan_in=_fan_in,
                when="bias",
                doc="added to each channel",
            ),
        ),
        attributes=(_CHANNELS, _KERNEL, STRIDE, _PADDING, DILATION, GROUPS, _BIAS, _INIT),
        infer=_infer,
        reference="esper.ops.reference.convolution:conv",
        no_gradient="`expand` replaces it by its definition",
        cost=_cost,
        sample=_sample,
    )
)

define(
    Operator(
        name="depthwise_conv",
        doc="A convolution of each channel of `x` [N, C, ...S] with a filter of its own, `weight` [C, 1, "
        "...kernel], plus `bias` [C] (Chollet 2016, Xception).",
        lowering=Composite(_define),
        inputs=(
            Input("x"),
            Input(
                "weight",
                Role.PARAM,
                shape=lambda c: (c.types["x"].shape[1], 1, *window(c)),
                init="fan_in_uniform",
                fan_in=lambda c: product(window(c)),
                doc="the filters",
            ),
            Input(
                "bias",
                Role.PARAM,
                optional=True,
                shape=lambda c: (c.types["x"].shape[1],),
                init="fan_in_uniform",
                fan_in=lambda c: product(window(c)),
                when="bias",
                doc="added to each channel",
            ),
        ),
        attributes=(_KERNEL, STRIDE, _PADDING, DILATION, _BIAS, _INIT),
        infer=_infer,
        reference="esper.ops.reference.convolution:depthwise_conv",
        no_gradient="`expand` replaces it by its definition",
        cost=_cost,
        sample=_sample_depthwise,
    )
)
