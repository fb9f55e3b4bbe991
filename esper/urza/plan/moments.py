"""A variance beside its mean, in one pass: sums of differences from a sample of the data.

`sum((x - mean)^2)` needs the mean first, a second pass over x. With any value k near the data and d = x - k,

    sum((x - mean)^2) = sum(d^2) - sum(d)^2 / n

(the shifted data algorithm; Chan, Golub and LeVeque 1983), in the pass of sum(x). What the subtraction
cancels is, in units of the result, the squared distance of k from the mean in deviations. k is the median of
three elements a quarter, a half and three quarters along each axis: one outlier among them does no harm, nor
do borders that are unlike the inside, and of hundreds of channels none is far off by chance. Rows that a
kernel keeps in registers are left as they are: they are read once in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from esper.ir.build import Builder
from esper.ir.dims import product
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Pointwise
from esper.ir.rewrite import rewrite
from esper.ops.axes import integers_of


@dataclass(slots=True)
class _Moments:
    """A sum of squares around the mean of `x`, the number of values, and both sums that stand for it."""

    squares: Node
    x: Value
    count: Value
    total: Value | None = None
    total_of_squares: Value | None = None


def with_one_pass_moments(ir: BlueprintIR, in_registers: Callable[[Node], bool]) -> BlueprintIR:
    """`ir` with means and variances over the same values from one pass; what it replaced is left unread.

    in_registers: whether a sum is over rows that a kernel keeps.
    """
    consumers: dict[str, list[Node]] = {node.name: [] for node in ir.nodes}
    for node in ir.nodes:
        for operand in node.operands:
            if operand is not None:
                consumers[operand.node].append(node)
    leaving = {value.node for value in ir.results}
    sums: dict[str, _Moments] = {}
    for node in ir.of("sum"):
        found = (
            None if in_registers(node) or node.name in leaving else _moments(ir, node, consumers[node.name])
        )
        if found is not None:
            sums[node.name] = found
    squares = {found.squares.name: found for found in sums.values()}

    def rule(build: Builder, node: Node) -> tuple[Value] | None:
        if node.name in sums:
            _begin(build, sums[node.name], node)
        elif node.name in squares:
            found = squares[node.name]
            assert found.total is not None and found.total_of_squares is not None
            excess = build.op("mul", found.total, build.op("div", found.total, found.count))
            return (build.op("relu", build.op("sub", found.total_of_squares, excess)),)
        return None

    return rewrite(ir, rule)


def _moments(ir: BlueprintIR, total: Node, consumers: list[Node]) -> _Moments | None:
    """The sum of squares around the mean that is made of the sum `total` alone."""
    (x,) = total.operands
    if x is None or not total.attrs["keepdims"] or len(consumers) != 1 or consumers[0].op != "div":
        return None
    (mean,) = consumers
    count = mean.operands[1]
    if count is None or mean.operands[0] != total.result() or not _counts(ir, count, x, total):
        return None
    for node in ir.of("sum"):
        (squared,) = node.operands
        if squared is None or node.attrs != total.attrs:
            continue
        product = ir.node(squared.node)
        if product.op != "mul" or product.operands[0] != product.operands[1] or product.operands[0] is None:
            continue
        centered = ir.node(product.operands[0].node)
        if centered.op == "sub" and centered.operands == (x, mean.result()):
            return _Moments(node, x, count)
    return None


def _counts(ir: BlueprintIR, count: Value, x: Value, total: Node) -> bool:
    """Whether `count` is how many values of `x` go into each element of `total`."""
    node, shape = ir.node(count.node), ir.type(x).shape
    if node.op not in ("size", "constant"):
        return False
    return bool(node.attrs["value"] == product(shape[axis] for axis in integers_of(total.attrs["axes"])))


def _begin(build: Builder, found: _Moments, node: Node) -> None:
    """Appends both sums of differences from a sample."""
    axes = integers_of(node.attrs["axes"])
    first, second, third = (_Element(build, quarter).of(found.x, axes) for quarter in (1, 2, 3))
    low, high = build.op("minimum", first, second), build.op("maximum", first, second)
    median = build.op("maximum", low, build.op("minimum", high, third))
    difference = build.op("sub", found.x, median)
    squared = build.op("mul", difference, difference)
    found.total = build.op("sum", difference, axes=node.attrs["axes"], keepdims=True)
    found.total_of_squares = build.op("sum", squared, axes=node.attrs["axes"], keepdims=True)


@dataclass(slots=True)
class _Element:
    """Values so many quarters along their axes, each computed once from its own operands."""

    build: Builder
    quarter: int
    known: dict[tuple[Value, tuple[int, ...]], Value] = field(default_factory=dict)

    def of(self, value: Value, axes: tuple[int, ...]) -> Value:
        """`value` there, whose `axes` stay with size 1."""
        if (value, axes) not in self.known:
            self.known[value, axes] = self._computed(value, axes)
        return self.known[value, axes]

    def _computed(self, value: Value, axes: tuple[int, ...]) -> Value:
        build = self.build
        type, node = build.type(value), build.node(value.node)
        wide = [axis for axis in axes if axis >= 0 and type.shape[axis] != 1]
        if not wide:
            return value
        lowering = OPERATORS[node.op].lowering
        if isinstance(lowering, Pointwise) and not lowering.depends_on_place:
            operands = [
                None
                if one is None
                else self.of(one, tuple(axis - type.rank + build.type(one).rank for axis in axes))
                for one in node.operands
            ]
            return build.ops(node.op, *operands, name=None, span=node.span, **node.attrs)[0]
        start = tuple(type.shape[axis] * self.quarter // 4 for axis in wide)
        stop = tuple(place + 1 for place in start)
        return build.op("slice", value, axes=tuple(wide), start=start, stop=stop)
