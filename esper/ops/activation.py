"""Activations: one row each, with the gradient as an operator of its own.

The gradient reads the input or, where that suffices, the result, which the next layer keeps anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.operator import (
    Attribute,
    AttrValue,
    Input,
    Kind,
    Operator,
    Pointwise,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops.rules import broadcast_floating, elementwise_cost, same_shapes


def _activation(
    name: str,
    doc: str,
    expression: str,
    gradient: str,
    reads: str,
    reference: str,
    flops: int,
    attributes: tuple[Attribute, ...] = (),
    accepts: Callable[[Site], None] | None = None,
    attrs: Callable[[Sampler], dict[str, AttrValue]] | None = None,
) -> None:
    """`gradient` is an expression over the incoming gradient `{g}` and `{x}` or `{y}`, named by `reads`.

    accepts: what the type rule requires of the attributes; attrs: valid ones, drawn.
    """

    def infer(site: Site) -> Sequence[TensorType]:
        if accepts is not None:
            accepts(site)
        return broadcast_floating(site)

    def infer_gradient(site: Site) -> Sequence[TensorType]:
        g, other = site.type(0), site.type(1)
        site.require(g == other, f"`g` is {g}, expected {other}")
        return infer(site)

    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Pointwise(expression),
            inputs=(Input("x"),),
            attributes=attributes,
            infer=infer,
            reference=reference,
            vjp=lambda v: [
                v.op(f"{name}_backward", v.gradient, v.operand(0) if reads == "x" else v.result(), **v.attrs)
            ],
            cost=elementwise_cost(flops),
            sample=same_shapes(1, attrs),
        )
    )
    define(
        Operator(
            name=f"{name}_backward",
            doc=f"The gradient of `{name}`: `g` times its derivative, from its "
            f"{'input' if reads == 'x' else 'result'}.",
            lowering=Pointwise(gradient),
            inputs=(Input("g"), Input(reads)),
            attributes=attributes,
            infer=infer_gradient,
            reference=f"esper.ops.reference.activation:{name}_backward",
            no_gradient="second derivatives are not supported",
            cost=elementwise_cost(flops + 2),
            sample=same_shapes(2, attrs),
            in_language=False,
        )
    )


_activation(
    "relu",
    "`max(x, 0)`",
    "relu({x})",
    "tl.where({y} <= 0.0, 0.0, {g})",
    reads="y",
    reference="torch.nn.functional:relu",
    flops=1,
)
_activation(
    "relu6",
    "`min(max(x, 0), 6)` (Howard et al. 2017, MobileNets)",
    "relu6({x})",
    "tl.where(({y} <= 0.0) | ({y} >= 6.0), 0.0, {g})",
    reads="y",
    reference="torch.nn.functional:relu6",
    flops=2,
)
_activation(
    "gelu",
    "`x * Phi(x)` with the exact normal distribution function (Hendrycks and Gimpel 2016)",
    "gelu({x})",
    "{g} * gelu_gradient({x})",
    reads="x",
    reference="torch.nn.functional:gelu",
    flops=12,
)
_activation(
    "silu",
    "`x * sigmoid(x)` (Elfwing et al. 2017)",
    "silu({x})",
    "{g} * silu_gradient({x})",
    reads="x",
    reference="torch.nn.functional:silu",
    flops=6,
)
_activation(
    "sigmoid",
    "`1 / (1 + exp(-x))`",
    "tl.sigmoid({x})",
    "{g} * {y} * (1.0 - {y})",
    reads="y",
    reference="torch:sigmoid",
    flops=5,
)
_activation(
    "tanh",
    "The hyperbolic tangent.",
    "tanh({x})",
    "{g} * (1.0 - {y} * {y})",
    reads="y",
    reference="torch:tanh",
    flops=6,
)
_activation(
    "gelu_tanh",
    '`gelu` by a tanh, as torch\'s `approximate="tanh"`: `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`',
    "gelu_tanh({x})",
    "{g} * gelu_tanh_gradient({x})",
    reads="x",
    reference="esper.ops.reference.activation:gelu_tanh",
    flops=12,
)
_activation(
    "mish",
    "`x * tanh(log(1 + exp(x)))` (Misra 2019)",
    "mish({x})",
    "{g} * mish_gradient({x})",
    reads="x",
    reference="torch.nn.functional:mish",
    flops=12,
)
_activation(
    "selu",
    "`elu` with the slope and scale that keep mean 0 and variance 1 (Klambauer et al. 2017)",
    "selu({x})",
    "{g} * selu_gradient({x})",
    reads="x",
    reference="torch:selu",
    flops=6,
)
_activation(
    "hardsigmoid",
    "`relu6(x + 3) / 6`",
    "relu6({x} + 3.0) / 6.0",
    "tl.where(({x} > -3.0) & ({x} < 3.0), {g} / 6.0, 0.0)",
    reads="x",
    reference="torch.nn.functional:hardsigmoid",
    flops=4,
)
_activation(
    "hardswish",
    "`x * relu6(x + 3) / 6` (Howard et al. 2019, MobileNetV3)",
    "{x} * relu6({x} + 3.0) / 6.0",
    "tl.where({x} <= -3.0, 0.0, tl.where({x} < 3.0, {g} * ({x} / 3.0 + 0.5), {g}))",
    reads="x",
    reference="torch.nn.functional:hardswish",
    flops=5,
)
_activation(
    "softsign",
    "`x / (1 + abs(x))`",
    "{x} / (1.0 + tl.abs({x}))",
    "{g} / ((1.0 + tl.abs({x})) * (1.0 + tl.abs({x})))",
    reads="x",
    reference="torch.nn.functional:softsign",
    flops=3,
)
_activation(
    "tanhshrink",
    "`x - tanh(x)`",
    "{x} - tanh({x})",
    "{g} * tanh({x}) * tanh({x})",
    reads="x",
    reference="torch.nn.functional:tanhshrink",
    flops=7,
)
_activation(
    "leaky_relu",
    "`x` where it is positive, else `negative_slope * x` (Maas et al. 2013)",
    "tl.where({x} > 0.0, {x}, {negative_slope} * {x})",
    "tl.where({x} > 0.0, {g}, {negative_slope} * {g})",
    reads="x",
    reference="torch.nn.functional:leaky_relu",
    flops=2,
    attributes=(Attribute("negative_slope", Kind.FLOAT, 0.01, doc="the slope below zero"),),
    attrs=lambda draw: {"negative_slope": draw.number(-0.5, 1.5)},
)


def _require_nonzero(site: Site) -> None:
    alpha = site.number("alpha")
    site.require(alpha != 0.0, f"`alpha` is {alpha}, expected another number than zero")


_ALPHA = (Attribute("alpha", Kind.FLOAT, 1.0, doc="minus the limit at minus infinity"),)
_activation(
    "elu",
    "`x` where it is positive, else `alpha * (exp(x) - 1)` (Clevert et al. 2015)",
    "elu({x}, {alpha})",
    "tl.where({x} <= 0.0, {g} * {alpha} * tl.exp({x}), {g})",
    reads="x",
    reference="torch.nn.functional:elu",
    flops=5,
    attributes=_ALPHA,
    attrs=lambda draw: {"alpha": draw.number(0.5, 2.5)},
)
_activation(
    "celu",
    "`x` where it is positive, else `alpha * (exp(x / alpha) - 1)` (Barron 2017)",
    "celu({x}, {alpha})",
    "tl.where({x} <= 0.0, {g} * tl.exp({x} / {alpha}), {g})",
    reads="x",
    reference="torch.nn.functional:celu",
    flops=6,
    attributes=_ALPHA,
    accepts=_require_nonzero,
    attrs=lambda draw: {"alpha": draw.number(0.5, 2.5)},
)


def _require_positive_beta(site: Site) -> None:
    beta = site.number("beta")
    site.require(beta > 0.0, f"`beta` is {beta}, expected a number above zero")


_activation(
    "softplus",
    "`log(1 + exp(beta * x)) / beta`; `x` where `beta * x` is above `threshold`",
    "softplus({x}, {beta}, {threshold})",
    "tl.where({x} * {beta} > {threshold}, {g}, {g} * tl.sigmoid({x} * {beta}))",
    reads="x",
    reference="torch.nn.functional:softplus",
    flops=8,
    attributes=(
        Attribute("beta", Kind.FLOAT, 1.0, doc="how sharp the bend is"),
        Attribute("threshold", Kind.FLOAT, 20.0, doc="the value of `beta * x` above which it is linear"),
    ),
    accepts=_require_positive_beta,
    attrs=lambda draw: {"beta": draw.number(0.5, 2.5), "threshold": 20.0},
)


def _bounds(low: str, high: str, doc: str) -> Callable[[Site], None]:
    def accepts(site: Site) -> None:
        least, greatest = site.number(low), site.number(high)
        site.require(least < greatest, f"`{low}` is {least} and `{high}` is {greatest}, expected {doc}")

    return accepts


_activation(
    "hardtanh",
    "`min(max(x, min_val), max_val)`; on the bounds the gradient is zero.",
    "tl.where({x} <= {min_val}, {min_val}, tl.where({x} >= {max_val}, {max_val}, {x}))",
    "tl.where(({x} <= {min_val}) | ({x} >= {max_val}), 0.0, {g})",
    reads="x",
    reference="torch.nn.functional:hardtanh",
    flops=2,
    attributes=(
        Attribute("min_val", Kind.FLOAT, -1.0, doc="the lower bound", unbounded=True),
        Attribute("max_val", Kind.FLOAT, 1.0, doc="the upper bound", unbounded=True),
    ),
    accepts=_bounds("min_val", "max_val", "`min_val` below `max_val`"),
    attrs=lambda draw: {"min_val": draw.number(-1.0, 0.0), "max_val": draw.number(0.25, 1.0)},
)
_activation(
    "clamp",
    "`min(max(x, min), max)`; the gradient passes on the bounds, unlike `hardtanh`'s. `maximum(x, a)` has "
    "one bound.",
    "tl.where({x} < {min}, {min}, tl.where({x} > {max}, {max}, {x}))",
    "tl.where(({x} >= {min}) & ({x} <= {max}), {g}, 0.0)",
    reads="x",
    reference="torch:clamp",
    flops=2,
    attributes=(
        Attribute("min", Kind.FLOAT, doc="the lower bound", unbounded=True),
        Attribute("max", Kind.FLOAT, doc="the upper bound", unbounded=True),
    ),
    accepts=_bounds("min", "max", "`min` below `max`"),
    attrs=lambda draw: {"min": draw.number(-1.0, 0.0), "max": draw.number(0.25, 1.0)},
)
