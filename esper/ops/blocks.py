"""Larger pieces of networks: feed-forward layers, residuals with norms, channels scaled by their means."""

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
    Role,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops.normalization import AFFINE, EPS
from esper.ops.optional_dropout import DROPOUT, OFFSET, SEED, UNDRAWN, draw_dropout, require_draws
from esper.ops.projection import BIAS, INIT, draw_layer, layer_inputs, project, require_layer
from esper.ops.rules import attribute_number, require_floating, traffic

GATED = ("glu", "swiglu", "geglu", "reglu")
"""Activations that halve the hidden features."""

_HIDDEN = Attribute("hidden", Kind.DIM, doc="size of the hidden layer", stored=False)


def _dropped(build: Builder, node: Node, x: Value, seed: Value | None) -> Value:
    if seed is None:
        return x
    p, offset = attribute_number(node.attrs, "dropout"), node.attrs["offset"]
    return build.op("dropout", x, seed, p=p, offset=offset)


def _doubled(activation: AttrValue, hidden: Size) -> Size:
    return hidden * 2 if activation in GATED else hidden


def _infer_feed_forward(site: Site) -> Sequence[TensorType]:
    x, weight = site.type(0), site.type(4)
    site.require(x.dtype.is_floating, f"`x` is {x}, expected a floating dtype")
    site.require(x.rank >= 2, f"`x` is {x}, expected at least two axes")
    site.require(weight.rank == 2, f"`weight` is {weight}, expected two axes")
    features, hidden = x.shape[-1], weight.shape[1]
    require_layer(site, 2, x, _doubled(site.attrs["activation"], hidden), features)
    require_layer(site, 4, x, features, hidden)
    require_draws(site, site.types[1])
    return [x]


def _define_feed_forward(build: Builder, node: Node) -> Sequence[Value]:
    x, seed, weight_in, bias_in, weight, bias = node.operands
    assert x is not None
    hidden = build.op(str(node.attrs["activation"]), project(build, x, weight_in, bias_in))
    return [project(build, _dropped(build, node, hidden, seed), weight, bias)]


def _cost_feed_forward(site: Site) -> Cost:
    rows = site.type(2).shape[0] + site.type(4).shape[1]
    return traffic(site, site.type(0).elements * rows * 2)


def _sample_feed_forward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=2, max_rank=3)
    type = draw.type(x)
    activation = draw.choice(("gelu", "relu", "silu", *GATED))
    hidden, has_bias = draw.integer(1, 4), draw.boolean()
    seed, attrs = draw_dropout(draw)
    first = draw_layer(draw, type, _doubled(activation, hidden), type.shape[-1], has_bias)
    last = draw_layer(draw, type, type.shape[-1], hidden, has_bias)
    return [x, seed, *first, *last], {"activation": activation, **attrs}


define(
    Operator(
        name="feed_forward",
        doc="Two linear maps of the last axis with an activation between them (Vaswani et al. 2017), gated "
        "as in Shazeer 2020 if it is one of `glu`, `swiglu`, `geglu`, `reglu`; dropout acts on the hidden "
        "features.",
        lowering=Composite(_define_feed_forward),
        inputs=(
            Input("x"),
            SEED,
            *layer_inputs(
                "_in",
                lambda c: _doubled(c.arguments["activation"], c.size("hidden")),
                lambda c: c.types["x"].shape[-1],
            ),
            *layer_inputs("", lambda c: c.types["x"].shape[-1], lambda c: c.size("hidden")),
        ),
        attributes=(
            _HIDDEN,
            Attribute(
                "activation",
                Kind.STRING,
                "gelu",
                choices=("gelu", "relu", "silu", "tanh", "sigmoid", *GATED),
                doc="what stands between the layers",
            ),
            DROPOUT,
            OFFSET,
            BIAS,
            INIT,
        ),
        infer=_infer_feed_forward,
        reference="esper.ops.reference.blocks:feed_forward",
        no_gradient="`expand` replaces it by its definition",
        cost=_cost_feed_forward,
        sample=_sample_feed_forward,
        random=True,
        undrawn=UNDRAWN,
    )
)


