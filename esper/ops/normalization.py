"""Norms over the last axis. Each returns its statistics, which its gradient, an operator of its own, reads.

Statistics keep the last axis with size 1 and are float32 (float64 for float64 operands), whatever x is.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Cost,
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
from esper.ops.rules import attribute_number, require_floating, traffic

EPS = Attribute("eps", Kind.FLOAT, 1e-5, doc="added to the variance before the square root", positive=True)
AFFINE = Attribute("affine", Kind.BOOL, True, doc="whether a scale and a shift follow", stored=False)
INIT = Attribute(
    "init",
    Kind.STRING,
    "",
    doc="initialiser of the scale; `zeros` makes a branch that ends here start at zero (Goyal et al. 2017)",
    stored=False,
)


def row_statistic(x: TensorType) -> TensorType:
    """One statistic for each row of x."""
    return TensorType(stats.statistics_dtype(x.dtype), (*x.shape[:-1], 1))


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x = site.type(0)
    site.require(x.rank >= 1, f"`x` is {x}, expected at least one axis")
    for index in range(1, len(site.op.inputs)):
        stats.require_vector(site, index, x.shape[-1], x.dtype)
    return [x, *(row_statistic(x) for _ in site.op.results[1:])]


def _infer_backward(site: Site) -> Sequence[TensorType]:
    """Operands g, x, the row statistics, weight; results dx and the gradients of the affine parameters."""
    require_floating(site)
    g, x = site.type(0), site.type(1)
    site.require(
        x.rank >= 1 and g == x, f"`g` is {g} and `x` is {x}, expected one type with at least one axis"
    )
    for index in range(2, len(site.types) - 1):
        found = site.type(index)
        site.require(
            found == row_statistic(x),
            f"`{site.op.input_of(index).name}` is {found}, expected {row_statistic(x)}",
        )
    stats.require_vector(site, len(site.types) - 1, x.shape[-1], x.dtype)
    return [x, *(TensorType(x.dtype, x.shape[-1:]) for _ in site.op.results[1:])]


def _cost(site: Site) -> Cost:
    return traffic(site, site.type(0).elements * 8)


def _cost_backward(site: Site) -> Cost:
    return traffic(site, site.type(0).elements * 14)


def _define_layer_norm(build: Builder, node: Node) -> Sequence[Value]:
    x, weight, bias = node.operands
    assert x is not None
    type = build.type(x)
    wide = stats.widen(build, x)
    found = stats.moments(build, wide, (type.rank - 1,), attribute_number(node.attrs, "eps"))
    y = stats.scaled_and_shifted(build, build.op("mul", found.centered, found.rstd), weight, bias, axis=-1)
    return [stats.cast(build, y, type.dtype), found.mean, found.rstd]


def _define_layer_norm_backward(build: Builder, node: Node) -> Sequence[Value]:
    g, x, mean, rstd, weight = node.operands
    assert g is not None and x is not None and mean is not None and rstd is not None
    type = build.type(x)
    wide = stats.widen(build, g)
    xhat = build.op("mul", build.op("sub", stats.widen(build, x), mean), rstd)
    scaled = stats.scaled_and_shifted(build, wide, weight, None, axis=-1)
    dx = stats.normalized_gradient(build, scaled, xhat, rstd, (type.rank - 1,))
    rows = range(type.rank - 1)
    dweight = stats.total(build, build.op("mul", wide, xhat), rows)
    dbias = stats.total(build, wide, rows)
    return [stats.cast(build, value, type.dtype) for value in (dx, dweight, dbias)]


def _layer_norm_vjp(v: Vjp) -> Sequence[Value | None]:
    build, x = v.build, v.operand(0)
    g, g_mean, g_rstd = v.gradients
    dx: Value | None = None
    dweight: Value | None = None
    dbias: Value | None = None
    if g is not None:
        dx, dweight, dbias = v.ops("layer_norm_backward", g, x, v.result(1), v.result(2), v.operands[1])
    if v.needed[0]:
        extra = stats.moment_gradient(
            build,
            stats.widen(build, x),
            (build.type(x).rank - 1,),
            v.result(2),
            mean=v.result(1),
            g_mean=g_mean,
            g_rstd=g_rstd,
        )
        dx = stats.add_gradients(build, dx, extra, build.type(x).dtype)
    return [dx, dweight, dbias]


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=1)
    type = draw.type(x)
    affine = draw.boolean()
    return [
        x,
        draw.param(type.shape[-1:], type.dtype) if affine else None,
        draw.param(type.shape[-1:], type.dtype) if affine else None,
    ], {"eps": 1e-5}


def _sample_rms(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, attrs = _sample(draw)
    return operands[:2], attrs


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, _ = _sample(draw)
    x = operands[0]
    assert x is not None
    type = draw.type(x)
    statistic = row_statistic(type)
    mean = draw.tensor(statistic.shape, statistic.dtype)
    rstd = draw.tensor(statistic.shape, statistic.dtype)
    return [draw.tensor(type.shape, type.dtype), x, mean, rstd, operands[1]], {}


def _sample_rms_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    (g, x, _, rstd, weight), attrs = _sample_backward(draw)
    return [g, x, rstd, weight], attrs


define(
    Operator(
        name="layer_norm",
        doc="`(x - mean) * rstd * weight + bias` over the last axis (Ba, Kiros and Hinton 2016). `x` [..., "
        "K], `weight` and `bias` [K]; `mean` and `rstd = 1 / sqrt(variance + eps)` are [..., 1].",
        lowering=Decompose(_define_layer_norm),
        inputs=(Input("x"), *stats.affine_inputs(axis=-1)),
        attributes=(EPS, AFFINE, INIT),
        results=("result", "mean", "rstd"),
        infer=_infer,
        reference="esper.ops.reference.normalization:layer_norm",
        first_result_reference="esper.ops.reference.normalization:layer_norm_result",
        vjp=_layer_norm_vjp,
        cost=_cost,
        sample=_sample,
    )
)

define(
    Operator(
        name="layer_norm_backward",
        doc="The gradients of `x`, `weight` and `bias` of `layer_norm`, from the gradient `g` of its result.",
        lowering=Decompose(_define_layer_norm_backward),
        inputs=(Input("g"), Input("x"), Input("mean"), Input("rstd"), Input("weight", optional=True)),
        results=("dx", "dweight", "dbias"),
        infer=_infer_backward,
        reference="esper.ops.reference.normalization:layer_norm_backward",
        no_gradient="second derivatives are not supported",
        cost=_cost_backward,
        sample=_sample_backward,
        in_language=False,
    )
)


def _define_rms_norm(build: Builder, node: Node) -> Sequence[Value]:
    x, weight = node.operands
    assert x is not None
    type = build.type(x)
    wide = stats.widen(build, x)
    square = stats.average(build, build.op("mul", wide, wide), (type.rank - 1,))
    rstd = build.op("rsqrt", build.op("add", square, attribute_number(node.attrs, "eps")))
    y = stats.scaled_and_shifted(build, build.op("mul", wide, rstd), weight, None, axis=-1)
    return [stats.cast(build, y, type.dtype), rstd]


def _define_rms_norm_backward(build: Builder, node: Node) -> Sequence[Value]:
    g, x, rstd, weight = node.operands
    assert g is not None and x is not None and rstd is not None
    type = build.type(x)
    wide = stats.widen(build, g)
    xhat = build.op("mul", stats.widen(build, x), rstd)
    scaled = stats.scaled_and_shifted(build, wide, weight, None, axis=-1)
    dx = stats.normalized_gradient(build, scaled, xhat, rstd, (type.rank - 1,), centered=False)
    dweight = stats.total(build, build.op("mul", wide, xhat), range(type.rank - 1))
    return [stats.cast(build, value, type.dtype) for value in (dx, dweight)]


def _rms_norm_vjp(v: Vjp) -> Sequence[Value | None]:
    build, x = v.build, v.operand(0)
    g, g_rstd = v.gradients
    dx: Value | None = None
    dweight: Value | None = None
    if g is not None:
        dx, dweight = v.ops("rms_norm_backward", g, x, v.result(1), v.operands[1])
    if v.needed[0]:
        extra = stats.moment_gradient(
            build, stats.widen(build, x), (build.type(x).rank - 1,), v.result(1), g_rstd=g_rstd
        )
        dx = stats.add_gradients(build, dx, extra, build.type(x).dtype)
    return [dx, dweight]


define(
    Operator(
        name="rms_norm",
        doc="`x * rstd * weight` over the last axis (Zhang and Sennrich 2019). `x` [..., K], `weight` [K]; "
        "`rstd = 1 / sqrt(mean(x * x) + eps)` is [..., 1].",
        lowering=Decompose(_define_rms_norm),
        inputs=(Input("x"), *stats.affine_inputs(axis=-1, bias=False)),
        attributes=(EPS, AFFINE, INIT),
        results=("result", "rstd"),
        infer=_infer,
        reference="esper.ops.reference.normalization:rms_norm",
        first_result_reference="esper.ops.reference.normalization:rms_norm_result",
        vjp=_rms_norm_vjp,
        cost=_cost,
        sample=_sample_rms,
    )
)

define(
    Operator(
        name="rms_norm_backward",
        doc="The gradients of `x` and `weight` of `rms_norm`, from the gradient `g` of its result.",
        lowering=Decompose(_define_rms_norm_backward),
        inputs=(Input("g"), Input("x"), Input("rstd"), Input("weight", optional=True)),
        results=("dx", "dweight"),
        infer=_infer_backward,
        reference="esper.ops.reference.normalization:rms_norm_backward",
        no_gradient="second derivatives are not supported",
        cost=_cost_backward,
        sample=_sample_rms_backward,
        in_language=False,
    )
)
