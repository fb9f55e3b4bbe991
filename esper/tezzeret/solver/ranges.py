"""Between which numbers the values of a graph lie, whatever it is given: interval arithmetic down the graph.

Inputs, weights and statistics may be anything. What an operator makes of intervals is an entry of `RANGES`;
of others nothing is known. One relation between values is known beside the intervals: nothing exceeds the
greatest of its elements, so `x - amax(x)` has no element above zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, View
from esper.ir.types import DType

Range = tuple[float, float]
"""The least and the greatest that a value may have; infinite where nothing is known."""

ANY: Range = (-math.inf, math.inf)
ABOVE_ZERO: Range = (0.0, math.inf)
SHARE: Range = (0.0, 1.0)

GREATEST = {
    DType.F16: 65504.0,
    DType.BF16: (2.0 - 2.0**-7) * 2.0**127,
    DType.F32: (2.0 - 2.0**-23) * 2.0**127,
    DType.F64: (2.0 - 2.0**-52) * 2.0**1023,
}
"""The greatest number of each floating dtype."""

_BOUNDING = frozenset({"amax", "logsumexp"})
"""Reductions of which no element that they read exceeds the result."""
_PASSING = frozenset({"cast", "squeeze", "unsqueeze", "flatten", "transpose", "ensure_shape"})
"""Operators beside views that hand elements on as they are."""


def ranges(ir: BlueprintIR) -> dict[Value, Range]:
    """Of the first result of each node that something is known of; `ANY` of all else."""
    found: dict[Value, Range] = {}
    for node in ir.nodes:
        rule = RANGES.get(node.op)
        if rule is None and (node.op in _PASSING or isinstance(OPERATORS[node.op].lowering, View)):
            rule = _same
        if rule is None or not node.types[0].dtype.is_floating:
            continue
        operands = [ANY if value is None else found.get(value, ANY) for value in node.operands]
        low, high = rule(node, operands)
        if node.op == "sub" and _exceeds(ir, node):
            high = min(high, 0.0)
        if low <= high and (low, high) != ANY:  # of constants that are no numbers nothing is known
            found[node.result()] = (low, high)
    return found


def _exceeds(ir: BlueprintIR, node: Node) -> bool:
    """Whether what is taken away is the greatest of what it is taken from, or more."""
    x, y = node.operands
    if x is None or y is None:
        return False
    below = _source(ir, y)
    maker = ir.node(below.node)
    read = maker.operands[0] if maker.op in _BOUNDING else None
    return read is not None and _source(ir, read) == _source(ir, x)


def _source(ir: BlueprintIR, value: Value) -> Value:
    """What `value` hands on as it is, shapes apart."""
    while (node := ir.node(value.node)).op in _PASSING or isinstance(OPERATORS[node.op].lowering, View):
        value = node.operand
    return value


def _same(node: Node, x: list[Range]) -> Range:
    return x[0]


def _fixed(low: float, high: float) -> Callable[[Node, list[Range]], Range]:
    return lambda node, x: (low, high)


def _rising(function: Callable[[float], float]) -> Callable[[Node, list[Range]], Range]:
    """Of a function that never falls."""
    return lambda node, x: (function(x[0][0]), function(x[0][1]))


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf


def _constant(node: Node, x: list[Range]) -> Range:
    value = node.attrs["value"]
    return (float(value), float(value)) if isinstance(value, int | float) else ANY


def _add(node: Node, x: list[Range]) -> Range:
    return x[0][0] + x[1][0], x[0][1] + x[1][1]


def _sub(node: Node, x: list[Range]) -> Range:
    return x[0][0] - x[1][1], x[0][1] - x[1][0]


def _neg(node: Node, x: list[Range]) -> Range:
    return -x[0][1], -x[0][0]


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0.0 or b == 0.0 else a * b


def _mul(node: Node, x: list[Range]) -> Range:
    if node.operands[0] is not None and node.operands[0] == node.operands[1]:
        return _square(node, x)
    ends = [_times(a, b) for a in x[0] for b in x[1]]
    return min(ends), max(ends)


def _div(node: Node, x: list[Range]) -> Range:
    low, high = x[1]
    if low <= 0.0 <= high:
        return ABOVE_ZERO if x[0][0] >= 0.0 <= low else ANY
    ends = [_times(a, 1.0 / b) for a in x[0] for b in (low, high)]
    return min(ends), max(ends)


def _square(node: Node, x: list[Range]) -> Range:
    low, high = x[0]
    least = 0.0 if low <= 0.0 <= high else min(low * low, high * high)
    return least, max(low * low, high * high)


def _abs(node: Node, x: list[Range]) -> Range:
    low, high = x[0]
    return max(low, -high, 0.0), max(abs(low), abs(high))


def _clamp(node: Node, x: list[Range]) -> Range:
    least, most = node.attrs.get("min"), node.attrs.get("max")
    low, high = x[0]
    if isinstance(least, int | float):
        low, high = max(low, least), max(high, least)
    if isinstance(most, int | float):
        low, high = min(low, most), min(high, most)
    return low, high


def _maximum(node: Node, x: list[Range]) -> Range:
    return max(x[0][0], x[1][0]), max(x[0][1], x[1][1])


def _minimum(node: Node, x: list[Range]) -> Range:
    return min(x[0][0], x[1][0]), min(x[0][1], x[1][1])


def _union(node: Node, x: list[Range]) -> Range:
    return min(low for low, _ in x), max(high for _, high in x)


def _where(node: Node, x: list[Range]) -> Range:
    return _union(node, x[1:])


def _sum(node: Node, x: list[Range]) -> Range:
    low, high = x[0]
    return (0.0 if low >= 0.0 else -math.inf), (0.0 if high <= 0.0 else math.inf)


def _dropout(node: Node, x: list[Range]) -> Range:
    """Elements are zero, or scaled by some number of at least 1."""
    return _sum(node, x)


def _sqrt(node: Node, x: list[Range]) -> Range:
    return math.sqrt(max(x[0][0], 0.0)), math.sqrt(max(x[0][1], 0.0))


def _rsqrt(node: Node, x: list[Range]) -> Range:
    low, high = x[0]
    return (0.0 if math.isinf(high) else high**-0.5 if high > 0 else 0.0), (
        low**-0.5 if low > 0 else math.inf
    )


RANGES: Mapping[str, Callable[[Node, list[Range]], Range]] = {
    "constant": _constant,
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "square": _square,
    "abs": _abs,
    "clamp": _clamp,
    "hardtanh": _clamp,
    "maximum": _maximum,
    "minimum": _minimum,
    "where": _where,
    "concat": _union,
    "stack": _union,
    "sum": _sum,
    "dropout": _dropout,
    "drop_path": _dropout,
    "feature_dropout": _dropout,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "exp": _rising(_exp),
    "expm1": _rising(lambda x: _exp(x) - 1.0),
    "relu": _rising(lambda x: max(x, 0.0)),
    "relu6": _rising(lambda x: min(max(x, 0.0), 6.0)),
    "sign": _fixed(-1.0, 1.0),
    "sigmoid": _fixed(0.0, 1.0),
    "hardsigmoid": _fixed(0.0, 1.0),
    "softmax": _fixed(0.0, 1.0),
    "softmin": _fixed(0.0, 1.0),
    "tanh": _fixed(-1.0, 1.0),
    "softsign": _fixed(-1.0, 1.0),
    "erf": _fixed(-1.0, 1.0),
    "sin": _fixed(-1.0, 1.0),
    "cos": _fixed(-1.0, 1.0),
    "log_softmax": _fixed(-math.inf, 0.0),
    "softplus": _fixed(0.0, math.inf),
    "size": _fixed(1.0, math.inf),
    "var": _fixed(0.0, math.inf),
    "std": _fixed(0.0, math.inf),
    "vector_norm": _fixed(0.0, math.inf),
    **dict.fromkeys(("amax", "amin", "mean", "slice", "chunk", "flip", "roll", "tile", "gather"), _same),
    **dict.fromkeys(("repeat_interleave", "max_pool", "global_avg_pool", "global_max_pool"), _same),
}
"""What operators make of intervals: of the first result, by operator."""
