"""Losses, as shorthands over other operators, computed in float32 or wider.

`reduction` says what becomes of the losses of single elements or examples: their mean, their sum, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.build import Builder
from esper.ir.dims import product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Input,
    Kind,
    Operator,
    Sampler,
    Site,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops import statistics as stats
from esper.ops.rules import attribute_number, require_floating, traffic

REDUCTIONS = ("mean", "sum", "none")
_REDUCTION = Attribute("reduction", Kind.STRING, "mean", REDUCTIONS, doc="what becomes of single losses")

Elements = Callable[[Builder, Node, Value, Value], Value]
"""The losses of single elements, from the wide operands."""


def _reduced(build: Builder, node: Node, losses: Value, dtype: DType) -> Sequence[Value]:
    axes = range(build.type(losses).rank)
    match node.attrs["reduction"]:
        case "mean":
            losses = build.op("div", stats.total(build, losses, axes), stats.count(build, losses, axes))
        case "sum":
            losses = stats.total(build, losses, axes)
    return [stats.cast(build, losses, dtype)]


def _result(site: Site, single: TensorType) -> Sequence[TensorType]:
    return [single if site.attrs["reduction"] == "none" else TensorType(single.dtype)]


def _infer_elements(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x, target = site.type(0), site.type(1)
    reason = f"`x` is {x} and `target` is {target}, expected one type"
    site.require(x.dtype is target.dtype, reason)
    site.require_same_shape(0, 1, reason)
    for attribute in site.op.attributes:
        if attribute.kind is Kind.FLOAT:
            value = site.number(attribute.name)
            site.require(value > 0, f"`{attribute.name}` is {value}, expected a number above zero")
    return _result(site, x)


def _elementwise(
    name: str,
    doc: str,
    elements: Elements,
    flops: int,
    attributes: tuple[Attribute, ...] = (),
    positive_target: bool = False,
) -> None:
    def definition(build: Builder, node: Node) -> Sequence[Value]:
        x, target = node.operands
        assert x is not None and target is not None
        losses = elements(build, node, stats.widen(build, x), stats.widen(build, target))
        return _reduced(build, node, losses, build.type(x).dtype)

    def sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
        target = draw.positive() if positive_target else draw.tensor(dtype=draw.dtype())
        type = draw.type(target)
        make = draw.positive if positive_target else draw.tensor
        x = make(type.shape, type.dtype)
        settings: dict[str, AttrValue] = {a.name: draw.choice((1.0, 0.5)) for a in attributes}
        return [x, target], {**settings, "reduction": draw.choice(REDUCTIONS)}

    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Composite(definition),
            inputs=(Input("x"), Input("target", doc="what `x` should be")),
            attributes=(*attributes, _REDUCTION),
            infer=_infer_elements,
            reference=f"esper.ops.reference.loss:{name}",
            no_gradient="`expand` replaces it by its definition",
            cost=lambda site: traffic(site, site.type(0).elements * flops),
            sample=sample,
        )
    )


def _magnitude(build: Builder, x: Value) -> Value:
    """`|x|`, with gradient zero at zero."""
    return build.op("add", build.op("relu", x), build.op("relu", build.op("neg", x)))


def _squared(build: Builder, node: Node, x: Value, target: Value) -> Value:
    d = build.op("sub", x, target)
    return build.op("mul", d, d)


def _absolute(build: Builder, node: Node, x: Value, target: Value) -> Value:
    return _magnitude(build, build.op("sub", x, target))


def _bent(build: Builder, d: Value, width: float) -> Value:
    """`d * d / 2` where `|d| < width`, else `width * (|d| - width / 2)`."""
    size = _magnitude(build, d)
    square = build.op("mul", build.op("mul", d, d), 0.5)
    line = build.op("mul", build.op("sub", size, 0.5 * width), width)
    threshold = build.constant(width, build.type(d).dtype)
    return build.op("where", build.op("greater", threshold, size), square, line)


def _huber(build: Builder, node: Node, x: Value, target: Value) -> Value:
    return _bent(build, build.op("sub", x, target), attribute_number(node.attrs, "delta"))


def _smooth(build: Builder, node: Node, x: Value, target: Value) -> Value:
    beta = attribute_number(node.attrs, "beta")
    return build.op("div", _bent(build, build.op("sub", x, target), beta), beta)


def _divergence(build: Builder, node: Node, x: Value, target: Value) -> Value:
    """`target * (log(target) - x)`, with a logarithm of 1 where the target is zero."""
    zero = build.constant(0.0, build.type(target).dtype)
    is_positive = build.op("greater", target, zero)
    ones = build.op(
        "broadcast_to", build.constant(1.0, build.type(target).dtype), shape=build.type(target).shape
    )
    logarithm = build.op("log", build.op("where", is_positive, target, ones))
    return build.op("mul", target, build.op("sub", logarithm, x))


def _binary(build: Builder, node: Node, x: Value, target: Value) -> Value:
    return build.op("sub", build.op("softplus", x), build.op("mul", x, target))


_elementwise("mse_loss", "`(x - target) ** 2`", _squared, 3)
_elementwise("l1_loss", "`|x - target|`", _absolute, 3)
_elementwise(
    "huber_loss",
    "Half the square of the difference where that is below `delta`, else linear (Huber 1964).",
    _huber,
    8,
    (Attribute("delta", Kind.FLOAT, 1.0, doc="where the line begins"),),
)
_elementwise(
    "smooth_l1_loss",
    "`huber_loss` divided by its width `beta` (Girshick 2015).",
    _smooth,
    9,
    (Attribute("beta", Kind.FLOAT, 1.0, doc="where the line begins"),),
)
_elementwise(
    "binary_cross_entropy_with_logits",
    "The cross entropy of `target`, the probability of yes, and `sigmoid(x)`: `softplus(x) - x * target`.",
    _binary,
    10,
)
_elementwise(
    "kl_div",
    "The divergence of `target`, probabilities, from `x`, logarithms of probabilities: "
    "`target * (log(target) - x)`, and zero where `target` is.",
    _divergence,
    8,
    positive_target=True,
)


def _infer_classes(site: Site) -> Sequence[TensorType]:
    x, target = site.type(0), site.type(1)
    site.require(x.dtype.is_floating, f"`x` is {x}, expected a floating dtype")
    site.require(x.rank >= 2, f"`x` is {x}, expected [N, classes, ...]")
    expected = TensorType(DType.I64, (x.shape[0], *x.shape[2:]))
    reason = f"`target` is {target}, expected {expected}: a class for each example"
    site.require(target.dtype is expected.dtype and target.rank == expected.rank, reason)
    for axis in range(target.rank):
        site.require_same_size((1, axis), (0, axis + (axis > 0)), reason)
    if site.op.attribute("label_smoothing") is not None:
        smoothing = site.number("label_smoothing")
        site.require(0.0 <= smoothing <= 1.0, f"`label_smoothing` is {smoothing}, expected 0 to 1")
    return _result(site, x.with_shape(expected.shape))


def _of_target(build: Builder, logs: Value, target: Value) -> Value:
    """Less the logarithm at each example's class."""
    shape = build.type(target).shape
    places = build.op("reshape", target, shape=(shape[0], 1, *shape[1:]))
    return build.op("neg", build.op("reshape", build.op("gather", logs, places, axis=1), shape=shape))


