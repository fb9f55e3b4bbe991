"""Convolutions of maps whose channels stand last, [N, ...S, C], and their two gradients; weights as ever.

Each is the operator of `convolution` that it is named for, on maps with their axes in the other order. The
pass `layout` puts them into a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.ir.operator import (
    OPERATORS,
    Attribute,
    AttrValue,
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
from esper.ops import convolution as first
from esper.ops.rules import require_floating

_SHAPE = Attribute("shape", Kind.DIMS, doc="the sizes of the result")


def channels_last(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """[N, C, ...S] as [N, ...S, C]."""
    return (shape[0], *shape[2:], shape[1])


def channels_first(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """[N, ...S, C] as [N, C, ...S]."""
    return (shape[0], shape[-1], *shape[1:-1])


def _require_map(site: Site, index: int) -> TensorType:
    """Operand `index` with its channels first."""
    type, name = site.type(index), site.op.inputs[index].name
    site.require(
        3 <= type.rank <= 5, f"`{name}` is {type}, expected [N, ...S, C] with one to three axes in S"
    )
    return type.with_shape(channels_first(type.shape))


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    result = first.result_type(site, _require_map(site, 0), site.type(1), site.integer("padding"))
    return [result.with_shape(channels_last(result.shape))]


def _infer_input_grad(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    g, shape = _require_map(site, 0), site.sizes("shape")
    site.require(len(shape) == g.rank, f"`shape` is [{', '.join(map(str, shape))}], expected {g.rank} sizes")
    x = g.with_shape(channels_first(shape))
    _require_gradient(site, first.result_type(site, x, site.type(1), site.integer("padding")))
    return [x.with_shape(shape)]


def _infer_weight_grad(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    g, x = _require_map(site, 0), _require_map(site, 1)
    weight = g.with_shape(site.sizes("shape"))
    _require_gradient(site, first.result_type(site, x, weight, site.integer("padding")))
    return [weight]


def _require_gradient(site: Site, expected: TensorType) -> None:
    expected = expected.with_shape(channels_last(expected.shape))
    site.require(site.type(0) == expected, f"`g` is {site.type(0)}, expected {expected}")


def _vjp(v: Vjp) -> Sequence[Value | None]:
    x, weight, attrs = v.operand(0), v.operand(1), first.geometry(v.attrs)
    return [
        _gradient(v, 0, "input_grad", v.gradient, weight, x, attrs),
        _gradient(v, 1, "weight_grad", v.gradient, x, weight, attrs),
    ]


def _input_grad_vjp(v: Vjp) -> Sequence[Value | None]:
    g, weight, attrs = v.operand(0), v.operand(1), first.geometry(v.attrs)
    dg = v.op("convolution_channels_last", v.gradient, weight, **attrs) if v.needed[0] else None
    return [dg, _gradient(v, 1, "weight_grad", g, v.gradient, weight, attrs)]


def _weight_grad_vjp(v: Vjp) -> Sequence[Value | None]:
    g, x, attrs = v.operand(0), v.operand(1), first.geometry(v.attrs)
    dg = v.op("convolution_channels_last", x, v.gradient, **attrs) if v.needed[0] else None
    return [dg, _gradient(v, 1, "input_grad", g, v.gradient, x, attrs)]


def _gradient(
    v: Vjp, index: int, kind: str, g: Value, other: Value, of: Value, attrs: dict[str, AttrValue]
) -> Value | None:
    """The gradient of operand `index`, which is `of`, if it is needed."""
    if not v.needed[index]:
        return None
    return v.op(f"convolution_{kind}_channels_last", g, other, shape=v.build.type(of).shape, **attrs)


def _sampled(
    name: str, maps: tuple[int, ...]
) -> Callable[[Sampler], tuple[Sequence[Value | None], dict[str, AttrValue]]]:
    """What the rule of `name` draws, with the operands `maps`, and a result that is a map, channels last."""

    def sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
        rule = OPERATORS[name].sample
        assert rule is not None
        drawn, attrs = rule(draw)
        operands = list(drawn)
        for index in maps:
            value = operands[index]
            assert value is not None
            type = draw.type(value)
            operands[index] = draw.tensor(channels_last(type.shape), type.dtype)
        shape = attrs.get("shape")
        if len(maps) == 1 and isinstance(shape, tuple):
            sizes = tuple(size for size in shape if not isinstance(size, str | float))
            attrs = {**attrs, "shape": (sizes[0], *sizes[2:], sizes[1])}
        return operands, attrs

    return sample


define(
    Operator(
        name="convolution_channels_last",
        doc="`convolution` of `x` [N, ...S, C] with `weight` [channels, C / groups, ...kernel].",
        lowering=Outside(),
        inputs=(Input("x"), Input("weight")),
        attributes=first.GEOMETRY,
        infer=_infer,
        reference="esper.ops.reference.channels_last:convolution",
        vjp=_vjp,
        cost=first.cost_of(lambda site: site.results[0], lambda site: site.type(1)),
        sample=_sampled("convolution", (0,)),
        in_language=False,
    )
)

define(
    Operator(
        name="convolution_input_grad_channels_last",
        doc="The gradient of the `x` of `convolution_channels_last`, of the sizes `shape`, from that of its "
        "result, `g`.",
        lowering=Outside(),
        inputs=(Input("g"), Input("weight")),
        attributes=(_SHAPE, *first.GEOMETRY),
        infer=_infer_input_grad,
        reference="esper.ops.reference.channels_last:convolution_input_grad",
        vjp=_input_grad_vjp,
        cost=first.cost_of(lambda site: site.type(0), lambda site: site.type(1)),
        sample=_sampled("convolution_input_grad", (0,)),
        in_language=False,
    )
)

define(
    Operator(
        name="convolution_weight_grad_channels_last",
        doc="The gradient of the `weight` of `convolution_channels_last`, of the sizes `shape`, from that of "
        "its result, `g`.",
        lowering=Outside(),
        inputs=(Input("g"), Input("x")),
        attributes=(_SHAPE, *first.GEOMETRY),
        infer=_infer_weight_grad,
        reference="esper.ops.reference.channels_last:convolution_weight_grad",
        vjp=_weight_grad_vjp,
        cost=first.cost_of(lambda site: site.type(0), lambda site: site.results[0]),
        sample=_sampled("convolution_weight_grad", (0, 1)),
        in_language=False,
    )
)
