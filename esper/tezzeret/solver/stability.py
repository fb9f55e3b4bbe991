"""What is known to go wrong in floating point, as far as a graph alone can tell it.

Each finding is a node with a reason: for some values that its operands may have by `ranges`, it overflows,
has no result, or loses what it adds up. A graph without findings may still be unstable: where weights lie is
not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size, product
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.types import DType
from esper.tezzeret.solver.ranges import ANY, GREATEST, Range, ranges

LONGEST_SUM = 64
"""Elements that may be added up into float16: the mean of so many may be a thousand without overflow."""

_EXPONENTIALS = {"exp": math.e, "expm1": math.e, "exp2": 2.0}
_LEAST = {"log": 0.0, "log2": 0.0, "log1p": -1.0, "rsqrt": 0.0, "reciprocal": 0.0}
"""What an operand has to exceed for a finite result; of `reciprocal` it may as well stay below."""


@dataclass(frozen=True, slots=True)
class Instability:
    node: str
    reason: str


def instabilities(ir: BlueprintIR, sizes: Mapping[str, int]) -> list[Instability]:
    """All that are known, in the order of the nodes. Operators that stand for others count as they are.

    sizes: a number for each size symbol.
    """
    known = ranges(ir)
    return [
        Instability(node.name, reason) for node in ir.nodes for reason in _reasons(ir, node, known, sizes)
    ]


def _reasons(
    ir: BlueprintIR, node: Node, known: Mapping[Value, Range], sizes: Mapping[str, int]
) -> Iterator[str]:
    if not node.operands or node.operands[0] is None or not ir.type(node.operands[0]).dtype.is_floating:
        return
    x = node.operands[0]
    dtype = ir.type(x).dtype
    low, high = known.get(x, ANY)
    if node.op in _EXPONENTIALS:
        most = math.log(GREATEST[dtype]) / math.log(_EXPONENTIALS[node.op])
        if high > most:
            yield f"{node.op} of `{x}`, which nothing keeps below {most:.4g}: above it {dtype} overflows"
    elif node.op in _LEAST:
        least = _LEAST[node.op]
        if not low > least and not (node.op == "reciprocal" and high < least):
            yield f"{node.op} of `{x}`, which nothing keeps above {least:g}"
    elif node.op == "sqrt" and low < 0.0:
        yield f"sqrt of `{x}`, which nothing keeps from being negative"
    elif node.op == "div" and node.operands[1] is not None:
        least, most = known.get(node.operands[1], ANY)
        if least <= 0.0 <= most:
            yield f"division by `{node.operands[1]}`, which nothing keeps from being zero"
    elif dtype is DType.F16 and node.op == "square" and max(abs(low), abs(high)) > GREATEST[dtype] ** 0.5:
        yield f"square of `{x}` in f16, which overflows above 255"
    elif dtype is DType.F16 and node.op == "sum":
        axes = node.attrs["axes"]
        assert isinstance(axes, tuple)
        count = evaluate_size(product(ir.type(x).shape[n] for n in axes if isinstance(n, int)), sizes)
        if count > LONGEST_SUM and count * max(abs(low), abs(high)) > GREATEST[dtype]:
            mean = GREATEST[dtype] / count
            yield f"sum of {count:,} elements of `{x}` in f16, which overflows from a mean of {mean:.4g} on"
