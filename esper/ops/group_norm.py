"""Group normalisation: the statistics of each example over groups of neighbouring channels, axis 1."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size, product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Decompose,
    Input,
    Kind,
    Operator,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import TensorType
from esper.ops import statistics as stats
from esper.ops.normalization import AFFINE, EPS, INIT
from esper.ops.rules import attribute_integer, attribute_number, require_floating, traffic

GROUPS = Attribute("groups", Kind.INT, doc="how many groups the channels form")


def _statistic(site: Site, x: TensorType) -> TensorType:
    site.require(x.rank >= 2, f"`x` is {x}, expected a batch axis and a channel axis")
    groups, channels = site.integer("groups"), x.shape[1]
    site.require(groups >= 1, f"`groups` is {groups}, expected at least 1")
    reason = f"channels is {channels}, not divisible by groups = {groups}"
    site.require_size(0, 1, channels // groups * groups, reason)
    return TensorType(stats.statistics_dtype(x.dtype), (x.shape[0], groups))


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x = site.type(0)
    statistic = _statistic(site, x)
    for index in (1, 2):
        stats.require_vector(site, index, x.shape[1], x.dtype)
    return [x, statistic, statistic]


def _infer_backward(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    g, x = site.type(0), site.type(1)
    site.require(g == x, f"`g` is {g} and `x` is {x}, expected one type")
    statistic = _statistic(site, x)
    for index in (2, 3):
        found = site.type(index)
        site.require(found == statistic, f"`{site.op.inputs[index].name}` is {found}, expected {statistic}")
    stats.require_vector(site, 4, x.shape[1], x.dtype)
    return [x, *(TensorType(x.dtype, (x.shape[1],)) for _ in range(2))]


def _apart(type: TensorType, groups: int) -> tuple[Size, ...]:
    """[N, groups, channels of a group, ...S]: the statistics are over all axes from the third on."""
    return (type.shape[0], groups, type.shape[1] // groups, *type.shape[2:])


def _define(build: Builder, node: Node) -> Sequence[Value]:
    x, weight, bias = node.operands
    assert x is not None
    type, eps, groups = (
        build.type(x),
        attribute_number(node.attrs, "eps"),
        attribute_integer(node.attrs, "groups"),
    )
    values = stats.widen(build, stats.reshaped(build, x, _apart(type, groups)))
    found = stats.moments(build, values, _within(build, values), eps)
    y = build.op("mul", found.centered, found.rstd)
    if weight is not None:
        y = build.op("mul", y, _spread(build, weight, values, groups))
    if bias is not None:
        y = build.op("add", y, _spread(build, bias, values, groups))
    shape = (type.shape[0], groups)
    return [
        stats.reshaped(build, stats.cast(build, y, type.dtype), type.shape),
        stats.reshaped(build, found.mean, shape),
        stats.reshaped(build, found.rstd, shape),
    ]


def _define_backward(build: Builder, node: Node) -> Sequence[Value]:
    g, x, mean, rstd, weight = node.operands
    assert g is not None and x is not None and mean is not None and rstd is not None
    type, groups = build.type(x), attribute_integer(node.attrs, "groups")
    wide, values = (stats.widen(build, stats.reshaped(build, v, _apart(type, groups))) for v in (g, x))
    center, scale = (_per_group(build, statistic, values) for statistic in (mean, rstd))
    xhat = build.op("mul", build.op("sub", values, center), scale)
    scaled = wide if weight is None else build.op("mul", wide, _spread(build, weight, values, groups))
    dx = stats.normalized_gradient(build, scaled, xhat, scale, _within(build, values))
    others = [axis for axis in range(type.rank + 1) if axis not in (1, 2)]
    dweight = stats.total(build, build.op("mul", wide, xhat), others)
    dbias = stats.total(build, wide, others)
    shapes = (type.shape, (type.shape[1],), (type.shape[1],))
    return [
        stats.reshaped(build, stats.cast(build, value, type.dtype), shape)
        for value, shape in zip((dx, dweight, dbias), shapes, strict=True)
    ]


def _within(build: Builder, values: Value) -> tuple[int, ...]:
    """The axes of a group."""
    return tuple(range(2, build.type(values).rank))


def _per_group(build: Builder, statistic: Value, values: Value) -> Value:
    """A statistic [N, groups] with an axis of size 1 for each axis of a group."""
    ones = (1,) * (build.type(values).rank - 2)
    return stats.reshaped(build, statistic, (*build.type(statistic).shape, *ones))


def _spread(build: Builder, vector: Value, values: Value, groups: int) -> Value:
    """A [C] vector, widened, as [groups, channels of a group, 1, ...]."""
    (channels,) = build.type(vector).shape
    ones = (1,) * (build.type(values).rank - 3)
    return stats.widen(build, stats.reshaped(build, vector, (groups, channels // groups, *ones)))


def _vjp(v: Vjp) -> Sequence[Value | None]:
    build, x, groups = v.build, v.operand(0), attribute_integer(v.attrs, "groups")
    type = build.type(x)
    g, g_mean, g_rstd = v.gradients
    dx: Value | None = None
    dweight: Value | None = None
    dbias: Value | None = None
    if g is not None:
        dx, dweight, dbias = v.ops(
            "group_norm_backward", g, x, v.result(1), v.result(2), v.operands[1], groups=groups
        )
    if v.needed[0]:
        values = stats.widen(build, stats.reshaped(build, x, _apart(type, groups)))
        extra = stats.moment_gradient(
            build,
            values,
            _within(build, values),
            _per_group(build, v.result(2), values),
            mean=_per_group(build, v.result(1), values),
            g_mean=None if g_mean is None else _per_group(build, g_mean, values),
            g_rstd=None if g_rstd is None else _per_group(build, g_rstd, values),
        )
        if extra is not None:
            dx = stats.add_gradients(build, dx, stats.reshaped(build, extra, type.shape), type.dtype)
    return [dx, dweight, dbias]


def _sampled(draw: Sampler) -> tuple[Value, TensorType, int]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=2)
    type = draw.type(x)
    channels = type.shape[1]
    divisors = [n for n in range(1, channels + 1) if channels % n == 0] if isinstance(channels, int) else [1]
    groups: int = draw.choice(divisors)
    return x, type, groups


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x, type, groups = _sampled(draw)
    affine = draw.boolean()
    weight, bias = (draw.param((type.shape[1],), type.dtype) if affine else None for _ in range(2))
    return [x, weight, bias], {"groups": groups}


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x, type, groups = _sampled(draw)
    statistic = TensorType(stats.statistics_dtype(type.dtype), (type.shape[0], groups))
    g = draw.tensor(type.shape, type.dtype)
    mean, rstd = (draw.tensor(statistic.shape, statistic.dtype) for _ in range(2))
    weight = draw.param((type.shape[1],), type.dtype) if draw.boolean() else None
    return [g, x, mean, rstd, weight], {"groups": groups}


define(
    Operator(
        name="group_norm",
        doc="`(x - mean) * rstd * weight + bias` with statistics of each example and group of channels (Wu "
        "and He 2018). `x` [N, C, ...], `weight` and `bias` [C]; `mean` and `rstd` are [N, groups].",
        lowering=Decompose(_define),
        inputs=(Input("x"), *stats.affine_inputs(axis=1)),
        attributes=(GROUPS, EPS, AFFINE, INIT),
        results=("result", "mean", "rstd"),
        infer=_infer,
        reference="esper.ops.reference.normalization:group_norm",
        first_result_reference="esper.ops.reference.normalization:group_norm_result",
        vjp=_vjp,
        cost=lambda site: traffic(site, site.type(0).elements * 8),
        sample=_sample,
    )
)

define(
    Operator(
        name="group_norm_backward",
        doc="The gradients of `x`, `weight` and `bias` of `group_norm`, from the gradient `g` of its result.",
        lowering=Decompose(_define_backward),
        inputs=(Input("g"), Input("x"), Input("mean"), Input("rstd"), Input("weight", optional=True)),
        attributes=(GROUPS,),
        results=("dx", "dweight", "dbias"),
        infer=_infer_backward,
        reference="esper.ops.reference.normalization:group_norm_backward",
        no_gradient="second derivatives are not supported",
        cost=lambda site: traffic(site, site.type(0).elements * 14),
        sample=_sample_backward,
        in_language=False,
    )
)


def _infer_instance(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x = site.type(0)
    site.require(x.rank >= 3, f"`x` is {x}, expected [N, C, ...S] with at least one axis in S")
    values = product(x.shape[2:])
    site.require(values != 1, f"`x` is {x}: one value for each channel of an example has no variance")
    for index in (1, 2):
        stats.require_vector(site, index, x.shape[1], x.dtype)
    return [x]


def _define_instance(build: Builder, node: Node) -> Sequence[Value]:
    """Each channel of each example is an example of one group."""
    x, weight, bias = node.operands
    assert x is not None
    type = build.type(x)
    rows = build.op("reshape", x, shape=(type.shape[0] * type.shape[1], 1, *type.shape[2:]))
    rows = build.op("group_norm", rows, None, None, groups=1, eps=attribute_number(node.attrs, "eps"))
    y = stats.widen(build, stats.reshaped(build, rows, type.shape))
    return [stats.cast(build, stats.scaled_and_shifted(build, y, weight, bias, axis=1), type.dtype)]


def _sample_instance(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor((*draw.shape(2, 2), *draw.shape(0, 1), draw.integer(2, 4)), draw.dtype())
    type = draw.type(x)
    affine = draw.boolean()
    return [x, *(draw.param((type.shape[1],), type.dtype) if affine else None for _ in range(2))], {}


define(
    Operator(
        name="instance_norm",
        doc="`(x - mean) * rstd * weight + bias` with statistics of each channel of each example (Ulyanov et "
        "al. 2016). `x` [N, C, ...S], `weight` and `bias` [C].",
        lowering=Composite(_define_instance),
        inputs=(Input("x"), *stats.affine_inputs(axis=1)),
        attributes=(EPS, AFFINE, INIT),
        infer=_infer_instance,
        reference="esper.ops.reference.normalization:instance_norm",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, site.type(0).elements * 8),
        sample=_sample_instance,
    )
)
