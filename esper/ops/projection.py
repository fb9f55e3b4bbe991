"""Linear layers inside larger operators: their weights, how they are checked, drawn and applied.

A layer has a weight [rows, columns] and a bias [rows]. The last of an operator is called `weight` and `bias`,
so that the language's `init` is its initialiser; the others bear a suffix.
"""

from __future__ import annotations

from collections.abc import Callable

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.ir.operator import Attribute, Creation, Input, Kind, Role, Sampler, Site
from esper.ir.types import TensorType
from esper.ops.rules import require_type

BIAS = Attribute("bias", Kind.BOOL, True, doc="whether the layers have biases", stored=False)
INIT = Attribute(
    "init",
    Kind.STRING,
    "",
    doc="initialiser of the last layer's weight; `zeros` zeroes its bias too",
    stored=False,
)

Rule = Callable[[Creation], Size]


def layer_inputs(suffix: str, rows: Rule, columns: Rule) -> tuple[Input, Input]:
    """The operands `weight` and `bias` of a layer, made with bounds of `1 / sqrt(columns)`."""

    def operand(name: str, shape: Callable[[Creation], tuple[Size, ...]], when: str | None) -> Input:
        return Input(
            name + suffix,
            Role.PARAM,
            optional=when is not None,
            shape=shape,
            init="fan_in_uniform",
            fan_in=columns,
            when=when,
        )

    return (
        operand("weight", lambda c: (rows(c), columns(c)), None),
        operand("bias", lambda c: (rows(c),), "bias"),
    )


def require_layer(site: Site, index: int, x: TensorType, rows: Size, columns: Size) -> None:
    """Refuses a weight at operand `index`, or a bias after it, that does not map `columns` to `rows`."""
    weight = x.with_shape((rows, columns))
    for offset, expected in enumerate((weight, x.with_shape((rows,)))):
        require_type(site, index + offset, expected)


def draw_layer(
    draw: Sampler, x: TensorType, rows: Size, columns: Size, has_bias: bool
) -> tuple[Value, Value | None]:
    """A weight and a bias of the dtype of `x`."""
    return draw.param((rows, columns), x.dtype), draw.param((rows,), x.dtype) if has_bias else None


def project(build: Builder, x: Value, weight: Value | None, bias: Value | None) -> Value:
    """`x` [..., columns] through the layer."""
    return build.op("linear", x, weight, bias)
