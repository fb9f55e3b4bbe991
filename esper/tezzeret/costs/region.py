"""What neighbouring nodes cost together with their gradients, and what the rest of a graph sees of them.

A *region* is a piece, or several that the cleaning passes would change together. It is measured once, by the
passes themselves: its joint graph is made as `joint_graph` makes that of a whole, then counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esper.ir.canonical import RESULT_BITS, RESULT_MASK
from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS
from esper.ir.types import TensorType
from esper.passes import Pass, parse_pipeline
from esper.passes.autodiff import GRADIENT, Autodiff
from esper.passes.canonicalize import COMMUTATIVE, SEES
from esper.passes.expand import Expand
from esper.passes.manager import CLEAN, DEFAULT
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.figures import Work, read_back, viewed, work_of
from esper.tezzeret.costs.wiring import Piece

_PASSES: tuple[Pass, ...] = (
    *parse_pipeline(DEFAULT),
    Expand(),
    Autodiff(),
    *parse_pipeline(CLEAN),
)

INACTIVE, ACTIVE = -1, -2
"""Kinds of values from outside that no gradient, or a gradient, goes back to; others are numbers of pieces,
of constants and the seed."""

Key = tuple[tuple[tuple[int, tuple[int | None, ...], int, int], ...], tuple[int, ...]]
"""For each node its piece's number, its operands, and bits that say which results leave the region and which
get gradients from outside; then the kinds of values from outside. Operands are values inside by position in
the region, or -1, -2, … for the first, second, … value from outside."""

Place = tuple[str, int]
"""A value that the rest of the graph sees: "x" and the number of a value from outside, "r" and a result,
"g" and a result for its gradient from outside, "d" and the number of a value from outside for the gradient
that goes back to it, "c" and a key for a constant, "n" and a position for a value that stays inside."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A node of a region's joint graph. key: operator, attributes, types, as one number. operands: places."""

    key: int
    op: str
    operands: tuple[Place, ...]
    results: tuple[Place, ...]
    is_free: bool
    commutes: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """One region.

    work: of each node that costs anything. asked: the results whose gradients from outside count. makers: the
    operators that make results and gradients, by place; same: those that are another place's value instead.
    gradients: the numbers of values from outside that gradients go back to. reactions: places that a rule
    looks behind, with what it reacts to. meeting: nodes whose operands are all seen from outside, which other
    regions may compute, too. nodes: all but leaves. kept: what the backward pass reads of the forward pass,
    with bytes, views as what they are views of; views: results that are views of another place.
    """

    work: tuple[Work, ...]
    flops: int
    bytes: int
    asked: frozenset[int]
    makers: Mapping[Place, str]
    same: Mapping[Place, Place]
    gradients: frozenset[int]
    reactions: tuple[tuple[Place, frozenset[str]], ...]
    meeting: tuple[tuple[int, bool, tuple[Place, ...]], ...]
    nodes: tuple[Seen, ...]
    kept: tuple[tuple[Place, int], ...]
    views: Mapping[Place, Place]


def measured(
    key: Key,
    pieces: Sequence[Piece],
    outside: Sequence[TensorType],
    sizes: Mapping[str, int],
    keys: dict[object, int],
) -> Measured:
    """pieces: of the region's nodes, in order, then those that kinds in `key` name, by number of the value
    from outside. outside: types. keys: numbers of operators with attributes and types, which is added to.

    Raises `Unforeseen`, and what passes raise where the graph is at fault.
    """
    joint = _joint(key, pieces, outside)
    return _Count(joint, key, sizes, keys).measured()


def _joint(key: Key, pieces: Sequence[Piece], outside: Sequence[TensorType]) -> BlueprintIR:
    described, kinds = key
    nodes: list[Node] = []
    for number, (kind, type) in enumerate(zip(kinds, outside, strict=True)):
        name = f"x{number}"
        if kind >= 0:
            piece = pieces[len(described) + number]
            nodes.append(Node(name, piece.op, (), piece.attrs, (type,)))
        elif kind == ACTIVE or not type.dtype.is_floating:
            nodes.append(Node(name, "input", (), frozen_attrs({}), (type,)))
        else:
            nodes.append(Node(name, "buffer", (), frozen_attrs({"init": "zeros"}), (type,)))
    outputs: list[tuple[str, Value]] = []
    updates: list[tuple[str, Value]] = []
    for position, (_, operands, used, graded) in enumerate(described):
        piece = pieces[position]
        values = tuple(map(_value, operands))
        nodes.append(Node(f"n{position}", piece.op, values, piece.attrs, piece.types))
        for index, type in enumerate(piece.types):
            if not used >> index & 1:
                continue
            value, name = Value(f"n{position}", index), f"r{position << RESULT_BITS | index}"
            if graded >> index & 1 or not type.dtype.is_floating:
                outputs.append((name, value))
            else:  # a value that leaves and gets no gradient, as what a running statistic becomes
                nodes.insert(0, Node(name, "buffer", (), frozen_attrs({"init": "zeros"}), (type,)))
                updates.append((name, value))
    ir = BlueprintIR("region", tuple(nodes), tuple(outputs), tuple(updates))
    for entry in _PASSES:
        ir = entry.run(ir)
    return ir


