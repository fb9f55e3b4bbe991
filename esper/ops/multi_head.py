"""Multi-head attention: projections around `scaled_dot_product_attention`."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size
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
    Sampler,
    Site,
    define,
)
from esper.ir.types import DType, TensorType, broadcast_shapes
from esper.ops.optional_dropout import DROPOUT, OFFSET, SEED, UNDRAWN, draw_dropout, require_draws
from esper.ops.projection import BIAS, INIT, draw_layer, layer_inputs, project, require_layer
from esper.ops.rules import attribute_integer, traffic

_X, _CONTEXT, _MASK, _SEED = range(4)
_Q, _K, _V, _OUT = range(4, 12, 2)


def _source(c: Creation) -> TensorType:
    return c.types.get("context", c.types["x"])


def _head(features: Size, heads: int) -> Size:
    """The size of one head; a number of heads that divides nothing is refused by the type rule."""
    return features // max(heads, 1)


def _kv_features(c: Creation) -> Size:
    heads, kv_heads = (attribute_integer(c.arguments, name) for name in ("heads", "kv_heads"))
    return _head(c.types["x"].shape[-1], heads) * max(kv_heads or heads, 1)


def _infer(site: Site) -> Sequence[TensorType]:
    x, context = site.type(_X), site.types[_CONTEXT]
    source = x if context is None else context
    heads, kv_heads = site.integer("heads"), site.integer("kv_heads")
    for name, type in (("x", x), ("context", source)):
        site.require(type.dtype.is_floating, f"`{name}` is {type}, expected a floating dtype")
        site.require(type.rank == 3, f"`{name}` is {type}, expected [N, T, features]")
    site.require(
        source.dtype is x.dtype and source.shape[0] == x.shape[0],
        f"`context` is {source}: its dtype or batch is not that of {x}",
    )
    batch, length, features = x.shape
    site.require(heads >= 1, f"`heads` is {heads}, expected at least 1")
    known = "not" if isinstance(features, int) else "not known to be"
    reason = f"`x` is {x}: {features} is {known} divisible by heads = {heads}"
    site.require_size(_X, 2, features // heads * heads, reason)
    kv_heads = kv_heads or heads
    site.require(
        kv_heads >= 1 and heads % kv_heads == 0,
        f"`kv_heads` is {kv_heads}, expected a divisor of heads = {heads}",
    )
    mask = site.types[_MASK]
    scores = (batch, heads, length, source.shape[1])
    site.require(
        mask is None
        or (mask.dtype in (DType.BOOL, x.dtype) and broadcast_shapes(mask.shape, scores) == scores),
        f"`mask` is {mask}, expected bool or {x.dtype} that broadcasts to {x.with_shape(scores)}",
    )
    require_draws(site, site.types[_SEED])
    narrow = _head(features, heads) * kv_heads
    require_layer(site, _Q, x, features, features)
    require_layer(site, _K, x, narrow, source.shape[2])
    require_layer(site, _V, x, narrow, source.shape[2])
    require_layer(site, _OUT, x, features, features)
    return [x]


def _define(build: Builder, node: Node) -> Sequence[Value]:
    x, context, mask, seed = node.operands[:4]
    assert x is not None
    source = x if context is None else context
    heads = attribute_integer(node.attrs, "heads")
    kv_heads = attribute_integer(node.attrs, "kv_heads") or heads
    features = node.type.shape[2]

    def split(value: Value, index: int, count: int) -> Value:
        y = project(build, value, node.operands[index], node.operands[index + 1])
        shape = (*build.type(y).shape[:2], count, _head(features, heads))
        return build.op("permute", build.op("reshape", y, shape=shape), axes=(0, 2, 1, 3))

    attended = build.op(
        "scaled_dot_product_attention",
        split(x, _Q, heads),
        split(source, _K, kv_heads),
        split(source, _V, kv_heads),
        mask,
        seed,
        causal=node.attrs["causal"],
        dropout=node.attrs["dropout"],
        offset=node.attrs["offset"],
    )
    together = build.op("reshape", build.op("permute", attended, axes=(0, 2, 1, 3)), shape=node.type.shape)
    return [project(build, together, node.operands[_OUT], node.operands[_OUT + 1])]


def _cost(site: Site) -> Cost:
    """Four projections, the scores, and the weighted values."""
    x, context = site.type(_X), site.types[_CONTEXT]
    source = x if context is None else context
    features = x.shape[2]
    projections = x.elements * features * 2 + source.elements * site.type(_K).shape[0] * 2
    return traffic(site, projections * 2 + x.elements * source.shape[1] * 4)


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    heads = draw.choice((1, 2, 4))
    kv_heads = draw.choice([count for count in (1, 2, 4) if heads % count == 0])
    batch, length = draw.shape(2, 2)
    features = heads * draw.integer(1, 2)
    x = draw.tensor((batch, length, features), draw.dtype())
    type = draw.type(x)
    context = (
        draw.tensor((batch, draw.integer(1, 3), draw.integer(1, 4)), type.dtype) if draw.boolean() else None
    )
    source = type if context is None else draw.type(context)
    mask = None
    if draw.boolean():
        rows = 1 if draw.boolean() else length
        mask = draw.tensor((rows, source.shape[1]), draw.choice((DType.BOOL, type.dtype)))
    seed, attrs = draw_dropout(draw)
    has_bias, narrow = draw.boolean(), _head(features, heads) * kv_heads
    sizes = ((features, features), *[(narrow, source.shape[2])] * 2, (features, features))
    layers = [draw_layer(draw, type, rows, columns, has_bias) for rows, columns in sizes]
    operands = [x, context, mask, seed, *(operand for layer in layers for operand in layer)]
    given = 0 if kv_heads == heads else kv_heads
    return operands, {"heads": heads, "kv_heads": given, "causal": draw.boolean(), **attrs}


define(
    Operator(
        name="multi_head_attention",
        doc="Attention by several heads (Vaswani et al. 2017): `x` [N, T, features] is projected to queries, "
        "`context` [N, S, any] (`x` if left out) to keys and values, the heads attend, and their results "
        "side by side are projected back. `mask`, `causal` and `dropout` are those of "
        "`scaled_dot_product_attention`, with H = heads.",
        lowering=Composite(_define),
        inputs=(
            Input("x"),
            Input("context", optional=True, doc="what keys and values come from; `x` if left out"),
            Input("mask", optional=True, doc="what may attend (bool), or what is added to the scores"),
            SEED,
            *layer_inputs("_q", lambda c: c.types["x"].shape[-1], lambda c: c.types["x"].shape[-1]),
            *layer_inputs("_k", _kv_features, lambda c: _source(c).shape[-1]),
            *layer_inputs("_v", _kv_features, lambda c: _source(c).shape[-1]),
            *layer_inputs("", lambda c: c.types["x"].shape[-1], lambda c: c.types["x"].shape[-1]),
        ),
        attributes=(
            Attribute("heads", Kind.INT, doc="how many heads share the features"),
            Attribute("kv_heads", Kind.INT, 0, doc="heads of keys and values, a divisor; 0 is `heads`"),
            Attribute("causal", Kind.BOOL, False, doc="whether position i sees positions 0 to i only"),
            DROPOUT,
            OFFSET,
            BIAS,
            INIT,
        ),
        infer=_infer,
        reference="esper.ops.reference.multi_head:multi_head_attention",
        no_gradient="`expand` replaces it by its definition",
        cost=_cost,
        sample=_sample,
        random=True,
        undrawn=UNDRAWN,
    )
)
