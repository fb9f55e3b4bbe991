"""split_concat: the product of tensors side by side is the sum of the products of each.

    W * [x, y] = W1 * x + W2 * y

What was joined need not be written, nor its parts kept twice for the backward pass: in a block each layer of
which reads all before it (Huang et al. 2017), that is most of what a step holds. The weight is cut in the
graph, so the parameter stays whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.rewrite import map_bodies, needed_by, rewrite
from esper.ops.rules import attribute_integer
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class SplitConcat:
    """For graphs after `expand`: channels that convolutions read, features that products do. What is read by
    anything else is joined anyway, and stays.
    """

    name: ClassVar[str] = "split_concat"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        ir = map_bodies(ir, self.run)
        vanishing = _vanishing(ir)

        def rule(build: Builder, node: Node) -> Sequence[Value] | None:
            x = node.operands[0] if node.op in _PRODUCTS else None
            return [_sum(build, node, vanishing)] if x is not None and x.node in vanishing else None

        return rewrite(ir, rule) if vanishing else ir


_PRODUCTS = ("convolution", "matmul")


def _vanishing(ir: BlueprintIR) -> frozenset[str]:
    """The concatenations, by name, that nothing reads but products of them, and others that vanish."""
    live = needed_by(ir, (value.node for value in ir.results))
    results = {value.node for value in ir.results}
    found: set[str] = set()
    for node in reversed(ir.nodes):
        if node.op != "concat" or node.name not in live or node.name in results or len(node.operands) < 2:
            continue
        readers = [user for user in ir.users(node.name) if user.name in live]
        if all(_dissolves(ir, user, node) or _continues(user, node, found) for user in readers):
            found.add(node.name)
    return frozenset(found)


def _continues(user: Node, joined: Node, vanishing: set[str]) -> bool:
    """Whether `user` joins `joined` to more along the same axis, and vanishes."""
    return user.name in vanishing and _axis(user) == _axis(joined)


def _dissolves(ir: BlueprintIR, user: Node, joined: Node) -> bool:
    """Whether `user` is a product of `joined` that adds up along what was joined."""
    x, weight = user.operands if user.op in _PRODUCTS else (None, None)
    if weight is None or x != joined.result() or weight == x:
        return False
    if user.op == "convolution":
        return _axis(joined) == 1 and user.attrs["groups"] == 1
    is_rows = ir.type(weight).rank == 2 and not user.attrs["transpose_a"]
    return is_rows and _axis(joined) == joined.type.rank - 1


def _axis(joined: Node) -> int:
    return attribute_integer(joined.attrs, "axis") % joined.type.rank


def _sum(build: Builder, node: Node, vanishing: frozenset[str]) -> Value:
    """The terms of a product of what vanishes."""
    x, weight = node.operands
    assert x is not None and weight is not None
    joined = build.node(x.node)
    along = 0 if node.op == "matmul" and not node.attrs["transpose_b"] else 1
    total: Value | None = None
    start: Size = 0
    for part in _parts(build, joined, vanishing):
        stop = start + build.type(part).shape[_axis(joined)]
        cut = build.op("slice", weight, axes=(along,), start=(start,), stop=(stop,))
        term = build.op(node.op, part, cut, name=None, span=node.span, **node.attrs)
        total = term if total is None else build.op("add", total, term)
        start = stop
    assert total is not None
    return total


def _parts(build: Builder, joined: Node, vanishing: frozenset[str]) -> Iterator[Value]:
    """What is joined, by way of what vanishes with it: depth first, in order."""
    waiting = [value for value in reversed(joined.operands) if value is not None]
    while waiting:
        value = waiting.pop()
        if value.node in vanishing and _axis(build.node(value.node)) == _axis(joined):
            waiting += [inner for inner in reversed(build.node(value.node).operands) if inner is not None]
        else:
            yield value