def _infer_add_and_norm(site: Site) -> Sequence[TensorType]:
    x, y = site.type(0), site.type(1)
    site.require(x.dtype.is_floating, f"`x` is {x}, expected a floating dtype")
    reason = f"`y` is {y}, expected {x} as `x` is"
    site.require(y.dtype is x.dtype, reason)
    site.require_same_shape(1, 0, reason)
    site.require(x.rank >= 1, f"`x` is {x}, expected at least one axis")
    for index in (3, 4):
        found, expected = site.types[index], x.with_shape(x.shape[-1:])
        name = site.op.inputs[index].name
        site.require(found is None or found == expected, f"`{name}` is {found}, expected {expected}")
    require_draws(site, site.types[2])
    return [x]


def _define_add_and_norm(build: Builder, node: Node) -> Sequence[Value]:
    x, y, seed, weight, bias = node.operands
    assert y is not None
    total = build.op("add", x, _dropped(build, node, y, seed))
    return [build.op("layer_norm", total, weight, bias, eps=node.attrs["eps"])]


def _sample_add_and_norm(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=1)
    type = draw.type(x)
    seed, attrs = draw_dropout(draw)
    affine = [draw.param(type.shape[-1:], type.dtype) for _ in range(2)] if draw.boolean() else [None, None]
    return [x, draw.tensor(type.shape, type.dtype), seed, *affine], {"eps": 1e-3, **attrs}


def _affine(name: str, init: str) -> Input:
    return Input(
        name,
        Role.PARAM,
        optional=True,
        shape=lambda c: c.types["x"].shape[-1:],
        init=init,
        when="affine",
    )


define(
    Operator(
        name="add_and_norm",
        doc="`layer_norm(x + dropout(y))`: the residual of a layer `y` that is normalised afterwards "
        "(Vaswani et al. 2017).",
        lowering=Composite(_define_add_and_norm),
        inputs=(Input("x"), Input("y"), SEED, _affine("weight", "ones"), _affine("bias", "zeros")),
        attributes=(EPS, DROPOUT, OFFSET, AFFINE),
        infer=_infer_add_and_norm,
        reference="esper.ops.reference.blocks:add_and_norm",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, site.type(0).elements * 9),
        sample=_sample_add_and_norm,
        random=True,
        undrawn=UNDRAWN,
    )
)


def _infer_squeeze_excite(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x, weight = site.type(0), site.type(3)
    site.require(x.rank >= 3, f"`x` is {x}, expected [N, C, ...S]")
    site.require(weight.rank == 2, f"`weight` is {weight}, expected two axes")
    channels, hidden = x.shape[1], weight.shape[1]
    require_layer(site, 1, x, hidden, channels)
    require_layer(site, 3, x, channels, hidden)
    return [x]


def _define_squeeze_excite(build: Builder, node: Node) -> Sequence[Value]:
    x, weight_in, bias_in, weight, bias = node.operands
    assert x is not None
    shape = build.type(x).shape
    squeezed = build.op("mean", x, axes=tuple(range(2, len(shape))))
    hidden = build.op("relu", project(build, squeezed, weight_in, bias_in))
    scale = build.op("sigmoid", project(build, hidden, weight, bias))
    return [build.op("mul", x, build.op("reshape", scale, shape=(*shape[:2], *[1] * (len(shape) - 2))))]


def _cost_squeeze_excite(site: Site) -> Cost:
    x, weight = site.type(0), site.type(3)
    return traffic(site, x.elements * 2 + x.shape[0] * weight.elements * 4)


def _sample_squeeze_excite(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype(), min_rank=3)
    type = draw.type(x)
    hidden, has_bias = draw.integer(1, 3), draw.boolean()
    first = draw_layer(draw, type, hidden, type.shape[1], has_bias)
    last = draw_layer(draw, type, type.shape[1], hidden, has_bias)
    return [x, *first, *last], {}


def _channels(c: Creation) -> Size:
    return c.types["x"].shape[1]


define(
    Operator(
        name="squeeze_excite",
        doc="Channels scaled by what their means say of them (Hu et al. 2018): `x` [N, C, ...S] times "
        "`sigmoid(V relu(W mean(x) + b) + c)` of its channel.",
        lowering=Composite(_define_squeeze_excite),
        inputs=(
            Input("x"),
            *layer_inputs("_in", lambda c: c.size("hidden"), _channels),
            *layer_inputs("", _channels, lambda c: c.size("hidden")),
        ),
        attributes=(_HIDDEN, BIAS, INIT),
        infer=_infer_squeeze_excite,
        reference="esper.ops.reference.blocks:squeeze_excite",
        no_gradient="`expand` replaces it by its definition",
        cost=_cost_squeeze_excite,
        sample=_sample_squeeze_excite,
    )
)
