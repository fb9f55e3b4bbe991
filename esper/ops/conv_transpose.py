"""The transposed convolution layer: the gradient of a convolution by its input, run forwards.

It is what a convolution with the same stride, padding and dilation undoes in size; `output_padding` chooses
among the sizes that such a convolution maps to the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Dim, Size, product
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
from esper.ops.conv import window
from esper.ops.convolution import DILATION, GROUPS, STRIDE
from esper.ops.rules import attribute_integer, require_floating, traffic

_ATTRIBUTES = (
    Attribute("channels", Kind.DIM, doc="channels of the result"),
    Attribute("kernel", Kind.INT, 3, doc="size of the window along each axis", stored=False),
    STRIDE,
    Attribute("padding", Kind.INT, 0, doc="elements cut from both ends of each axis of the result"),
    Attribute("output_padding", Kind.INT, 0, doc="elements added to the end of each axis of the result"),
    DILATION,
    GROUPS,
    Attribute("bias", Kind.BOOL, True, doc="whether to add a bias", stored=False),
    Attribute(
        "init", Kind.STRING, "", doc="initialiser of the weight; `zeros` zeroes the bias too", stored=False
    ),
)


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x, weight, bias = site.type(0), site.type(1), site.types[2]
    site.require(3 <= x.rank <= 5, f"`x` is {x}, expected [N, C, ...S] with one to three axes in S")
    site.require(weight.rank == x.rank, f"`weight` is {weight}, expected {x.rank} axes for {x}")
    site.require(x.dtype is weight.dtype, f"`x` is {x} and `weight` is {weight}: the dtypes differ")
    channels = _require_channels(site, x, weight)
    result = x.with_shape((x.shape[0], channels, *_sizes(site, x, weight)))
    expected = TensorType(x.dtype, (channels,))
    site.require(bias is None or bias == expected, f"`bias` is {bias}, expected {expected}")
    return [result]


def _require_channels(site: Site, x: TensorType, weight: TensorType) -> Size:
    """The channels of the result, checked."""
    channels, groups = site.attrs["channels"], site.attrs["groups"]
    assert isinstance(channels, int | Dim) and isinstance(groups, int | Dim)
    for name, value in (("channels", channels), ("groups", groups)):
        site.require(isinstance(value, Dim) or value >= 1, f"`{name}` is {value}, expected at least 1")
    for what, size in ((f"`x` is {x}: its channels are", x.shape[1]), ("channels is", channels)):
        rest = size - size // groups * groups
        site.require(isinstance(rest, Dim) or rest == 0, f"{what} {size}, not divisible by groups = {groups}")
    expected = (x.shape[1], channels // groups)
    site.require(
        weight.shape[:2] == expected,
        f"`weight` is {weight}, expected [{expected[0]}, {expected[1]}, ...kernel] for {x}, "
        f"channels = {channels} and groups = {groups}",
    )
    return channels


def _sizes(site: Site, x: TensorType, weight: TensorType) -> tuple[Size, ...]:
    """`(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1` along each axis."""
    stride, dilation, padding = (site.integer(name) for name in ("stride", "dilation", "padding"))
    for name, value, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)):
        site.require(value >= least, f"`{name}` is {value}, expected at least {least}")
    extra = site.integer("output_padding")
    site.require(
        0 <= extra < max(stride, dilation),
        f"`output_padding` is {extra}, expected at least 0 and below stride = {stride} or "
        f"dilation = {dilation}",
    )
    sizes: list[Size] = []
    for axis, kernel in enumerate(weight.shape[2:], start=2):
        size = (x.shape[axis] - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
        site.require(
            isinstance(size, Dim) or size >= 1,
            f"`x` is {x}: padding = {padding} leaves {size} elements along axis {axis}, expected at least 1",
        )
        sizes.append(size)
    return tuple(sizes)


def _define(build: Builder, node: Node) -> Sequence[Value]:
    x, weight, bias = node.operands
    assert x is not None and weight is not None
    stride = attribute_integer(node.attrs, "stride")
    # Where `output_padding` reaches past a stride, the convolution from the result back has more windows
    # than x has elements: the further ones start from zeros.
    windows = attribute_integer(node.attrs, "output_padding") // stride
    if windows:
        x = build.op("pad", x, pad=(0, windows) * (build.type(x).rank - 2), mode="constant", value=0.0)
    y = build.op(
        "convolution_input_grad",
        x,
        weight,
        shape=node.type.shape,
        stride=stride,
        padding=node.attrs["padding"],
        dilation=node.attrs["dilation"],
        groups=node.attrs["groups"],
    )
    return [y if bias is None else build.op("add", y, stats.along_channels(build, bias, node.type.rank))]


def _features_per_group(creation: Creation) -> Size:
    return creation.size("channels") // creation.size("groups")


def _fan_in(creation: Creation) -> Size:
    """As torch counts it, from axis 1 of the weight."""
    return _features_per_group(creation) * product(window(creation))


def _cost(site: Site) -> Cost:
    windows = site.type(0).elements * product(site.type(1).shape[1:]) * 2
    return traffic(site, windows + site.results[0].elements)


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    rank = draw.integer(3, 4)
    x = draw.tensor(dtype=draw.dtype(), min_rank=rank, max_rank=rank)
    type = draw.type(x)
    groups: Size = type.shape[1] if draw.boolean() else 1
    channels = groups * draw.integer(1, 2)
    kernel, stride, dilation = draw.integer(1, 3), draw.integer(1, 2), draw.integer(1, 2)
    extra = draw.integer(0, max(stride, dilation) - 1)
    weight = draw.param((type.shape[1], channels // groups, *([kernel] * (rank - 2))), type.dtype)
    bias = draw.param((channels,), type.dtype) if draw.boolean() else None
    return [x, weight, bias], {
        "channels": channels,
        "stride": stride,
        "padding": draw.integer(0, (dilation * (kernel - 1) + extra) // 2),
        "output_padding": extra,
        "dilation": dilation,
        "groups": groups,
    }


define(
    Operator(
        name="conv_transpose",
        doc="A transposed convolution of `x` [N, C, ...S], one to three axes S, with `weight` [C, channels / "
        "groups, ...kernel] plus `bias` [channels] (Zeiler et al. 2010). Each size becomes `(size - 1) * "
        "stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1`.",
        lowering=Composite(_define),
        inputs=(
            Input("x"),
            Input(
                "weight",
                Role.PARAM,
                shape=lambda c: (c.types["x"].shape[1], _features_per_group(c), *window(c)),
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
        attributes=_ATTRIBUTES,
        infer=_infer,
        reference="esper.ops.reference.convolution:conv_transpose",
        no_gradient="`expand` replaces it by its definition",
        cost=_cost,
        sample=_sample,
    )
)
