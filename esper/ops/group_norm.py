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


def _rows(type: TensorType, groups: int) -> tuple[Size, ...]:
    """[N, groups, values of a group]: its last axis is what the statistics are over."""
    channels = type.shape[1]
    return (type.shape[0], groups, channels // groups * product(type.shape[2:]))


def _define(build: Builder, node: Node) -> Sequence[Value]:
    x, weight, bias = node.operands
    assert x is not None
    type, eps = build.type(x), attribute_number(node.attrs, "eps")
    rows = stats.reshaped(build, stats.widen(build, x), _rows(type, attribute_integer(node.attrs, "groups")))
    found = stats.moments(build, rows, (2,), eps)
    xhat = stats.reshaped(build, build.op("mul", found.centered, found.rstd), type.shape)
    y = stats.cast(build, stats.scaled_and_shifted(build, xhat, weight, bias, axis=1), type.dtype)
    shape = (type.shape[0], attribute_integer(node.attrs, "groups"))
    return [y, stats.reshaped(build, found.mean, shape), stats.reshaped(build, found.rstd, shape)]


def _define_backward(build: Builder, node: Node) -> Sequence[Value]:
    g, x, mean, rstd, weight = node.operands
    assert g is not None and x is not None and mean is not None and rstd is not None
    type = build.type(x)
    rows = _rows(type, attribute_integer(node.attrs, "groups"))
    center, scale = _per_row(build, mean), _per_row(build, rstd)
    wide = stats.widen(build, g)
    values = stats.reshaped(build, stats.widen(build, x), rows)
    xhat = build.op("mul", build.op("sub", values, center), scale)
    scaled = stats.scaled_and_shifted(build, wide, weight, None, axis=1)
    dx = stats.normalized_gradient(build, stats.reshaped(build, scaled, rows), xhat, scale, (2,))
    axes = [axis for axis in range(type.rank) if axis != 1]
    dweight = stats.total(build, build.op("mul", wide, stats.reshaped(build, xhat, type.shape)), axes)
    results = (stats.reshaped(build, dx, type.shape), dweight, stats.total(build, wide, axes))
    return [stats.cast(build, value, type.dtype) for value in results]


def _per_row(build: Builder, value: Value) -> Value:
    return build.op("reshape", value, shape=(*build.type(value).shape, 1))


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
        extra = stats.moment_gradient(
            build,
            stats.reshaped(build, stats.widen(build, x), _rows(type, groups)),
            (2,),
            _per_row(build, v.result(2)),
            mean=_per_row(build, v.result(1)),
            g_mean=None if g_mean is None else _per_row(build, g_mean),
            g_rstd=None if g_rstd is None else _per_row(build, g_rstd),
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
