"""What neighbouring nodes cost together with their gradients, and what the rest of a graph sees of them.

A *region* is a piece, or several that the cleaning passes would change together. It is measured once, by
the passes themselves: its joint graph is made as `joint_graph` makes that of a whole, then counted. Holes in
sizes stay holes in the counts, until `Measured.figures` fills them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from esper.errors import EsperError
from esper.ir.canonical import RESULT_BITS, RESULT_MASK
from esper.ir.dims import Dim, Size, substitute
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, Attrs, AttrValue, Kind
from esper.ir.types import TensorType
from esper.passes import Pass, parse_pipeline
from esper.passes.autodiff import GRADIENT, Autodiff
from esper.passes.canonicalize import COMMUTATIVE, SEES
from esper.passes.expand import Expand
from esper.passes.fold import Fold
from esper.passes.manager import CLEAN, DEFAULT
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.figures import Work, cost_of, read_back, viewed
from esper.tezzeret.costs.holes import (
    Apart,
    By,
    counting,
    filled_attrs,
    filled_type,
    has_holes,
    is_counted,
    numbers_in,
    sizes_in,
)
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

Key = tuple[tuple[tuple[int, tuple[int | None, ...], int, int], ...], tuple[int, ...], tuple[int, ...]]
"""For each node its piece's number, its operands, and bits that say which results leave the region and which
get gradients from outside; then the kinds of values from outside, and of several pieces what stands in their
holes, as codes of a `pattern`. Operands are values inside by position in the region, or -1, -2, … for the
first, second, … value from outside."""

Count = Callable[[Sequence[int]], int]

Place = tuple[str, int]
"""A value that the rest of the graph sees: "x" and the number of a value from outside, "r" and a result,
"g" and a result for its gradient from outside, "d" and the number of a value from outside for the gradient
that goes back to it, "c" and a key for a constant, "s" and a place in `Measured.scalars` for one that a hole
makes, "n" and a position for a value that stays inside."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A node of a region's joint graph. key: operator, attributes, types but for sizes, as one number, or -1
    where it is equal to no other. operands: places."""

    key: int
    node: Node
    operands: tuple[Place, ...]
    results: tuple[Place, ...]
    is_free: bool
    commutes: bool


@dataclass(slots=True)
class Figures:
    """Of a region whose holes are filled, in the order of `Measured`. scalars: their keys. seconds: by
    device. keys: of the nodes, as in `Seen`, but with sizes; None until someone asks."""

    flops: int
    bytes: int
    work: tuple[Work, ...]
    kept: tuple[int, ...]
    scalars: tuple[int, ...]
    seconds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    keys: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One region.

    work: flops and bytes of each node that costs anything. asked: the results whose gradients from outside
    count. makers: the operators that make results and gradients, by place; same: those that are another
    place's value instead. gradients: the numbers of values from outside that gradients go back to.
    reactions: places that a rule looks behind, with what it reacts to. meeting: nodes whose operands are all
    seen from outside, which other regions may compute, too, with bits of the values from outside that they
    read. nodes: all but leaves. kept: what the backward
    pass reads of the forward pass, with bytes, views as what they are views of; views: results that are views
    of another place. scalars: nodes that give a size as a value, constants once their holes are filled.
    apart: for which sizes in holes all this holds. filled: the figures, by these sizes.
    """

    work: tuple[tuple[Count, Count], ...]
    asked: frozenset[int]
    makers: Mapping[Place, str]
    same: Mapping[Place, Place]
    gradients: frozenset[int]
    reactions: tuple[tuple[Place, frozenset[str]], ...]
    meeting: tuple[tuple[int, bool, tuple[Place, ...], int], ...]
    nodes: tuple[Seen, ...]
    kept: tuple[tuple[Place, Count], ...]
    views: Mapping[Place, Place]
    scalars: tuple[Node, ...]
    apart: Apart
    filled: dict[tuple[int, ...], Figures | None] = field(default_factory=dict)

    def figures(self, values: tuple[int, ...], keys: dict[object, int]) -> Figures | None:
        """With `values` in the holes; None where the passes may make something else of these sizes."""
        if values not in self.filled:
            try:
                self.filled[values] = self._filled(values, keys)
            except (EsperError, ArithmeticError):
                self.filled[values] = None
        return self.filled[values]

    def _filled(self, values: tuple[int, ...], keys: dict[object, int]) -> Figures | None:
        if not self.apart.holds(values):
            return None
        work = tuple([Work(flops(values), moved(values)) for flops, moved in self.work])
        if not all(entry.flops or entry.bytes for entry in work):
            return None
        flops, moved = sum([entry.flops for entry in work]), sum([entry.bytes for entry in work])
        scalars = [_folded(node, values) for node in self.scalars]
        if any(node.op != "constant" for node in scalars):
            return None
        kept = tuple([count(values) for _, count in self.kept])
        return Figures(flops, moved, work, kept, tuple([number_of(whole(node), keys) for node in scalars]))


