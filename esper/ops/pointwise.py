"""Pointwise arithmetic: operands broadcast together, floats are computed in float32 or wider."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.graph import Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Input,
    Kind,
    Operator,
    Pointwise,
    Sampler,
    Site,
    Vjp,
    VjpRule,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.rules import (
    attribute_dtype,
    broadcast,
    broadcast_floating,
    broadcast_shape,
    broadcastable,
    elementwise_cost,
    positive_operand,
    same_shapes,
    traffic,
)


def _numbers(site: Site) -> Sequence[TensorType]:
    """As `broadcast`, for operands that are no booleans."""
    site.require(site.type(0).dtype is not DType.BOOL, f"`x` is {site.type(0)}, expected numbers")
    return broadcast(site)


def _binary(
    name: str,
    doc: str,
    expression: str,
    vjp: VjpRule,
    infer: Callable[[Site], Sequence[TensorType]] = broadcast,
) -> None:
    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Pointwise(expression),
            inputs=(Input("x"), Input("y")),
            infer=infer,
            reference=f"torch:{name}",
            vjp=vjp,
            cost=elementwise_cost(1),
            sample=broadcastable,
        )
    )


def _unary(
    name: str,
    doc: str,
    expression: str,
    vjp: Callable[[Vjp], Value],
    *,
    flops: int = 1,
    on_positive: bool = False,
    reference: str | None = None,
) -> None:
    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Pointwise(expression),
            inputs=(Input("x"),),
            infer=broadcast_floating,
            reference=reference or f"torch:{name}",
            vjp=lambda v: [vjp(v)],
            cost=elementwise_cost(flops),
            sample=positive_operand if on_positive else same_shapes(1),
        )
    )


def _both(v: Vjp, x: Callable[[], Value], y: Callable[[], Value]) -> Sequence[Value | None]:
    """Gradients of two broadcast operands, built only where needed."""
    return [v.unbroadcast(rule(), index) if v.needed[index] else None for index, rule in enumerate((x, y))]


_binary(
    "add",
    "`x + y`",
    "{x} + {y}",
    lambda v: _both(v, lambda: v.gradient, lambda: v.gradient),
)
_binary(
    "sub",
    "`x - y`",
    "{x} - {y}",
    lambda v: _both(v, lambda: v.gradient, lambda: v.op("neg", v.gradient)),
    _numbers,
)
_binary(
    "mul",
    "`x * y`",
    "{x} * {y}",
    lambda v: _both(
        v,
        lambda: v.op("mul", v.gradient, v.operand(1)),
        lambda: v.op("mul", v.gradient, v.operand(0)),
    ),
)
_binary(
    "div",
    "`x / y`",
    "{x} / {y}",
    lambda v: _both(
        v,
        lambda: v.op("div", v.gradient, v.operand(1)),
        lambda: v.op("neg", v.op("div", v.op("mul", v.gradient, v.result()), v.operand(1))),
    ),
    broadcast_floating,
)

_unary("neg", "`-x`", "-{x}", lambda v: v.op("neg", v.gradient))
_unary("exp", "`e ** x`", "tl.exp({x})", lambda v: v.op("mul", v.gradient, v.result()), flops=4)
_unary(
    "log",
    "The natural logarithm.",
    "tl.log({x})",
    lambda v: v.op("div", v.gradient, v.operand(0)),
    flops=4,
    on_positive=True,
)
_unary(
    "sqrt",
    "The square root.",
    "tl.sqrt({x})",
    lambda v: v.op("div", v.op("mul", v.gradient, 0.5), v.result()),
    flops=4,
    on_positive=True,
)
_unary(
    "rsqrt",
    "The reciprocal of the square root.",
    "tl.rsqrt({x})",
    lambda v: v.op(
        "mul",
        v.op("mul", v.gradient, -0.5),
        v.op("mul", v.result(), v.op("mul", v.result(), v.result())),
    ),
    flops=4,
    on_positive=True,
)


def _cast_sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    return [draw.tensor(dtype=draw.dtype())], {"dtype": draw.dtype()}


define(
    Operator(
        name="cast",
        doc="`x` converted to `dtype`.",
        lowering=Pointwise("{x}"),
        inputs=(Input("x"),),
        attributes=(Attribute("dtype", Kind.DTYPE, doc="the element type of the result"),),
        infer=lambda site: [site.type(0).with_dtype(attribute_dtype(site.attrs, "dtype"))],
        reference="esper.ops.reference.pointwise:cast",
        vjp=lambda v: [v.op("cast", v.gradient, dtype=v.build.type(v.operand(0)).dtype)],
        cost=elementwise_cost(0),
        sample=_cast_sample,
    )
)

define(
    Operator(
        name="size",
        doc="A size of the graph's symbols as a scalar tensor, for example the number of averaged elements.",
        lowering=Pointwise("{value}"),
        attributes=(
            Attribute("value", Kind.DIM, doc="the size"),
            Attribute("dtype", Kind.DTYPE, DType.F32, doc="the element type of the result"),
        ),
        infer=lambda site: [TensorType(attribute_dtype(site.attrs, "dtype"))],
        reference="esper.ops.reference.pointwise:size",
        no_gradient="sizes are integers",
        cost=lambda site: traffic(site, 0),
        sample=lambda draw: ([], {"value": draw.integer(1, 64), "dtype": DType.F32}),
        in_language=False,
    )
)


def _infer_where(site: Site) -> Sequence[TensorType]:
    condition, x, y = site.type(0), site.type(1), site.type(2)
    site.require(condition.dtype is DType.BOOL, f"`condition` is {condition}, expected dtype bool")
    site.require(x.dtype is y.dtype, f"`x` is {x} and `y` is {y}: the dtypes differ")
    return [TensorType(x.dtype, broadcast_shape(site, f"{condition}, {x} and {y}"))]


def _where_vjp(v: Vjp) -> Sequence[Value | None]:
    condition, g = v.operand(0), v.gradient
    return [
        None,
        v.unbroadcast(v.op("where", condition, g, _zero(v)), 1) if v.needed[1] else None,
        v.unbroadcast(v.op("where", condition, _zero(v), g), 2) if v.needed[2] else None,
    ]


def _zero(v: Vjp) -> Value:
    return v.build.constant(0.0, v.build.type(v.gradient).dtype)


def _where_sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype())
    type = draw.type(x)
    return [draw.tensor(type.shape, DType.BOOL), x, draw.tensor(type.shape, type.dtype)], {}


define(
    Operator(
        name="where",
        doc="`x` where `condition` holds, else `y`.",
        lowering=Pointwise("tl.where({condition}, {x}, {y})"),
        inputs=(Input("condition"), Input("x"), Input("y")),
        infer=_infer_where,
        reference="torch:where",
        vjp=_where_vjp,
        cost=elementwise_cost(1),
        sample=_where_sample,
    )
)
