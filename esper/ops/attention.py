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
from esper.ir.types import DType, TensorType, broadcast_shapes
from esper.ops.optional_dropout import DROPOUT, OFFSET, SEED, UNDRAWN, draw_dropout, require_draws
from esper.ops.rules import traffic
from esper.ops.statistics import statistics_dtype

_Q, _K, _V = Input("q"), Input("k"), Input("v")
_MASK = Input("mask", optional=True, doc="what may attend (bool), or what is added to the scores")
_CAUSAL = Attribute("causal", Kind.BOOL, False, doc="whether query i sees keys 0 to i only, whatever T and S")
_ATTRIBUTES = (
    _CAUSAL,
    Attribute("scale", Kind.FLOAT, 0.0, doc="factor on the scores; 0 is `1 / sqrt(D)`"),
    DROPOUT,
    OFFSET,
)


def _result_types(site: Site) -> tuple[TensorType, TensorType]:
    q, k, v = (site.type(index) for index in range(3))
    mask, seed = site.types[3:5]
    for index, (name, type) in enumerate((("q", q), ("k", k), ("v", v))):
        site.require(type.dtype.is_floating, f"`{name}` is {type}, expected a floating dtype")
        site.require(type.rank == 4, f"`{name}` is {type}, expected [B, H, T, D]")
        site.require(type.dtype is q.dtype, f"`{name}` is {type}, but `q` has dtype {q.dtype}")
        reason = f"`{name}` is {type}: its batch is not that of {q}, or its heads do not divide those"
        site.require(q.shape[1] % type.shape[1] == 0, reason)
        site.require_same_size((index, 0), (0, 0), reason)
    site.require_same_size((1, 1), (2, 1), f"`k` is {k} and `v` is {v}: their heads differ")
    site.require_same_size((0, 3), (1, 3), f"`q` is {q} and `k` is {k}: their last axes differ")
    site.require_same_size((1, 2), (2, 2), f"`k` is {k} and `v` is {v}: their lengths differ")
    if mask is not None:
        scores = (*q.shape[:3], k.shape[2])
        site.require(
            mask.dtype in (DType.BOOL, q.dtype),
            f"`mask` is {mask}, expected bool or the dtype {q.dtype} of `q`",
        )
        site.require(
            broadcast_shapes(mask.shape, scores) == scores,
            f"`mask` is {mask}, which does not broadcast to {q.with_shape(scores)}",
        )
    scale = site.number("scale")
    site.require(scale >= 0.0, f"`scale` is {scale}, expected zero or more")
    require_draws(site, seed)
    return q.with_shape((*q.shape[:3], v.shape[3])), TensorType(statistics_dtype(q.dtype), q.shape[:3])


def _infer_backward(site: Site) -> Sequence[TensorType]:
    result, logsumexp = _result_types(site)
    for index, expected in enumerate((result, logsumexp, result, logsumexp), start=5):
        found = site.types[index]
        site.require(
            found is None or found == expected,
            f"`{site.op.inputs[index].name}` is {found}, expected {expected}",
        )
    gradients = [site.type(index) for index in range(3)]
    if site.flag("mask_gradient"):
        mask = site.types[3]
        site.require(
            mask is not None and mask.dtype.is_floating,
            f"`mask` is {mask or 'left out'}, which has no gradient",
        )
        gradients.append(site.type(3))
    return gradients


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
    gradients = v.ops(
        "scaled_dot_product_attention_backward",
        *v.operands,
        v.result(0),
        v.result(1),
        *v.gradients,
        mask_gradient=v.needed[3],
        **v.attrs,
    )
    return [*gradients[:3], gradients[3] if v.needed[3] else None, None]