def _folded(node: Node, values: Sequence[int]) -> Node:
    """A size as a value, with `values` in its holes."""
    filled = node.replace(attrs=filled_attrs(node.attrs, values))
    return Fold().run(BlueprintIR("size", (filled,), (("size", filled.result()),))).nodes[0]


def measured(
    key: Key, pieces: Sequence[Piece], by: Sequence[By], sizes: Mapping[str, int], keys: dict[object, int]
) -> Measured:
    """pieces: of the region's nodes, in order, then those that kinds in `key` name. by: what stands in the
    holes of the region's nodes. keys: numbers of operators with attributes and types, which is added to.

    Raises `Unforeseen`, and what passes raise where the graph is at fault.
    """
    nodes = [
        Filled(
            piece.op,
            filled_attrs(piece.attrs, own),
            tuple([None if type is None else filled_type(type, own) for type in piece.operand_types]),
            tuple([filled_type(type, own) for type in piece.types]),
        )
        for piece, own in zip(pieces, by, strict=False)
    ]
    stages = _stages(key, nodes, pieces[len(nodes) :])
    made = {id(node): node for stage in stages for node in stage.nodes}  # passes keep most as they are
    apart = Apart.of(_sizes(made.values()) if has_holes(stages[0].nodes) else ())
    return _Count(stages[-1], key, sizes, keys).measured(apart)


@dataclass(frozen=True, slots=True)
class Filled:
    """A piece in a region, with what stands for its holes there."""

    op: str
    attrs: Attrs
    operand_types: tuple[TensorType | None, ...]
    types: tuple[TensorType, ...]


def _sizes(nodes: Iterable[Node]) -> Iterator[Size]:
    for node in nodes:
        yield from sizes_in(node.attrs, node.types)
        yield from numbers_in(node.op, node.attrs)


