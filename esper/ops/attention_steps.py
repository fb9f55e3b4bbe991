"""What attention and its gradient consist of: each of these is one kernel, or one call of PyTorch.

`result`, `dq`, `dk` and `dv` have their heads beside their last axis, as projections make and read them, so
that neither side of attention has to move elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size, product
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
    Sample,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import DType, TensorType, broadcast_shapes
from esper.ops.optional_dropout import DROPOUT, OFFSET, SEED, UNDRAWN, draw_dropout, require_draws
from esper.ops.rules import traffic
from esper.ops.statistics import statistics_dtype, widen

OPERANDS = (
    Input("q"),
    Input("k"),
    Input("v"),
    Input("mask", optional=True, doc="what may attend (bool), or what is added to the scores"),
    SEED,
)
ATTRIBUTES = (
    Attribute("causal", Kind.BOOL, False, doc="whether query i sees keys 0 to i only, whatever T and S"),
    Attribute("scale", Kind.FLOAT, 0.0, doc="factor on the scores; 0 is `1 / sqrt(D)`"),
    DROPOUT,
    OFFSET,
)


def result_types(site: Site) -> tuple[TensorType, TensorType]:
    """The types of the result [B, H, T, E] and the log-sum-exp [B, H, T], for operands that fit together."""
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


def beside_columns(type: TensorType) -> TensorType:
    """[B, H, T, D] with its heads beside the last axis: [B, T, H, D]."""
    batch, heads, rows, columns = type.shape
    return type.with_shape((batch, rows, heads, columns))


def heads_beside_columns(build: Builder, value: Value) -> Value:
    """[B, H, T, D] as [B, T, H, D], and the other way round."""
    return build.op("permute", value, axes=(0, 2, 1, 3))


def gradients(
    build: Builder,
    operands: Sequence[Value | None],
    result: Value,
    logsumexp: Value,
    g: Value | None,
    g_logsumexp: Value | None,
    attrs: Attrs,
    mask_gradient: bool,
) -> list[Value]:
    """The gradients of q, k, v, and with `mask_gradient` of the mask.

    operands: of `OPERANDS`. result, g: [B, H, T, E], of one type; no `g` means zeros. logsumexp,
    g_logsumexp: [B, H, T]. attrs: of `ATTRIBUTES`.
    """
    type = build.type(result)
    if g is None:
        g = build.op("broadcast_to", build.constant(0.0, type.dtype), shape=type.shape)
    along = [widen(build, heads_beside_columns(build, value)) for value in (g, result)]
    sums = build.op("sum", build.op("mul", *along), axes=(3,), keepdims=False)
    delta = build.op("permute", sums, axes=(0, 2, 1))
    if g_logsumexp is not None:
        delta = build.op("sub", delta, g_logsumexp)
    given = (*operands, logsumexp, g, delta)
    found = [
        heads_beside_columns(build, value)
        for name in ("attention_query_grad", "attention_key_value_grad")
        for value in build.ops(name, *given, name=None, span=None, **attrs)
    ]
    return (
        [*found, *build.ops("attention_mask_grad", *given, name=None, span=None, **attrs)]
        if mask_gradient
        else found
    )


def scores(site: Site) -> Size:
    """The number of scores, one for each query and key."""
    return product(site.type(0).shape[:3]) * site.type(1).shape[2]


def forward_cost(site: Site) -> Cost:
    """Two products: queries with keys, weights with values."""
    return traffic(site, scores(site) * (site.type(0).shape[3] + site.type(2).shape[3]) * 2)


def sample(draw: Sampler) -> tuple[list[Value | None], dict[str, AttrValue]]:
    """Operands and attributes that `result_types` accepts."""
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


def _vjp(v: Vjp) -> Sequence[Value | None]:
    g, g_logsumexp = v.gradients
    found = gradients(
        v.build,
        v.operands,
        heads_beside_columns(v.build, v.result(0)),
        v.result(1),
        None if g is None else heads_beside_columns(v.build, g),
        g_logsumexp,
        v.attrs,
        v.needed[3],
    )
    return [*found[:3], found[3] if v.needed[3] else None, None]


def _infer_forward(site: Site) -> Sequence[TensorType]:
    result, logsumexp = result_types(site)
    return beside_columns(result), logsumexp


def _given_types(site: Site) -> None:
    """Refuses `logsumexp`, `g` or `delta` of other types than the forward pass implies."""
    result, logsumexp = result_types(site)
    for index, expected in enumerate((logsumexp, result, logsumexp), start=5):
        found = site.type(index)
        site.require(found == expected, f"`{site.op.inputs[index].name}` is {found}, expected {expected}")


def _infer_query_grad(site: Site) -> Sequence[TensorType]:
    _given_types(site)
    return (beside_columns(site.type(0)),)


def _infer_key_value_grad(site: Site) -> Sequence[TensorType]:
    _given_types(site)
    return beside_columns(site.type(1)), beside_columns(site.type(2))


def _infer_mask_grad(site: Site) -> Sequence[TensorType]:
    _given_types(site)
    mask = site.types[3]
    site.require(
        mask is not None and mask.dtype.is_floating, f"`mask` is {mask or 'left out'}, which has no gradient"
    )
    return (site.type(3),)


def _query_cost(site: Site) -> Cost:
    """Three products: the scores, and the gradients of the weights and of q."""
    return traffic(site, scores(site) * (site.type(0).shape[3] * 2 + site.type(2).shape[3]) * 2)


def _key_value_cost(site: Site) -> Cost:
    """Four products: the scores, and the gradients of the weights, of v and of k."""
    return traffic(site, scores(site) * (site.type(0).shape[3] + site.type(2).shape[3]) * 4)


def _sample_gradient(draw: Sampler) -> tuple[list[Value | None], dict[str, AttrValue]]:
    operands, attrs = sample(draw)
    q, v = operands[0], operands[2]
    assert q is not None and v is not None
    result = draw.type(q).with_shape((*draw.type(q).shape[:3], draw.type(v).shape[3]))
    statistic = TensorType(statistics_dtype(result.dtype), result.shape[:3])
    operands += [draw.tensor(type.shape, type.dtype) for type in (statistic, result, statistic)]
    return operands, attrs


def _sample_mask_gradient(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, attrs = _sample_gradient(draw)
    q, mask = operands[0], operands[3]
    assert q is not None
    if mask is None or not draw.type(mask).dtype.is_floating:
        operands[3] = draw.tensor((), draw.type(q).dtype)
    return operands, attrs


define(
    Operator(
        name="attention_forward",
        doc="`scaled_dot_product_attention` with its result as [B, T, H, E].",
        lowering=Outside(),
        inputs=OPERANDS,
        attributes=ATTRIBUTES,
        results=("result", "logsumexp"),
        infer=_infer_forward,
        reference="esper.ops.reference.attention:attention_forward",
        first_result_reference="esper.ops.reference.attention:attention_forward_result",
        vjp=_vjp,
        cost=forward_cost,
        sample=sample,
        in_language=False,
        random=True,
        undrawn=UNDRAWN,
    )
)


def _gradient(
    name: str,
    doc: str,
    results: tuple[str, ...],
    infer: Callable[[Site], Sequence[TensorType]],
    cost: Callable[[Site], Cost],
    sample: Sample,
) -> None:
    define(
        Operator(
            name=name,
            doc=f"{doc} `delta` [B, H, T] is the sum of `g` times the result over E, less the gradient of "
            "the log-sum-exp.",
            lowering=Outside(),
            inputs=(*OPERANDS, Input("logsumexp"), Input("g"), Input("delta")),
            attributes=ATTRIBUTES,
            results=results,
            infer=infer,
            reference=f"esper.ops.reference.attention:{name}",
            no_gradient="second derivatives are not supported",
            cost=cost,
            sample=sample,
            in_language=False,
            random=True,
            undrawn=UNDRAWN,
        )
    )


_gradient(
    "attention_query_grad",
    "The gradient of `q` of `scaled_dot_product_attention`, as [B, T, H, D].",
    ("dq",),
    _infer_query_grad,
    _query_cost,
    _sample_gradient,
)
_gradient(
    "attention_key_value_grad",
    "The gradients of `k` and `v` of `scaled_dot_product_attention`, as [B, S, K, D] and [B, S, K, E].",
    ("dk", "dv"),
    _infer_key_value_grad,
    _key_value_cost,
    _sample_gradient,
)
_gradient(
    "attention_mask_grad",
    "The gradient of the added `mask` of `scaled_dot_product_attention`.",
    ("dmask",),
    _infer_mask_grad,
    forward_cost,
    _sample_mask_gradient,
)
