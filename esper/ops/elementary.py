"""Elementary functions: extrema, powers, rounding, trigonometry. Floats are computed in float32 or wider.

Gradients follow torch.autograd where a derivative does not exist: half to each operand of an extremum that
tie, zero from what is piecewise constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from esper.ir.graph import Value
from esper.ir.operator import (
    AttrValue,
    Input,
    Lowering,
    Operator,
    Pointwise,
    Sample,
    Sampler,
    Site,
    Vjp,
    VjpRule,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.rules import (
    broadcast,
    broadcast_floating,
    broadcastable,
    elementwise_cost,
    positive_operand,
    same_shapes,
)


def _unary(
    name: str,
    doc: str,
    expression: str,
    vjp: Callable[[Vjp], Value],
    flops: int = 4,
    sample: Sample | None = None,
) -> None:
    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Pointwise(expression),
            inputs=(Input("x"),),
            infer=broadcast_floating,
            reference=f"torch:{name}",
            vjp=lambda v: [vjp(v)],
            cost=elementwise_cost(flops),
            sample=sample or same_shapes(1),
        )
    )


def _binary(
    name: str,
    doc: str,
    lowering: Lowering,
    infer: Callable[[Site], Sequence[TensorType]],
    vjp: VjpRule,
    flops: int,
    sample: Sample,
) -> None:
    define(
        Operator(
            name=name,
            doc=doc,
            lowering=lowering,
            inputs=(Input("x"), Input("y")),
            infer=infer,
            reference=f"torch:{name}",
            vjp=vjp,
            cost=elementwise_cost(flops),
            sample=sample,
        )
    )


def _scaled(v: Vjp, factor: Value | float) -> Value:
    """The incoming gradient times `factor`."""
    return v.op("mul", v.gradient, factor)


def _zeros(v: Vjp) -> Value:
    """The gradient of what is piecewise constant."""
    type = v.build.type(v.operand(0))
    return v.op("broadcast_to", v.build.constant(0.0, type.dtype), shape=type.shape)


_unary("abs", "The absolute value.", "tl.abs({x})", lambda v: _scaled(v, v.op("sign", v.operand(0))), flops=1)
_unary(
    "sign",
    "-1, 0 or 1, as `x` is below, at or above zero.",
    "tl.where({x} > 0.0, 1.0, tl.where({x} < 0.0, -1.0, 0.0))",
    _zeros,
    flops=2,
)
_unary("floor", "The greatest integer not above `x`.", "tl.floor({x})", _zeros, flops=1)
_unary("ceil", "The least integer not below `x`.", "tl.ceil({x})", _zeros, flops=1)
_unary("round", "The nearest integer, of two the even one.", "round_to_even({x})", _zeros, flops=6)
_unary(
    "reciprocal",
    "`1 / x`",
    "1.0 / {x}",
    lambda v: v.op("neg", _scaled(v, v.op("mul", v.result(), v.result()))),
    flops=1,
    sample=positive_operand,
)
_unary(
    "square",
    "`x * x`",
    "{x} * {x}",
    lambda v: _scaled(v, v.op("mul", v.operand(0), 2.0)),
    flops=1,
)
_unary(
    "exp2",
    "`2 ** x`",
    "tl.exp2({x})",
    lambda v: _scaled(v, v.op("mul", v.result(), math.log(2.0))),
)
_unary(
    "log2",
    "The logarithm to base 2.",
    "tl.log2({x})",
    lambda v: v.op("div", v.gradient, v.op("mul", v.operand(0), math.log(2.0))),
    sample=positive_operand,
)
_unary(
    "log1p",
    "`log(1 + x)`, exact near 0.",
    "log1p({x})",
    lambda v: v.op("div", v.gradient, v.op("add", v.operand(0), 1.0)),
    flops=8,
    sample=positive_operand,
)
_unary(
    "expm1",
    "`exp(x) - 1`, exact near 0.",
    "expm1({x})",
    lambda v: _scaled(v, v.op("add", v.result(), 1.0)),
    flops=10,
)
_unary("sin", "The sine.", "tl.sin({x})", lambda v: _scaled(v, v.op("cos", v.operand(0))))
_unary("cos", "The cosine.", "tl.cos({x})", lambda v: v.op("neg", _scaled(v, v.op("sin", v.operand(0)))))


def _erf_vjp(v: Vjp) -> Value:
    """`g * 2 / sqrt(pi) * exp(-x * x)`"""
    x = v.operand(0)
    bell = v.op("exp", v.op("neg", v.op("mul", x, x)))
    return _scaled(v, v.op("mul", bell, 2.0 / math.sqrt(math.pi)))


_unary("erf", "The error function.", "tl.erf({x})", _erf_vjp, flops=8)


def _infer_numbers(site: Site) -> Sequence[TensorType]:
    (type,) = broadcast(site)
    for index, operand in enumerate(site.types):
        assert operand is not None
        site.require(
            operand.dtype is not DType.BOOL,
            f"`{site.op.inputs[index].name}` is {operand}, expected numbers",
        )
    return [type]


def _extremum_vjp(first_loses: str, second_loses: str) -> VjpRule:
    """All to the operand that is taken, half to each where they tie."""

    def vjp(v: Vjp) -> Sequence[Value | None]:
        x, y = v.operand(0), v.operand(1)
        half = v.op("where", v.op("equal", x, y), v.op("mul", v.gradient, 0.5), v.gradient)
        zero = v.build.constant(0.0, v.build.type(half).dtype)
        return [
            v.unbroadcast(v.op("where", v.op(loses, x, y), zero, half), index) if v.needed[index] else None
            for index, loses in enumerate((first_loses, second_loses))
        ]

    return vjp


_binary(
    "maximum",
    "The greater of `x` and `y`; NaN where one is NaN.",
    Pointwise("tl.where(({x} > {y}) | ({x} != {x}), {x}, {y})"),
    _infer_numbers,
    _extremum_vjp("less", "greater"),
    1,
    broadcastable,
)
_binary(
    "minimum",
    "The lesser of `x` and `y`; NaN where one is NaN.",
    Pointwise("tl.where(({x} < {y}) | ({x} != {x}), {x}, {y})"),
    _infer_numbers,
    _extremum_vjp("greater", "less"),
    1,
    broadcastable,
)


def _sample_over_positive(positive: int) -> Sample:
    """Samples two tensors of one type, that at index `positive` with elements above zero."""

    def sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
        above = draw.positive()
        other = draw.tensor(draw.type(above).shape, draw.type(above).dtype)
        return ([other, above] if positive else [above, other]), {}

    return sample


def _remainder_vjp(v: Vjp) -> Sequence[Value | None]:
    x, y = v.operand(0), v.operand(1)
    quotient = v.op("floor", v.op("div", x, y)) if v.needed[1] else None
    return [
        v.unbroadcast(v.op("broadcast_to", v.gradient, shape=v.node.type.shape), 0) if v.needed[0] else None,
        v.unbroadcast(v.op("neg", _scaled(v, quotient)), 1) if quotient is not None else None,
    ]


_binary(
    "remainder",
    "What is left of `x` after whole multiples of `y`, with the sign of `y`, as Python's `%`; any numbers.",
    Pointwise("remainder({x}, {y})"),
    _infer_numbers,
    _remainder_vjp,
    4,
    _sample_over_positive(1),
)


def _pow_vjp(v: Vjp) -> Sequence[Value | None]:
    """`g * y * x ** (y - 1)`, zero where `y` is; `g * x ** y * log(x)`, zero where `x` is and `y >= 0`."""
    x, y = v.operand(0), v.operand(1)
    zero = v.build.constant(0.0, v.build.type(x).dtype)
    base = exponent = None
    if v.needed[0]:
        slope = v.op("mul", y, v.op("pow", x, v.op("sub", y, 1.0)))
        slope = v.op("where", v.op("equal", y, zero), zero, slope)
        base = v.unbroadcast(_scaled(v, slope), 0)
    if v.needed[1]:
        flat = v.op("logical_and", v.op("equal", x, zero), v.op("greater_equal", y, zero))
        slope = v.op("mul", v.result(), v.op("log", x))
        exponent = v.unbroadcast(v.op("where", flat, zero, _scaled(v, slope)), 1)
    return [base, exponent]


_binary(
    "pow",
    "`x ** y` for floats; NaN where `x` is negative and `y` no integer. `square` and `sqrt` are cheaper.",
    Pointwise("power({x}, {y})"),
    broadcast_floating,
    _pow_vjp,
    16,
    _sample_over_positive(0),
)