def _stages(key: Key, nodes: Sequence[Filled], fixed: Sequence[Piece]) -> list[BlueprintIR]:
    """The graph of a region before and after each pass, of which the last gives the joint graph."""
    described, kinds, _ = key
    outside: dict[int, TensorType] = {}
    made: list[Node] = []
    outputs: list[tuple[str, Value]] = []
    updates: list[tuple[str, Value]] = []
    for position, (node, (_, operands, used, graded)) in enumerate(zip(nodes, described, strict=True)):
        for operand, operand_type in zip(operands, node.operand_types, strict=True):
            if operand is not None and operand < 0 and operand_type is not None:
                outside.setdefault(-1 - operand, operand_type)
        made.append(Node(f"n{position}", node.op, tuple(map(_value, operands)), node.attrs, node.types))
        for index, type in enumerate(node.types):
            if not used >> index & 1:
                continue
            value, name = Value(f"n{position}", index), f"r{position << RESULT_BITS | index}"
            if graded >> index & 1 or not type.dtype.is_floating:
                outputs.append((name, value))
            else:  # a value that leaves and gets no gradient, as what a running statistic becomes
                made.insert(0, Node(name, "buffer", (), frozen_attrs({"init": "zeros"}), (type,)))
                updates.append((name, value))
    leaves: list[Node] = []
    constants = iter(fixed)
    for number, kind in enumerate(kinds):
        name, type = f"x{number}", outside[number]
        if kind >= 0:
            piece = next(constants)
            leaves.append(Node(name, piece.op, (), piece.attrs, (type,)))
        elif kind == ACTIVE or not type.dtype.is_floating:
            leaves.append(Node(name, "input", (), frozen_attrs({}), (type,)))
        else:
            leaves.append(Node(name, "buffer", (), frozen_attrs({"init": "zeros"}), (type,)))
    stages = [BlueprintIR("region", (*leaves, *made), tuple(outputs), tuple(updates))]
    for entry in _PASSES:
        stages.append(entry.run(stages[-1]))
    return stages


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
        self.scalars: list[Node] = []
        for position, node in enumerate(joint.nodes):
            for value in node.results:
                self.places[value] = self._leaf(node) or ("n", position << RESULT_BITS | value.index)
        for name, value in (*joint.updates, *joint.outputs):
            self._yield(name, value)

    def _leaf(self, node: Node) -> Place | None:
        if node.name.startswith(GRADIENT):
            return "g", int(node.name.removeprefix(GRADIENT + "r"))
        if node.op == "constant" or (node.name.startswith("x") and self.kinds[int(node.name[1:])] >= 0):
            if has_holes((node,)):
                raise Unforeseen("a constant of a size that is not known")
            return "c", number_of(whole(node), self.keys)
        if node.op == "size" and isinstance(size := node.attrs["value"], Dim) and is_counted(size):
            self.scalars.append(node)
            return "s", len(self.scalars) - 1
        return ("x", int(node.name[1:])) if node.name.startswith("x") else None

    def _yield(self, name: str, value: Value) -> None:
        if name.startswith(GRADIENT):
            number = int(name.removeprefix(GRADIENT + "x"))
            self.gradients.add(number)
            place: Place = "d", number
        else:
            place = "r", int(name[1:])
            self.results.append((place, value))
        before = self.places[value]
        if before[0] in "cs":
            raise Unforeseen("a constant leaves a region")
        if before[0] == "n":
            self.places[value] = place
            self.makers[place] = self._maker(value)
        else:
            self.same[place] = before

    def _counting(self, size: Size) -> Count:
        found = substitute(size, self.sizes)
        if isinstance(found, Dim) and not is_counted(found):
            raise Unforeseen("a size symbol without a number")
        return counting(found)

    def _maker(self, value: Value) -> str:
        """The operator that makes `value`. Of a sum of gradients, one that `add` looks behind, if what it
        adds has one: in the whole graph, each of them is added to what other regions give."""
        node = self.joint.node(value.node)
        added = [value]
        while node.op == "add" and added:
            below = self.joint.node(added.pop().node)
            if below.op in SEES["add"]:
                return below.op
            if below.op == "add":
                added += [operand for operand in below.operands if operand is not None]
        return node.op

    def measured(self, apart: Apart) -> Measured:
        work, nodes, meeting = [], [], []
        reactions: dict[Place, frozenset[str]] = {}
        for node in self.joint.nodes:
            if self._is_leaf(node):
                continue
            found = cost_of(self.joint, node)
            is_free = found is None or not (found.flops or found.read + found.written)
            if found is not None and not is_free:
                work.append((self._counting(found.flops), self._counting(found.read + found.written)))
            operands = tuple(self.places[value] for value in node.operands if value is not None)
            kinds = {place[0] for place in operands}
            if "s" in kinds <= {"c", "s"}:
                raise Unforeseen("arithmetic on a size that is not known")
            sees = SEES.get(node.op)
            if sees:
                for place in operands:
                    if place[0] in "xg":
                        reactions[place] = reactions.get(place, frozenset()) | sees
            key = -1
            if not OPERATORS[node.op].has_identity(node.attrs):
                key = number_of(bare(node), self.keys)
            results = tuple(self.places[value] for value in node.results)
            nodes.append(Seen(key, node, operands, results, is_free, node.op in COMMUTATIVE))
            if key >= 0 and all(place[0] != "n" for place in operands):
                read = sum({1 << place[1] for place in operands if place[0] == "x"})
                meeting.append((key, node.op in COMMUTATIVE, operands, read))
        kept, views = self._kept()
        asked = {index for entry in nodes for kind, index in entry.operands if kind == "g"}
        asked |= {index for kind, index in self.same.values() if kind == "g"}
        return Measured(
            tuple(work),
            frozenset(asked),
            self.makers,
            self.same,
            frozenset(self.gradients),
            tuple(reactions.items()),
            tuple(meeting),
            tuple(nodes),
            kept,
            views,
            tuple(self.scalars),
            apart,
        )

    def _is_leaf(self, node: Node) -> bool:
        return (not node.operands and self.places[node.result()][0] in "xgcs") or node.op == "buffer"

    def _kept(self) -> tuple[tuple[tuple[Place, Count], ...], dict[Place, Place]]:
        joint = self.joint
        kept = {
            self.places[base]: self._counting(joint.type(base).bytes)
            for base in read_back(joint)
            if self.places[base][0] not in "cs"
        }
        views = {}
        for place, value in self.results:
            base = viewed(joint, value)
            if base != value:
                views[place] = self.places[base]
        return tuple(kept.items()), views


def bare(node: Node) -> object:
    """What a node is but for its sizes."""
    entry = OPERATORS[node.op]
    attrs: list[object] = []
    for name, value in node.attrs.items():
        attribute = entry.attribute(name)
        if isinstance(value, tuple):
            attrs.append(len(value))
        elif not isinstance(value, Dim) and (attribute is None or attribute.kind is not Kind.DIM):
            attrs.append(_exactly(value))
    return node.op, tuple(attrs), tuple([(type.dtype, type.rank) for type in node.types])


def whole(node: Node, values: Sequence[int] = ()) -> object:
    """What a node is, with `values` in the holes."""
    attrs = filled_attrs(node.attrs, values) if values else node.attrs
    types = tuple([filled_type(type, values) for type in node.types]) if values else node.types
    return node.op, tuple(map(_exactly, attrs.values())), types


def _exactly(value: AttrValue) -> object:
    return value.structure if isinstance(value, BlueprintIR) else (type(value), str(value))


def number_of(what: object, keys: dict[object, int]) -> int:
    """The number of `what` in `keys`, which is added to."""
    return keys.setdefault(what, len(keys))