def _value(operand: int | None) -> Value | None:
    if operand is None:
        return None
    return (
        Value(f"x{-1 - operand}")
        if operand < 0
        else Value(f"n{operand >> RESULT_BITS}", operand & RESULT_MASK)
    )


class _Count:
    """Reads a joint graph. Places of results stand before those of the nodes that make them."""

    def __init__(
        self, joint: BlueprintIR, key: Key, sizes: Mapping[str, int], keys: dict[object, int]
    ) -> None:
        self.joint, self.kinds, self.sizes, self.keys = joint, key[1], sizes, keys
        self.places: dict[Value, Place] = {}
        self.makers: dict[Place, str] = {}
        self.same: dict[Place, Place] = {}
        self.gradients: set[int] = set()
        self.results: list[tuple[Place, Value]] = []
        for position, node in enumerate(joint.nodes):
            for value in node.results:
                self.places[value] = self._leaf(node) or ("n", position << RESULT_BITS | value.index)
        for name, value in (*joint.updates, *joint.outputs):
            self._yield(name, value)

    def _leaf(self, node: Node) -> Place | None:
        if node.name.startswith(GRADIENT):
            return "g", int(node.name.removeprefix(GRADIENT + "r"))
        if node.op == "constant" or (node.name.startswith("x") and self.kinds[int(node.name[1:])] >= 0):
            return "c", self._key(node)
        return ("x", int(node.name[1:])) if node.name.startswith("x") else None

    def _key(self, node: Node) -> int:
        attrs = tuple(
            (type(value), str(value)) if not isinstance(value, BlueprintIR) else value.structure
            for value in node.attrs.values()
        )
        return self.keys.setdefault((node.op, attrs, node.types), len(self.keys))

    def _yield(self, name: str, value: Value) -> None:
        if name.startswith(GRADIENT):
            number = int(name.removeprefix(GRADIENT + "x"))
            self.gradients.add(number)
            place: Place = "d", number
        else:
            place = "r", int(name[1:])
            self.results.append((place, value))
        before = self.places[value]
        if before[0] == "c":
            raise Unforeseen("a constant leaves a region")
        if before[0] == "n":
            self.places[value] = place
            self.makers[place] = self.joint.node(value.node).op
        else:
            self.same[place] = before

    def measured(self) -> Measured:
        work, nodes, meeting = [], [], []
        reactions: dict[Place, frozenset[str]] = {}
        for node in self.joint.nodes:
            found = work_of(self.joint, node, self.sizes)
            if found is not None and (found.flops or found.bytes):
                work.append(found)
            if self._is_leaf(node):
                continue
            operands = tuple(self.places[value] for value in node.operands if value is not None)
            sees = SEES.get(node.op)
            if sees:
                for place in operands:
                    if place[0] in "xg":
                        reactions[place] = reactions.get(place, frozenset()) | sees
            key = self._key(node)
            if OPERATORS[node.op].has_identity(node.attrs):
                key = -1
            is_free = found is None or not (found.flops or found.bytes)
            results = tuple(self.places[value] for value in node.results)
            nodes.append(Seen(key, node.op, operands, results, is_free, node.op in COMMUTATIVE))
            if key >= 0 and all(place[0] != "n" for place in operands):
                meeting.append((key, node.op in COMMUTATIVE, operands))
        kept, views = self._kept()
        asked = {index for entry in nodes for kind, index in entry.operands if kind == "g"}
        asked |= {index for kind, index in self.same.values() if kind == "g"}
        return Measured(
            tuple(work),
            sum(entry.flops for entry in work),
            sum(entry.bytes for entry in work),
            frozenset(asked),
            self.makers,
            self.same,
            frozenset(self.gradients),
            tuple(reactions.items()),
            tuple(meeting),
            tuple(nodes),
            kept,
            views,
        )

    def _is_leaf(self, node: Node) -> bool:
        return (not node.operands and self.places[node.result()][0] in "xgc") or node.op == "buffer"

    def _kept(self) -> tuple[tuple[tuple[Place, int], ...], dict[Place, Place]]:
        joint = self.joint
        kept = {
            self.places[base]: evaluate_size(joint.type(base).bytes, self.sizes)
            for base in read_back(joint)
            if self.places[base][0] != "c"
        }
        views = {}
        for place, value in self.results:
            base = viewed(joint, value)
            if base != value:
                views[place] = self.places[base]
        return tuple(kept.items()), views
