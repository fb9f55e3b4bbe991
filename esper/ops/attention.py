"""Scaled dot-product attention, run by PyTorch; the gradient reads the log-sum-exp of the scores."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Size, product
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
from esper.ops.rules import require_floating, traffic
from esper.ops.statistics import statistics_dtype

_ATTRIBUTES = (
    Attribute("causal", Kind.BOOL, False, doc="whether query i sees keys 0 to i only"),
    Attribute("scale", Kind.FLOAT, 0.0, doc="factor on the scores; 0 is `1 / sqrt(D)`"),
)


def _result_types(site: Site, q: TensorType, k: TensorType, v: TensorType) -> tuple[TensorType, TensorType]:
    for name, type in (("q", q), ("k", k), ("v", v)):
        site.require(type.rank == 4, f"`{name}` is {type}, expected [B, H, T, D]")
        site.require(type.dtype is q.dtype, f"`{name}` is {type}, but `q` has dtype {q.dtype}")
        site.require(
            type.shape[:2] == q.shape[:2], f"`{name}` is {type}: its batch and heads are not those of {q}"
        )
    site.require(q.shape[3] == k.shape[3], f"`q` is {q} and `k` is {k}: their last axes differ")
    site.require(k.shape[2] == v.shape[2], f"`k` is {k} and `v` is {v}: their lengths differ")
    scale = site.number("scale")
    site.require(scale >= 0.0, f"`scale` is {scale}, expected zero or more")
    return q.with_shape((*q.shape[:3], v.shape[3])), TensorType(statistics_dtype(q.dtype), q.shape[:3])


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    return _result_types(site, site.type(0), site.type(1), site.type(2))


def _infer_backward(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    q, k, v = site.type(0), site.type(1), site.type(2)
    result, logsumexp = _result_types(site, q, k, v)
    for index, expected in enumerate((result, logsumexp, result, logsumexp), start=3):
        found = site.types[index]
        site.require(
            found is None or found == expected,
            f"`{site.op.inputs[index].name}` is {found}, expected {expected}",
        )
    return [q, k, v]


def _scores(site: Site) -> Size:
    """The number of scores, one for each query and key."""
    return product(site.type(0).shape[:3]) * site.type(1).shape[2]


def _cost(site: Site) -> Cost:
    """Two products: queries with keys, weights with values."""
    return traffic(site, _scores(site) * (site.type(0).shape[3] + site.type(2).shape[3]) * 2)


def _cost_backward(site: Site) -> Cost:
    """Five products: the scores again, then the gradients of weights, v, q and k."""
    return traffic(site, _scores(site) * (site.type(0).shape[3] * 3 + site.type(2).shape[3] * 2) * 2)


def _vjp(v: Vjp) -> Sequence[Value | None]:
    g, g_logsumexp = v.gradients
    return v.ops(
        "scaled_dot_product_attention_backward",
        *v.operands,
        v.result(0),
        v.result(1),
        g,
        g_logsumexp,
        **v.attrs,
    )


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    q = draw.tensor(dtype=draw.dtype(), min_rank=4, max_rank=4)
    batch, heads, _, width = draw.type(q).shape
    length = draw.integer(1, 4)
    k = draw.tensor((batch, heads, length, width), draw.type(q).dtype)
    v = draw.tensor((batch, heads, length, draw.integer(1, 4)), draw.type(q).dtype)
    return [q, k, v], {"causal": draw.boolean(), "scale": draw.choice((0.0, 0.5))}


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    (q, k, v), attrs = _sample(draw)
    assert q is not None and k is not None and v is not None
    result = draw.type(q).with_shape((*draw.type(q).shape[:3], draw.type(v).shape[3]))
    logsumexp = TensorType(statistics_dtype(result.dtype), result.shape[:3])
    residuals = [draw.tensor(type.shape, type.dtype) for type in (result, logsumexp)]
    g = draw.tensor(result.shape, result.dtype)
    return [
        q,
        k,
        v,
        *residuals,
        g,
        draw.tensor(logsumexp.shape, logsumexp.dtype) if draw.boolean() else None,
    ], attrs


define(
    Operator(
        name="scaled_dot_product_attention",
        doc="`softmax(q k' * scale) v` for each head (Vaswani et al. 2017). `q` [B, H, T, D], `k` [B, H, S, "
        "D], `v` [B, H, S, E]: the result [B, H, T, E], and the logarithm of each softmax's denominator "
        "[B, H, T], float32 (float64 for float64 operands).",
        lowering=Outside(),
        inputs=(Input("q"), Input("k"), Input("v")),
        attributes=_ATTRIBUTES,
        results=("result", "logsumexp"),
        infer=_infer,
        reference="esper.ops.reference.attention:attention",
        first_result_reference="esper.ops.reference.attention:attention_result",
        vjp=_vjp,
        cost=_cost,
        sample=_sample,
    )
)

define(
    Operator(
        name="scaled_dot_product_attention_backward",
        doc="The gradients of `q`, `k` and `v` of `scaled_dot_product_attention`, from its results and their"
        " gradients (Dao et al. 2022, FlashAttention, section B.2).",
        lowering=Outside(),
        inputs=(
            Input("q"),
            Input("k"),
            Input("v"),
            Input("result"),
            Input("logsumexp"),
            Input("g", optional=True),
            Input("g_logsumexp", optional=True),
        ),
        attributes=_ATTRIBUTES,
        results=("dq", "dk", "dv"),
        infer=_infer_backward,
        reference="esper.ops.reference.attention:attention_backward",
        no_gradient="second derivatives are not supported",
        cost=_cost_backward,
        sample=_sample_backward,
        in_language=False,
    )
)
