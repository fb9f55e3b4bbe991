"""Sums over the steps of a loop that one operator over all steps computes, taken out of the loop.

A constant's gradient is the sum of what each step gives it. As a carry it would be read and written every
step, and rounded as often. With A_t and B_t stacked over the steps,

    sum_t A_t' B_t = [A_1; A_2; ...]' [B_1; B_2; ...],    sum_t sum_rows(A_t) = sum_rows([A_1; A_2; ...])

so a step yields the factors, of which one is often a sequence that the loop reads anyway, and the product of
a weight's gradient has all steps and rows for its inner dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from esper.ir.build import Builder
from esper.ir.dims import product
from esper.ir.graph import Node, Value
from esper.ops.axes import integers_of

if TYPE_CHECKING:
    from esper.ops.scan import Layout

MOST_TERMS = 16
"""A value that is the sum of more is carried: additions of a value to itself double with each."""

LINEAR = frozenset({"neg", "permute", "reshape", "slice", "slice_backward"})
"""Operators of one operand that a sum over the steps passes through."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A product or sum of a step, and the operators between it and the whole, the innermost first."""

    node: Node
    after: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Value, ...]:
        return tuple(value for value in self.node.operands if value is not None)


@dataclass(frozen=True, slots=True)
class Sums:
    """A value of a loop's body as terms whose sums over the steps are computed outside, and the rest of it.

    rest: what has to be summed step by step, None for nothing.
    """

    layout: Layout
    terms: tuple[_Term, ...]
    rest: Value | None

    @staticmethod
    def of(body: Builder, layout: Layout, value: Value) -> Sums:
        """`value` of `body` taken apart; its rest may be a node that this appends."""
        parts = tuple(islice(_parts(body, value, ()), MOST_TERMS + 1))
        is_sum = [_is_sum(body, layout, body.node(part.node)) for part, _ in parts]
        if not any(is_sum) or len(parts) > MOST_TERMS:
            return Sums(layout, (), value)
        terms: list[_Term] = []
        rest: Value | None = None
        for (part, after), apart in zip(parts, is_sum, strict=True):
            if apart:
                terms.append(_Term(body.node(part.node), after))
                continue
            for step in after:
                part = _applied(body, step, part)
            rest = part if rest is None else body.op("add", rest, part)
        return Sums(layout, tuple(terms), rest)

    @property
    def parts(self) -> tuple[Value, ...]:
        """The values of each step that the sums are made of."""
        return tuple(part for term in self.terms for part in term.parts)

    def total(self, build: Builder, stacked: Mapping[Value, Value], carried: Value | None) -> Value | None:
        """The sum over all steps in the graph around the loop.

        stacked: the sequence of each of `parts`. carried: the sum of the rest.
        """
        total = carried
        for term in self.terms:
            found = self._sum(build, term, stacked)
            for step in term.after:
                found = _applied(build, step, found)
            total = found if total is None else build.op("add", total, found)
        return total

    def _sum(self, build: Builder, term: _Term, stacked: Mapping[Value, Value]) -> Value:
        parts = [stacked[part] for part in term.parts]
        if term.node.op == "matmul":
            return build.op("matmul", *(_rows(build, part) for part in parts), transpose_a=True)
        (part,) = parts
        time = self.layout.axis(build.type(part).rank - 1)
        reduced = integers_of(term.node.attrs["axes"])
        axes = sorted([time, *(axis + (axis >= time) for axis in reduced)])
        total = build.op("sum", part, axes=tuple(axes))
        shape = term.node.type.shape
        return total if build.type(total).shape == shape else build.op("reshape", total, shape=shape)


def _parts(body: Builder, value: Value, after: tuple[Node, ...]) -> Iterator[tuple[Value, tuple[Node, ...]]]:
    """The values that `value` is the sum of, each with the operators that come after it."""
    node = body.node(value.node)
    operands = [operand for operand in node.operands if operand is not None]
    if node.op == "add" and all(body.type(operand) == node.type for operand in operands):
        for operand in operands:
            yield from _parts(body, operand, after)
    elif node.op in LINEAR:
        (operand,) = operands
        yield from _parts(body, operand, (node, *after))
    else:
        yield value, after


def _is_sum(body: Builder, layout: Layout, node: Node) -> bool:
    """Whether stacked operands give the sum over the steps in one operator."""
    if node.op == "sum":
        return True
    if node.op != "matmul" or not node.attrs["transpose_a"] or node.attrs["transpose_b"]:
        return False
    return layout.along <= 1 and all(body.type(part).rank == 2 for part in node.operands if part is not None)


def _rows(build: Builder, stacked: Value) -> Value:
    """The first two axes as one; steps are one of them."""
    first, second, *rest = build.type(stacked).shape
    return build.op("reshape", stacked, shape=(product((first, second)), *rest))


def _applied(build: Builder, node: Node, operand: Value) -> Value:
    return build.op(node.op, operand, name=None, span=node.span, **node.attrs)