def _sample(draw: Sampler) -> tuple[list[Value | None], dict[str, AttrValue]]:
    k = draw.tensor(dtype=draw.dtype(), min_rank=4, max_rank=4)
    batch, kv_heads, length, width = draw.type(k).shape
    dtype = draw.type(k).dtype
    q = draw.tensor((batch, kv_heads * draw.integer(1, 2), draw.integer(1, 4), width), dtype)
    v = draw.tensor((batch, kv_heads, length, draw.integer(1, 4)), dtype)
    mask = None
    if draw.boolean():
        shape = (*draw.type(q).shape[:3], length)[draw.integer(0, 4) :]
        sizes = tuple(1 if draw.boolean() else size for size in shape)
        mask = draw.tensor(sizes, draw.choice((DType.BOOL, dtype)))
    seed, attrs = draw_dropout(draw)
    return [q, k, v, mask, seed], {"causal": draw.boolean(), "scale": draw.choice((0.0, 0.5)), **attrs}


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, attrs = _sample(draw)
    q, v, mask = operands[0], operands[2], operands[3]
    assert q is not None and v is not None
    result = draw.type(q).with_shape((*draw.type(q).shape[:3], draw.type(v).shape[3]))
    logsumexp = TensorType(statistics_dtype(result.dtype), result.shape[:3])
    operands += [draw.tensor(type.shape, type.dtype) for type in (result, logsumexp)]
    operands.append(draw.tensor(result.shape, result.dtype))
    operands.append(draw.tensor(logsumexp.shape, logsumexp.dtype) if draw.boolean() else None)
    has_gradient = mask is not None and draw.type(mask).dtype.is_floating
    return operands, {**attrs, "mask_gradient": has_gradient and draw.boolean()}


define(
    Operator(
        name="scaled_dot_product_attention",
        doc="`softmax(q k' * scale + mask) v` for each head (Vaswani et al. 2017). `q` [B, H, T, D], `k` [B, "
        "K, S, D], `v` [B, K, S, E], where K divides H and consecutive heads of `q` share one of `k` and `v` "
        "(Ainslie et al. 2023): the result [B, H, T, E], and the logarithm of each softmax's denominator "
        "[B, H, T], float32 (float64 for float64 operands). `mask` broadcasts to [B, H, T, S]: where a "
        "boolean one is false, a query does not see a key; one of `q`'s dtype is added to the scores. A "
        "query that "
        "sees no key has zeros for its result, its logarithm and its gradients. `dropout` acts on the "
        "weights, by the counter of (seed, offset, index in [B, H, T, S]).",
        lowering=Outside(),
        inputs=(_Q, _K, _V, _MASK, SEED),
        attributes=_ATTRIBUTES,
        results=("result", "logsumexp"),
        infer=_result_types,
        reference="esper.ops.reference.attention:attention",
        first_result_reference="esper.ops.reference.attention:attention_result",
        vjp=_vjp,
        cost=_cost,
        sample=_sample,
        random=True,
        undrawn=UNDRAWN,
    )
)

define(
    Operator(
        name="scaled_dot_product_attention_backward",
        doc="The gradients of `q`, `k`, `v`, and with `mask_gradient` of the added mask, of "
        "`scaled_dot_product_attention`, from its results and their gradients (Dao et al. 2022, "
        "FlashAttention, section B.2).",
        lowering=Outside(),
        inputs=(
            _Q,
            _K,
            _V,
            _MASK,
            SEED,
            Input("result"),
            Input("logsumexp"),
            Input("g", optional=True),
            Input("g_logsumexp", optional=True),
        ),
        attributes=(
            *_ATTRIBUTES,
            Attribute("mask_gradient", Kind.BOOL, False, doc="whether to give the gradient of `mask`"),
        ),
        results=("dq", "dk", "dv", "dmask"),
        variadic_results=True,
        infer=_infer_backward,
        reference="esper.ops.reference.attention:attention_backward",
        no_gradient="second derivatives are not supported",
        cost=_cost_backward,
        sample=_sample_backward,
        in_language=False,
        random=True,
        undrawn=UNDRAWN,
    )
)
