"""Softmax and its logarithm along one axis; the gradient of each reads its result, not its operand."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Decompose,
    Definition,
    Input,
    Kind,
    Operator,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops import statistics as stats
from esper.ops.axes import sample_axis
from esper.ops.rules import attribute_integer, require_floating, traffic

_AXIS = Attribute("axis", Kind.INT, -1, doc="the axis; below zero it counts from the end")


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    type, axis = site.type(0), site.integer("axis")
    site.require(-type.rank <= axis < type.rank, f"`axis` is {axis}, which is no axis of {type}")
    for index in range(1, len(site.types)):
        found = site.type(index)
        site.require(found == type, f"`{site.op.inputs[index].name}` is {found}, expected {type}")
    return [type]


def _axes(build: Builder, node: Node, x: Value) -> tuple[int]:
    return (attribute_integer(node.attrs, "axis") % build.type(x).rank,)


def _shifted(build: Builder, node: Node, x: Value) -> tuple[Value, tuple[int]]:
    """`x` less its greatest element, so that no exponential overflows."""
    axes, wide = _axes(build, node, x), stats.widen(build, x)
    return build.op("sub", wide, build.op("amax", wide, axes=axes, keepdims=True)), axes


def _define_softmax(build: Builder, node: Node) -> Sequence[Value]:
    (x,) = node.operands
    assert x is not None
    shifted, axes = _shifted(build, node, x)
    powers = build.op("exp", shifted)
    y = build.op("div", powers, stats.total(build, powers, axes, keepdims=True))
    return [stats.cast(build, y, build.type(x).dtype)]


def _define_log_softmax(build: Builder, node: Node) -> Sequence[Value]:
    (x,) = node.operands
    assert x is not None
    shifted, axes = _shifted(build, node, x)
    norm = build.op("log", stats.total(build, build.op("exp", shifted), axes, keepdims=True))
    return [stats.cast(build, build.op("sub", shifted, norm), build.type(x).dtype)]


def _define_softmax_backward(build: Builder, node: Node) -> Sequence[Value]:
    """`y * (g - sum(g * y))`"""
    g, y = node.operands
    assert g is not None and y is not None
    wide_g, wide_y = stats.widen(build, g), stats.widen(build, y)
    along = stats.total(build, build.op("mul", wide_g, wide_y), _axes(build, node, y), keepdims=True)
    return [stats.cast(build, build.op("mul", wide_y, build.op("sub", wide_g, along)), build.type(g).dtype)]


def _define_log_softmax_backward(build: Builder, node: Node) -> Sequence[Value]:
    """`g - exp(y) * sum(g)`"""
    g, y = node.operands
    assert g is not None and y is not None
    wide = stats.widen(build, g)
    along = stats.total(build, wide, _axes(build, node, y), keepdims=True)
    share = build.op("mul", build.op("exp", stats.widen(build, y)), along)
    return [stats.cast(build, build.op("sub", wide, share), build.type(g).dtype)]


def _sample_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    (x,), attrs = sample_axis(draw)
    assert x is not None
    type = draw.type(x)
    return [draw.tensor(type.shape, type.dtype), x], attrs


def _family(name: str, doc: str, definition: Definition, backward: Definition) -> None:
    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Decompose(definition),
            inputs=(Input("x"),),
            attributes=(_AXIS,),
            infer=_infer,
            reference=f"esper.ops.reference.softmax:{name}",
            vjp=lambda v: [v.op(f"{name}_backward", v.gradient, v.result(), axis=v.attrs["axis"])],
            cost=lambda site: traffic(site, site.type(0).elements * 8),
            sample=sample_axis,
        )
    )
    define(
        Operator(
            name=f"{name}_backward",
            doc=f"The gradient of `{name}`, from that of its result `y`.",
            lowering=Decompose(backward),
            inputs=(Input("g"), Input("y")),
            attributes=(_AXIS,),
            infer=_infer,
            reference=f"esper.ops.reference.softmax:{name}_backward",
            no_gradient="second derivatives are not supported",
            cost=lambda site: traffic(site, site.type(0).elements * 4),
            sample=_sample_backward,
            in_language=False,
        )
    )


_family(
    "softmax",
    "`exp(x) / sum(exp(x))` along `axis`.",
    _define_softmax,
    _define_softmax_backward,
)
_family(
    "log_softmax",
    "`x - log(sum(exp(x)))` along `axis`.",
    _define_log_softmax,
    _define_log_softmax_backward,
)


def _define_softmin(build: Builder, node: Node) -> Sequence[Value]:
    (x,) = node.operands
    assert x is not None
    return [build.op("softmax", build.op("neg", x), axis=node.attrs["axis"], span=node.span)]


define(
    Operator(
        name="softmin",
        doc="`softmax(-x)` along `axis`.",
        lowering=Composite(_define_softmin),
        inputs=(Input("x"),),
        attributes=(_AXIS,),
        infer=_infer,
        reference="esper.ops.reference.softmax:softmin",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, site.type(0).elements * 9),
        sample=sample_axis,
    )
)
