"""Slices before what is computed of them, and joins of slices' gradients: rewrites that save buffers.

A kernel reads a slice out of memory, so what is sliced would have to be stored first. Where a pointwise
result is read through slices alone, `slice(f(a, b))` becomes `f(slice(a), slice(b))`, down to what lies in
memory anyway, and slices of slices become one. The gradient of a tensor that is read in parts is a sum of
tensors that are zero but for one part; where the parts cover it, it is their concatenation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from esper.ir.build import Builder
from esper.ir.dims import Dim, Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Pointwise, View
from esper.ir.rewrite import rewrite
from esper.ops.axes import integers_of

Bounds = Mapping[int, tuple[Size, Size, int]]
"""Start, stop and step of a slice, counted from the front, by the axis."""


def with_slices_first(ir: BlueprintIR) -> BlueprintIR:
    """`ir` with slices as far up as they go, and sums of parts joined. What nothing reads then stays."""
    joined = rewrite(ir, _Joins(ir).rule)
    return rewrite(joined, _Slices(joined).rule)


def bounds_of(node: Node, shape: tuple[Size, ...]) -> Bounds:
    """What a slice, or the gradient of one, names of a tensor of `shape`."""
    axes = [axis % len(shape) for axis in integers_of(node.attrs["axes"])]
    starts = _sizes(node, "start") or (0,) * len(axes)
    stops = _sizes(node, "stop") or tuple(shape[axis] for axis in axes)
    steps = integers_of(node.attrs["step"]) or (1,) * len(axes)
    return {
        axis: (_from_front(start, shape[axis]), _from_front(stop, shape[axis]), step)
        for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True)
    }


def _from_front(at: Size, size: Size) -> Size:
    return size + at if isinstance(at, int) and at < 0 else at


def _sizes(node: Node, name: str) -> tuple[Size, ...]:
    value = node.attrs[name]
    assert isinstance(value, tuple)
    return tuple(size for size in value if isinstance(size, int | Dim))


# --- slices ---


MOST_READ = 2
"""The most tensors of its size that slices of a value are made of. Two kernels that read such a slice, one
that reduces it and one that needs the result, move no more than if the value had been stored."""


@dataclass
class _Slices:
    """sliced: whether a node is read through slices alone that can be taken of its operands, by its name."""

    ir: BlueprintIR
    sliced: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._look(frozenset())
        self._look(self._made_of_many())

    def _look(self, stays: frozenset[str]) -> None:
        """Fills `sliced`; what `stays` is read whole."""
        stays |= {value.node for value in self.ir.results}
        for node in reversed(self.ir.nodes):
            users = self.ir.users(node.name)
            passes = self._passes(node) or node.op == "slice"
            through = all(user.op == "slice" or self.sliced[user.name] for user in users)
            self.sliced[node.name] = passes and bool(users) and through and node.name not in stays

    def _made_of_many(self) -> frozenset[str]:
        """The nodes whose slices would be computed from more than `MOST_READ` tensors of their size."""
        reads: dict[str, frozenset[Value]] = {}
        found = set()
        for node in self.ir.nodes:
            if not self.sliced[node.name] or node.op == "slice":
                continue
            own: frozenset[Value] = frozenset()
            for operand in node.operands:
                if operand is not None and self.ir.type(operand).elements == node.type.elements:
                    own |= reads.get(operand.node, frozenset({operand}))
            if len(own) > MOST_READ:
                found.add(node.name)
            else:
                reads[node.name] = own
        return frozenset(found)

    def _passes(self, node: Node) -> bool:
        """Whether a slice of its result is the same of slices of its operands.

        What only stands behind a matrix product stays there: the product's kernel computes it for nothing.
        """
        lowering = OPERATORS[node.op].lowering
        if isinstance(lowering, View):
            return lowering.kind == "broadcast"
        if not isinstance(lowering, Pointwise) or lowering.depends_on_place:
            return False
        return not any(operand is not None and self._is_product(operand.node) for operand in node.operands)

    def _is_product(self, name: str) -> bool:
        node = self.ir.node(name)
        while isinstance(OPERATORS[node.op].lowering, View):
            node = self.ir.node(node.operand.node)
        return node.op == "matmul"

    def rule(self, build: Builder, node: Node) -> Sequence[Value] | None:
        if node.op != "slice":
            return None
        x = node.operand
        found = self._slice(build, x, bounds_of(node, build.type(x).shape))
        self.sliced[found.node] = self.sliced[node.name]
        return [found]

    def _slice(self, build: Builder, value: Value, bounds: Bounds) -> Value:
        """`bounds` of `value`, taken as early as may be."""
        node, shape = build.node(value.node), build.type(value).shape
        if node.op == "slice":
            x = node.operand
            return self._slice(build, x, _composed(bounds_of(node, build.type(x).shape), bounds))
        if self.sliced.get(node.name, False):
            operands = [self._operand(build, operand, shape, bounds) for operand in node.operands]
            if node.op == "broadcast_to":
                return build.op(node.op, *operands, shape=_shape(shape, bounds))
            attrs: dict[str, Any] = dict(node.attrs)
            return build.op(node.op, *operands, **attrs)
        return build.op(
            "slice",
            value,
            axes=tuple(bounds),
            start=tuple(start for start, _, _ in bounds.values()),
            stop=tuple(stop for _, stop, _ in bounds.values()),
            step=tuple(step for _, _, step in bounds.values()),
        )

    def _operand(
        self, build: Builder, operand: Value | None, shape: tuple[Size, ...], bounds: Bounds
    ) -> Value | None:
        """The part of an operand that `bounds` of a result of `shape` are made of."""
        if operand is None:
            return None
        own = build.type(operand).shape
        lead = len(shape) - len(own)
        cut = {axis - lead: bound for axis, bound in bounds.items() if axis >= lead and own[axis - lead] != 1}
        return self._slice(build, operand, cut) if cut else operand


def _composed(first: Bounds, then: Bounds) -> Bounds:
    """The bounds of a slice of a slice."""
    found = dict(first)
    for axis, (start, stop, step) in then.items():
        if axis in first:
            offset, _, stride = first[axis]
            found[axis] = (offset + start * stride, offset + (stop - 1) * stride + 1, stride * step)
        else:
            found[axis] = (start, stop, step)
    return dict(sorted(found.items()))


def _shape(shape: tuple[Size, ...], bounds: Bounds) -> tuple[Size, ...]:
    """Sizes of a slice."""
    sizes = list(shape)
    for axis, (start, stop, step) in bounds.items():
        sizes[axis] = (stop - start + (step - 1)) // step
    return tuple(sizes)


# --- sums of parts ---


@dataclass(frozen=True)
class _Joins:
    ir: BlueprintIR

    def rule(self, build: Builder, node: Node) -> Sequence[Value] | None:
        """A sum whose terms are each zero but for one part, and whose parts cover it."""
        terms = list(self._terms(build, node)) if node.op == "add" else []
        if not terms or any(term.op != "slice_backward" for term in terms):
            return None
        shape = node.type.shape
        bounds = [bounds_of(term, shape) for term in terms]
        axes = {axis for one in bounds for axis in one}
        if len(axes) != 1 or any(term.type != node.type for term in terms):
            return None
        (axis,) = axes
        parts = {one[axis][0]: (one[axis], term) for one, term in zip(bounds, terms, strict=True)}
        ordered: list[Value] = []
        at: Size = 0
        while at in parts:
            (_, stop, step), term = parts.pop(at)
            if step != 1:
                return None
            ordered.append(term.operand)
            at = stop
        if parts or at != shape[axis] or len(ordered) != len(terms):
            return None
        return [build.op("concat", *ordered, axis=axis)]

    def _terms(self, build: Builder, node: Node) -> Iterator[Node]:
        """The nodes that a tree of additions adds up, none of which has another reader."""
        for operand in node.operands:
            assert operand is not None
            term = build.node(operand.node)
            if term.op == "add" and len(self.ir.users(term.name)) == 1 and term.type == node.type:
                yield from self._terms(build, term)
            else:
                yield term
