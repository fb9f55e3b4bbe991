"""Concatenations of what pointwise operators make: computed where the result is stored.

A kernel reads what it joins out of memory, so each operand would have to be stored first. Where operands are
pointwise and nobody else needs them in memory, the concatenation is taken of what they are made of, as a
slice is taken before what is computed of it (`esper.urza.plan.slices`):

- `concat(f(a, p), f(b, q))` is `f(concat(a, b), concat(p, q))`;
- of operands that are made in different ways each is computed at its own places and padded to the whole, from
  its own operands padded, and the place chooses: `where(pad(1) > 0, pad(x), f(pad(a)))`.

Operands that share a tensor of their size that they are made of stay: one kernel computes both, and stores
them side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, combinations
from typing import Any

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Pointwise, Reduction
from esper.ir.rewrite import rewrite
from esper.ops.rules import attribute_integer
from esper.urza.plan.access import access, is_view
from esper.urza.plan.fold_uses import KINDS

MOST_NODES = 18
"""The most nodes that a concatenation becomes: a kernel computes about so many again without giving up."""


def with_concats_first(ir: BlueprintIR) -> BlueprintIR:
    """`ir` with concatenations as far up as they go. What nothing reads then stays."""
    return rewrite(ir, _Concats(ir).rule)


@dataclass(frozen=True)
class _Concats:
    ir: BlueprintIR
    names: frozenset[str] = field(init=False)
    results: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(node.name for node in self.ir.nodes))
        object.__setattr__(self, "results", frozenset(value.node for value in self.ir.results))

    def rule(self, build: Builder, node: Node) -> Sequence[Value] | None:
        if node.op != "concat":
            return None
        values = [operand for operand in node.operands if operand is not None]
        axis = attribute_integer(node.attrs, "axis") % node.type.rank - node.type.rank
        if not any(self._is_computed(build, value) for value in values):
            return None
        sources = [self._sources(build, value) for value in values]
        if any(one & other for one, other in combinations(sources, 2)):
            return None
        if any(self._widens(build, value, made_of) for value, made_of in zip(values, sources, strict=True)):
            return None
        for form in (_alike, _chosen):
            written = _Written(self, build, axis)
            found = form(written, values)
            if found is not None and written.nodes <= MOST_NODES:
                return [found]
        return None

    def _is_computed(self, build: Builder, value: Value) -> bool:
        """Whether `value` is pointwise, and nobody needs it in memory but concatenations."""
        node = build.node(value.node)
        lowering = OPERATORS[node.op].lowering
        if not isinstance(lowering, Pointwise) or lowering.depends_on_place or not node.operands:
            return False
        if node.name not in self.names or node.name in self.results or self._is_read_from_memory(node):
            return False
        return not any(one is not None and self._is_ahead(build, one, node) for one in node.operands)

    def _is_ahead(self, build: Builder, operand: Value, node: Node) -> bool:
        """Whether `operand` is what a kernel adds up, which then computes `node` for nothing."""
        op = _base(build, operand).op
        return op == "matmul" or (op in KINDS and build.type(operand).elements == node.type.elements)

    def _is_read_from_memory(self, node: Node) -> bool:
        for user in self.ir.users(node.name):
            lowering = OPERATORS[user.op].lowering
            if is_view(user):
                if user.name in self.results or self._is_read_from_memory(user):
                    return True
            elif not isinstance(lowering, Pointwise | Reduction) and user.op != "concat":
                return True
        return False

    def _sources(self, build: Builder, value: Value) -> frozenset[Value]:
        """What is read from memory to compute `value`, of its size."""
        node, elements = build.node(value.node), build.type(value).elements
        if not self._is_computed(build, value):
            found = access(build, value)
            return frozenset({value if found is None else found.base})
        full = [one for one in node.operands if one is not None and build.type(one).elements == elements]
        return frozenset().union(*(self._sources(build, one) for one in full))

    def _widens(self, build: Builder, value: Value, sources: frozenset[Value]) -> bool:
        """Whether something wider than `value` itself would have to be stored for it."""
        return any(
            isinstance(OPERATORS[build.node(one.node).op].lowering, Pointwise)
            and build.type(one).dtype.bytes > build.type(value).dtype.bytes
            for one in sources
        )


@dataclass
class _Written:
    """What one concatenation becomes. axis: counted from the last one. nodes: how many there are so far."""

    concats: _Concats
    build: Builder
    axis: int
    nodes: int = 0

    def op(self, op: str, *operands: Value | float | None, **attrs: Any) -> Value:
        self.nodes += 1
        return self.build.op(op, *operands, **attrs)

    def size(self, value: Value) -> Size:
        """Along the axis; 1 where `value` has fewer axes."""
        shape = self.build.type(value).shape
        return shape[self.axis] if len(shape) >= -self.axis else 1

    def across(self, value: Value) -> tuple[Size, ...]:
        """The sizes of the other axes."""
        shape = self.build.type(value).shape
        return tuple(size for axis, size in enumerate(shape, -len(shape)) if axis != self.axis)

    def can_be_padded(self, value: Value) -> bool:
        """Whether what `_padded` would pad for `value` is floating, as `pad` takes it."""
        if self.size(value) == 1:
            return True
        if not self.concats._is_computed(self.build, value):
            return self.build.type(value).dtype.is_floating
        given = [one for one in self.build.node(value.node).operands if one is not None]
        return all(self.can_be_padded(one) for one in given if self.size(one) == self.size(value))


def _base(build: Builder, value: Value) -> Node:
    found = access(build, value)
    return build.node((value if found is None else found.base).node)


# --- operands that are made alike ---


def _alike(written: _Written, values: Sequence[Value]) -> Value | None:
    """`f(concat(...), concat(...))`; None where the operands are not results of one operator."""
    build = written.build
    nodes = [build.node(value.node) for value in values]
    first = nodes[0]
    if not all(written.concats._is_computed(build, value) for value in values):
        return None
    if any((node.op, dict(node.attrs)) != (first.op, dict(first.attrs)) for node in nodes):
        return None
    operands: list[Value | None] = []
    is_joined = False
    for row in zip(*(node.operands for node in nodes), strict=True):
        given = [operand for operand in row if operand is not None]
        if len(set(row)) == 1 and (not given or written.size(given[0]) == 1):
            operands.append(row[0])
        elif len(given) == len(row) and all(
            written.size(one) == written.size(value)
            and written.across(one) == written.across(given[0])
            and build.type(one).rank == build.type(given[0]).rank
            for one, value in zip(given, values, strict=True)
        ):
            is_joined = True
            operands.append(_alike(written, given) or _side_by_side(written, given))
        else:
            return None
    if not is_joined:
        return None
    attrs: dict[str, Any] = dict(first.attrs)
    return written.op(first.op, *operands, **attrs)


def _side_by_side(written: _Written, values: Sequence[Value]) -> Value:
    return written.op("concat", *values, axis=written.build.type(values[0]).rank + written.axis)


# --- operands that are made in different ways ---


def _chosen(written: _Written, values: Sequence[Value]) -> Value | None:
    """`where(place < ..., pad(...), ...)`; None where sizes along the axis are open, or parts no floats."""
    sizes = [written.size(value) for value in values]
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) < len(sizes) or not all(map(written.can_be_padded, values)):
        return None
    total, ends = sum(numbers), list(accumulate(numbers))
    parts = [
        _padded(written, value, end - size, total - end)
        for value, end, size in zip(values, ends, numbers, strict=True)
    ]
    found = parts[-1]
    for part, end in zip(parts[-2::-1], ends[-2::-1], strict=True):
        found = written.op("where", _before(written, end, total), part, found)
    return found


def _before(written: _Written, end: int, total: int) -> Value:
    """Whether a place along the axis is before `end`, as a tensor that is nowhere in memory."""
    ones = written.op("broadcast_to", written.build.constant(1.0), shape=(end, *[1] * (-written.axis - 1)))
    return written.op("greater", _pad(written, ones, 0, total - end), 0.0)


def _pad(written: _Written, value: Value, before: int, after: int) -> Value:
    return written.op("pad", value, pad=(*[0, 0] * (-written.axis - 1), before, after))


def _padded(written: _Written, value: Value, before: int, after: int) -> Value:
    """`value` at its places, with anything else before and after it; one element stands for all places."""
    node = written.build.node(value.node)
    if written.size(value) == 1:
        return value
    if not written.concats._is_computed(written.build, value):
        return _pad(written, value, before, after)
    operands = [
        operand
        if operand is None or written.size(operand) != written.size(value)
        else _padded(written, operand, before, after)
        for operand in node.operands
    ]
    attrs: dict[str, Any] = dict(node.attrs)
    return written.op(node.op, *operands, **attrs)
