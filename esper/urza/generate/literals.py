"""Numbers as a kernel writes them."""

from __future__ import annotations

from esper.ir.graph import Node
from esper.ir.types import DType

NEGATIVE_ZERO = "(tl.full([], 0.0, tl.float32) * -1.0)"
"""Of a number that equals zero, whatever its sign, Triton makes the zero that has no bit set."""


def constant_text(node: Node) -> str:
    """A constant as a kernel writes it: an integer among integers, which a float would round."""
    value = node.attrs["value"]
    if isinstance(value, float) and node.type.dtype in (DType.I32, DType.I64):
        return literal(int(value))
    return literal(value)


def literal(value: object) -> str:
    """A number as a kernel writes it."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f'float("{value}")'
    text = repr(value)
    if text == "-0.0":
        return NEGATIVE_ZERO
    return f"({text})" if text.startswith("-") else text
