"""layout: maps between convolutions stand with their channels last, as fast convolutions read them.

Each convolution becomes its form on [N, ...S, C] between two permutes. What reads the second one, and works
element by element, sums, or normalises by channel, reads the map before it instead, so that the permutes left
are those where maps come in and where something else reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.dims import product
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Pointwise, Reduction, Role
from esper.ir.rewrite import map_bodies, rewrite
from esper.ops.channels_last import channels_last
from esper.passes.law import Law, register

_MAPS = {"convolution": (0,), "convolution_input_grad": (0,), "convolution_weight_grad": (0, 1)}
_NORMS = {"batch_norm": (0,), "batch_norm_backward": (0, 1)}
"""The operands of each that are maps."""


@register
@dataclass(frozen=True)
class Layout:
    """For graphs after `expand`, and after `precision` and `fold_batch_norm`, which look for convolutions.

    A graph without bare convolutions is left alone; so are layers.
    """

    name: ClassVar[str] = "layout"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        ir = map_bodies(ir, self.run)
        moved = _Moved()

        def rule(build: Builder, node: Node) -> Sequence[Value] | None:
            if node.op in _MAPS:
                return _convolved(build, node, moved)
            if not any(operand in moved.twins for operand in node.operands):
                return None
            lowering = OPERATORS[node.op].lowering
            if node.op in _NORMS:
                return _normalised(build, node, moved)
            if isinstance(lowering, Pointwise):
                return _mapped(build, node, moved)
            return _reduced(build, node, moved) if isinstance(lowering, Reduction) else None

        after = rewrite(ir, rule)
        read = {value.node for value in after.results}
        unread = {
            value.node for value in moved.twins if value.node not in read and not after.users(value.node)
        }
        kept = [node for node in after.nodes if node.name not in unread]
        return after if len(kept) == len(after.nodes) else after.replace(nodes=kept)


@dataclass(slots=True)
class _Moved:
    """twins: for maps that the pass has made, the same with channels last, which they are permutes of.

    entered: for other operands and the rank they are read in, the same with channels last.
    """

    twins: dict[Value, Value] = field(default_factory=dict)
    entered: dict[tuple[Value, int], Value] = field(default_factory=dict)

    def last(self, build: Builder, value: Value, rank: int) -> Value:
        """`value`, of `rank` axes or broadcast to them, with channels last."""
        type = build.type(value)
        if type.rank == 0:
            return value
        if value in self.twins:
            return self.twins[value]
        if (value, rank) not in self.entered:
            self.entered[value, rank] = self._enter(build, value, rank)
        return self.entered[value, rank]

    def _enter(self, build: Builder, value: Value, rank: int) -> Value:
        shape = build.type(value).shape
        shape = (*(1 for _ in range(rank - len(shape))), *shape)
        if all(size == 1 for axis, size in enumerate(shape) if axis != 1):
            return build.op("reshape", value, shape=channels_last(shape))
        if build.type(value).rank < rank:
            value = build.op("reshape", value, shape=shape)
        return build.op("permute", value, axes=(0, *range(2, rank), 1))

    def back(self, build: Builder, last: Value) -> Value:
        """`last` with its channels on axis 1, known to be a permute of it."""
        rank = build.type(last).rank
        value = build.op("permute", last, axes=(0, rank - 1, *range(1, rank - 1)))
        self.twins[value] = last
        return value


def _convolved(build: Builder, node: Node, moved: _Moved) -> Sequence[Value]:
    operands = list(node.operands)
    for index in _MAPS[node.op]:
        operand = operands[index]
        assert operand is not None
        operands[index] = moved.last(build, operand, build.type(operand).rank)
    attrs = dict(node.attrs)
    if node.op == "convolution_input_grad":
        attrs["shape"] = channels_last(node.type.shape)
    y = build.op(f"{node.op}_channels_last", *operands, name=None, span=node.span, **attrs)
    return [y if node.op == "convolution_weight_grad" else moved.back(build, y)]


def _mapped(build: Builder, node: Node, moved: _Moved) -> Sequence[Value] | None:
    """Element by element, if each result has the axes of the map; draws count elements in their order."""
    entry, rank = OPERATORS[node.op], node.type.rank
    if entry.random or any(given.role is Role.SEED for given in entry.inputs):
        return None
    if any(build.type(operand).rank != rank for operand in node.operands if operand in moved.twins):
        return None
    operands = [None if operand is None else moved.last(build, operand, rank) for operand in node.operands]
    results = build.ops(node.op, *operands, name=None, span=node.span, **node.attrs)
    return [moved.back(build, value) for value in results]


def _reduced(build: Builder, node: Node, moved: _Moved) -> Sequence[Value] | None:
    """A reduction, if the axes that it leaves keep their order or stay with size 1."""
    (x,) = node.operands
    assert x is not None
    rank, axes = build.type(x).rank, node.attrs["axes"]
    assert isinstance(axes, tuple)
    places = (0, rank - 1, *range(1, rank - 1))
    reduced = {places[axis % rank] for axis in axes if isinstance(axis, int)}
    left = [place for place in places if place not in reduced]
    if not node.attrs["keepdims"] and left != sorted(left):
        return None
    attrs = {**node.attrs, "axes": tuple(sorted(reduced))}
    y = build.op(node.op, moved.twins[x], name=None, span=node.span, **attrs)
    return [moved.back(build, y) if node.attrs["keepdims"] else y]


def _normalised(build: Builder, node: Node, moved: _Moved) -> Sequence[Value]:
    """A batch norm over rows [N * S, C]; the statistics by channel are the same."""
    operands = list(node.operands)
    for index in _NORMS[node.op]:
        operand = operands[index]
        assert operand is not None
        last = moved.last(build, operand, build.type(operand).rank)
        shape = build.type(last).shape
        operands[index] = build.op("reshape", last, shape=(product(shape[:-1]), shape[-1]))
    results = build.ops(node.op, *operands, name=None, span=node.span, **node.attrs)
    rows = build.op("reshape", results[0], shape=channels_last(node.type.shape))
    return [moved.back(build, rows), *results[1:]]
