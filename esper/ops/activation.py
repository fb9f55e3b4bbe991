"""Activations: one row each, with the gradient as an operator of its own.

The gradient reads the input or, where that suffices, the result, which the next layer keeps anyway.
"""

from __future__ import annotations

from esper.ir.operator import Input, Operator, Pointwise, define
from esper.ops.rules import broadcast_floating, elementwise_cost, same_shapes


def _activation(
    name: str, doc: str, expression: str, gradient: str, reads: str, reference: str, flops: int
) -> None:
    """`gradient` is an expression over the incoming gradient `{g}` and `{x}` or `{y}`, named by `reads`."""
    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Pointwise(expression),
            inputs=(Input("x"),),
            infer=broadcast_floating,
            reference=reference,
            vjp=lambda v: [
                v.op(f"{name}_backward", v.gradient, v.operand(0) if reads == "x" else v.result())
            ],
            cost=elementwise_cost(flops),
            sample=same_shapes(1),
        )
    )
    define(
        Operator(
            name=f"{name}_backward",
            doc=f"The gradient of `{name}`: `g` times its derivative, from its "
            f"{'input' if reads == 'x' else 'result'}.",
            lowering=Pointwise(gradient),
            inputs=(Input("g"), Input(reads)),
            infer=broadcast_floating,
            reference=f"esper.ops.reference.activation:{name}_backward",
            no_gradient="second derivatives are not supported",
            cost=elementwise_cost(flops + 2),
            sample=same_shapes(2),
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