def _define_nll(build: Builder, node: Node) -> Sequence[Value]:
    x, target = node.operands
    assert x is not None and target is not None
    return _reduced(build, node, _of_target(build, stats.widen(build, x), target), build.type(x).dtype)


def _define_cross_entropy(build: Builder, node: Node) -> Sequence[Value]:
    x, target = node.operands
    assert x is not None and target is not None
    logs = build.op("log_softmax", stats.widen(build, x), axis=1)
    losses = _of_target(build, logs, target)
    smoothing = attribute_number(node.attrs, "label_smoothing")
    if smoothing:
        spread = build.op("neg", build.op("mean", logs, axes=(1,), keepdims=False))
        losses = build.op("add", build.op("mul", losses, 1.0 - smoothing), build.op("mul", spread, smoothing))
    return _reduced(build, node, losses, build.type(x).dtype)


def _classes(draw: Sampler) -> list[Value | None]:
    classes, rest = draw.integer(4, 5), draw.shape(1, 2)
    x = draw.tensor((rest[0], classes, *rest[1:]), draw.dtype())
    return [x, draw.indices(rest, classes)]


def _sample_nll(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    return _classes(draw), {"reduction": draw.choice(REDUCTIONS)}


def _sample_cross_entropy(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    smoothing = draw.choice((0.0, 0.1, 1.0))
    return _classes(draw), {"label_smoothing": smoothing, "reduction": draw.choice(REDUCTIONS)}


define(
    Operator(
        name="nll_loss",
        doc="Less the element of `x` [N, classes, ...], logarithms of probabilities, at the class `target` "
        "[N, ...], i64.",
        lowering=Composite(_define_nll),
        inputs=(Input("x"), Input("target", doc="the class of each example")),
        attributes=(_REDUCTION,),
        infer=_infer_classes,
        reference="esper.ops.reference.loss:nll_loss",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, product(site.type(1).shape) * 2),
        sample=_sample_nll,
    )
)

define(
    Operator(
        name="cross_entropy",
        doc="`nll_loss` of `log_softmax(x)` over the classes, axis 1; `label_smoothing` is the share of the "
        "target that is spread over all of them (Szegedy et al. 2016).",
        lowering=Composite(_define_cross_entropy),
        inputs=(Input("x"), Input("target", doc="the class of each example")),
        attributes=(
            Attribute("label_smoothing", Kind.FLOAT, 0.0, doc="from 0 to 1"),
            _REDUCTION,
        ),
        infer=_infer_classes,
        reference="esper.ops.reference.loss:cross_entropy",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, site.type(0).elements * 8),
        sample=_sample_cross_entropy,
    )
)
