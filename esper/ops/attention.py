"""Scaled dot-product attention, and its gradient, which reads the log-sum-exp of the scores."""

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
from esper.ops.attention_steps import (
    ATTRIBUTES,
    OPERANDS,
    forward_cost,
    gradients,
    heads_beside_columns,
    result_types,
    sample,
    scores,
)
from esper.ops.optional_dropout import UNDRAWN
from esper.ops.rules import traffic
from esper.ops.statistics import statistics_dtype


def _infer_backward(site: Site) -> Sequence[TensorType]:
    result, logsumexp = result_types(site)
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


def _cost_backward(site: Site) -> Cost:
    """Five products: the scores again, then the gradients of weights, v, q and k."""
    return traffic(site, scores(site) * (site.type(0).shape[3] * 3 + site.type(2).shape[3] * 2) * 2)


def _define(build: Builder, node: Node) -> Sequence[Value]:
    result, logsumexp = build.ops("attention_forward", *node.operands, name=None, span=None, **node.attrs)
    return [heads_beside_columns(build, result), logsumexp]


def _define_backward(build: Builder, node: Node) -> Sequence[Value]:
    result, logsumexp, g, g_logsumexp = node.operands[5:]
    assert result is not None and logsumexp is not None
    attrs = dict(node.attrs)
    mask_gradient = bool(attrs.pop("mask_gradient"))
    return gradients(build, node.operands[:5], result, logsumexp, g, g_logsumexp, attrs, mask_gradient)


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


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, attrs = sample(draw)
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
        lowering=Decompose(_define),
        inputs=OPERANDS,
        attributes=ATTRIBUTES,
        results=("result", "logsumexp"),
        infer=result_types,
        reference="esper.ops.reference.attention:attention",
        first_result_reference="esper.ops.reference.attention:attention_result",
        vjp=_vjp,
        cost=forward_cost,
        sample=sample,
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
        lowering=Decompose(_define_backward),
        inputs=(
            *OPERANDS,
            Input("result"),
            Input("logsumexp"),
            Input("g", optional=True),
            Input("g_logsumexp", optional=True),
        ),
        attributes=(
            *ATTRIBUTES,
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
