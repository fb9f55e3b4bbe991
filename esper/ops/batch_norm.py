"""Batch normalisation over all axes but the channels, axis 1; any number of other axes.

It is pure: the running statistics are operands, and what they become are results, which the graph names as
updates of its buffers. With `training=False` it normalises by the running statistics and returns them.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size, evaluate_size, product, size_symbols
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Creation,
    Decompose,
    Input,
    Kind,
    Operator,
    Role,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import TensorType
from esper.ops import statistics as stats
from esper.ops.normalization import AFFINE, EPS, INIT
from esper.ops.rules import attribute_number, require_floating, traffic

TRAINING = Attribute(
    "training", Kind.BOOL, True, doc="normalise by this batch's statistics, not the running ones"
)
MOMENTUM = Attribute("momentum", Kind.FLOAT, 0.1, doc="the share of this batch in the new running statistics")


def _channels(creation: Creation) -> tuple[Size, ...]:
    return (creation.types["x"].shape[1],)


def _statistic(x: TensorType) -> TensorType:
    return TensorType(stats.statistics_dtype(x.dtype), (x.shape[1],))


def _batch_axes(type: TensorType) -> tuple[int, ...]:
    return tuple(axis for axis in range(type.rank) if axis != 1)


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x = site.type(0)
    site.require(x.rank >= 2, f"`x` is {x}, expected a batch axis and a channel axis")
    statistic = _statistic(x)
    for index in (1, 2):
        stats.require_vector(site, index, x.shape[1], x.dtype)
    for index in (3, 4):
        stats.require_vector(site, index, x.shape[1], statistic.dtype)
    values = product(x.shape[axis] for axis in _batch_axes(x))
    site.require(
        values != 1 or not site.flag("training"),
        f"`x` is {x}: one value for each channel has no variance to train with",
    )
    return [x, *(statistic for _ in range(4))]


def _infer_backward(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    g, x = site.type(0), site.type(1)
    site.require(
        x.rank >= 2 and g == x, f"`g` is {g} and `x` is {x}, expected one type with at least two axes"
    )
    for index in (2, 3):
        stats.require_vector(site, index, x.shape[1], _statistic(x).dtype)
    stats.require_vector(site, 4, x.shape[1], x.dtype)
    return [x, *(TensorType(x.dtype, (x.shape[1],)) for _ in range(2))]


def _per_channel(build: Builder, value: Value | None, rank: int) -> Value | None:
    return None if value is None else stats.along_channels(build, value, rank)


def _unbiased(build: Builder, x: Value) -> Value:
    """`n / (n - 1)` for the n values of a channel: from the batch's variance to the population's."""
    type = build.type(x)
    n = product(type.shape[axis] for axis in _batch_axes(type))
    whole, less = (
        build.op("size", value=size, dtype=stats.statistics_dtype(type.dtype)) for size in (n, n - 1)
    )
    return build.op("div", whole, less)


def _define(build: Builder, node: Node) -> Sequence[Value]:
    x, weight, bias, running_mean, running_var = node.operands
    assert x is not None and running_mean is not None and running_var is not None
    type = build.type(x)
    eps, momentum = attribute_number(node.attrs, "eps"), attribute_number(node.attrs, "momentum")
    wide = stats.widen(build, x)
    if node.attrs["training"]:
        found = stats.moments(build, wide, _batch_axes(type), eps)
        mean, variance, rstd = (
            stats.reshaped(build, value, (type.shape[1],))
            for value in (found.mean, found.variance, found.rstd)
        )
        xhat = build.op("mul", found.centered, found.rstd)
        new_mean = _mixed(build, running_mean, mean, momentum)
        new_var = _mixed(build, running_var, build.op("mul", variance, _unbiased(build, x)), momentum)
    else:
        mean, new_mean, new_var = running_mean, running_mean, running_var
        rstd = build.op("rsqrt", build.op("add", running_var, eps))
        centered = build.op("sub", wide, stats.along_channels(build, mean, type.rank))
        xhat = build.op("mul", centered, stats.along_channels(build, rstd, type.rank))
    y = stats.cast(build, stats.scaled_and_shifted(build, xhat, weight, bias, axis=1), type.dtype)
    return [y, mean, rstd, new_mean, new_var]


def _mixed(build: Builder, old: Value, latest: Value, momentum: float) -> Value:
    """`old * (1 - momentum) + latest * momentum`"""
    return build.op("add", build.op("mul", old, 1.0 - momentum), build.op("mul", latest, momentum))


def _define_backward(build: Builder, node: Node) -> Sequence[Value]:
    """With sums over all but the channels: `dbias = sum(g)`, `dweight = sum(g * xhat)`, and

    `dx = (g - dbias / n - xhat * dweight / n) * rstd * weight`.
    A channel's weight is constant along the sums, so that two of them serve all three gradients.
    """
    g, x, mean, rstd, weight = node.operands
    assert g is not None and x is not None and mean is not None and rstd is not None
    type = build.type(x)
    axes = _batch_axes(type)
    dx = wide = stats.widen(build, g)
    center, scale = stats.along_channels(build, mean, type.rank), stats.along_channels(build, rstd, type.rank)
    xhat = build.op("mul", build.op("sub", stats.widen(build, x), center), scale)
    dweight = stats.total(build, build.op("mul", wide, xhat), axes, keepdims=True)
    dbias = stats.total(build, wide, axes, keepdims=True)
    if node.attrs["training"]:
        count = stats.count(build, wide, axes)
        level, slope = build.op("div", dbias, count), build.op("div", dweight, count)
        dx = build.op("sub", wide, build.op("add", level, build.op("mul", xhat, slope)))
    dx = stats.scaled_and_shifted(build, build.op("mul", dx, scale), weight, None, axis=1)
    vectors = (stats.reshaped(build, value, (type.shape[1],)) for value in (dweight, dbias))
    return [stats.cast(build, value, type.dtype) for value in (dx, *vectors)]


def _vjp(v: Vjp) -> Sequence[Value | None]:
    """Running statistics are state: no gradient reaches them, but one passes from their new values to x."""
    x, training = v.operand(0), bool(v.attrs["training"])
    dx: Value | None = None
    dweight: Value | None = None
    dbias: Value | None = None
    if v.gradients[0] is not None:
        dx, dweight, dbias = v.ops(
            "batch_norm_backward",
            v.gradients[0],
            x,
            v.result(1),
            v.result(2),
            v.operands[1],
            training=training,
        )
    if v.needed[0] and training:
        dx = stats.add_gradients(v.build, dx, _through_statistics(v), v.build.type(x).dtype)
    return [dx, dweight, dbias, None, None]


def _through_statistics(v: Vjp) -> Value | None:
    build, x = v.build, v.operand(0)
    type = build.type(x)
    momentum = attribute_number(v.node.attrs, "momentum")
    _, g_mean, g_rstd, g_new_mean, g_new_var = v.gradients
    if g_new_mean is not None:
        share = v.op("mul", g_new_mean, momentum)
        g_mean = share if g_mean is None else v.op("add", g_mean, share)
    g_variance = (
        None if g_new_var is None else v.op("mul", v.op("mul", g_new_var, momentum), _unbiased(build, x))
    )
    return stats.moment_gradient(
        build,
        stats.widen(build, x),
        _batch_axes(type),
        stats.along_channels(build, v.result(2), type.rank),
        mean=_per_channel(build, v.result(1), type.rank),
        g_mean=_per_channel(build, g_mean, type.rank),
        g_rstd=_per_channel(build, g_rstd, type.rank),
        g_variance=_per_channel(build, g_variance, type.rank),
    )


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=2)
    type = draw.type(x)
    statistic = _statistic(type)
    affine = draw.boolean()
    weight, bias = (draw.param(statistic.shape, type.dtype) if affine else None for _ in range(2))
    running = [draw.buffer(statistic.shape, statistic.dtype) for _ in range(2)]
    values = product(type.shape[axis] for axis in _batch_axes(type))
    least = evaluate_size(
        values, dict.fromkeys(size_symbols(values), 2)
    )  # the least value that symbols are given
    return [x, weight, bias, *running], {"training": draw.boolean() and least > 1}


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=2)
    type = draw.type(x)
    statistic = _statistic(type)
    g = draw.tensor(type.shape, type.dtype)
    mean, rstd = (draw.tensor(statistic.shape, statistic.dtype) for _ in range(2))
    weight = draw.param(statistic.shape, type.dtype) if draw.boolean() else None
    return [g, x, mean, rstd, weight], {"training": draw.boolean()}


define(
    Operator(
        name="batch_norm",
        doc="`(x - mean) * rstd * weight + bias` with statistics of each channel (Ioffe and Szegedy 2015). "
        "`x` [N, C, ...], all others [C]; running statistics are float32 (float64 for float64 `x`) and "
        "move by `momentum` towards the batch's mean and unbiased variance.",
        lowering=Decompose(_define),
        inputs=(
            Input("x"),
            *stats.affine_inputs(axis=1),
            Input("running_mean", Role.BUFFER, shape=_channels, init="zeros"),
            Input("running_var", Role.BUFFER, shape=_channels, init="ones"),
        ),
        attributes=(TRAINING, MOMENTUM, EPS, AFFINE, INIT),
        results=("result", "mean", "rstd", "new_running_mean", "new_running_var"),
        infer=_infer,
        reference="esper.ops.reference.normalization:batch_norm",
        vjp=_vjp,
        cost=lambda site: traffic(site, site.type(0).elements * 8),
        sample=_sample,
        updates={3: 3, 4: 4},
    )
)

define(
    Operator(
        name="batch_norm_backward",
        doc="The gradients of `x`, `weight` and `bias` of `batch_norm`, from the gradient `g` of its result.",
        lowering=Decompose(_define_backward),
        inputs=(Input("g"), Input("x"), Input("mean"), Input("rstd"), Input("weight", optional=True)),
        attributes=(Attribute("training", Kind.BOOL, doc="whether `mean` and `rstd` are the batch's own"),),
        results=("dx", "dweight", "dbias"),
        infer=_infer_backward,
        reference="esper.ops.reference.normalization:batch_norm_backward",
        no_gradient="second derivatives are not supported",
        cost=lambda site: traffic(site, site.type(0).elements * 14),
        sample=_sample_backward,
        in_language=False,
    )
)
