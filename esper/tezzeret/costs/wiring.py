"""A graph as a search keeps it: *pieces*, which candidates share, and how one candidate wires them.

A piece is all that is known of a node by itself: operator, attributes, types of operands and results. Sizes
in which candidates differ are holes (`esper.tezzeret.costs.holes`), and the wiring says what fills them. What
is derived from a piece (text for the hash, cost, gradient) is worked out once, whichever candidates use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from esper.errors import EsperError
from esper.ir.build import infer_types
from esper.ir.canonical import RESULT_BITS, RESULT_MASK, count_axes, digest, node_text
from esper.ir.dims import Dim, Size, size_symbols
from esper.ir.graph import BlueprintIR, frozen_attrs
from esper.ir.operator import OPERATORS, Attrs, AttrValue, Leaf, Operator
from esper.ir.types import TensorType
from esper.lang.construction import MAX_ELEMENTS
from esper.lang.sizes import MAX_SIZE
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.holes import By, filled_attrs, filled_type, hole, holes_of, is_hole, sizes_in

Operands = tuple[int | None, ...]
"""Values, each its node's position and the index of the result in one integer (see `RESULT_BITS`)."""


class Piece:
    """One of a table's; two nodes that differ in operands, name and what fills holes are the same piece.

    number: in order of making. floats: of which results elements are floating. is_fixed: a constant, or the
    seed. offset: of a random draw, which counts draws in the graph, else None. symbols: but for holes, which
    are counted from 0 in the order in which they occur. codes: -1, -2, … for the operands that it has. Texts
    and types are kept by what fills the holes.
    """

    __slots__ = (
        "attrs", "checked", "codes", "entry", "filled", "floats", "is_active_leaf", "is_fixed", "is_leaf",
        "number", "offset", "op", "operand_types", "shifted", "symbols", "texts", "types",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        op: str,
        attrs: Attrs,
        operand_types: tuple[TensorType | None, ...],
        types: tuple[TensorType, ...],
    ) -> None:
        self.number = number
        self.op = op
        self.entry: Operator = OPERATORS[op]
        self.attrs = attrs
        self.operand_types = operand_types
        self.types = types
        self.is_leaf = isinstance(self.entry.lowering, Leaf)
        self.is_fixed = op in ("constant", "seed")
        self.floats = tuple([type.dtype.is_floating for type in types])
        self.is_active_leaf = op in ("input", "param") and types[0].dtype.is_floating
        offset = attrs.get("offset") if self.entry.random else None
        self.offset = offset if isinstance(offset, int) else None
        symbols = frozenset().union(*map(size_symbols, sizes_in(attrs, types)))
        self.symbols = frozenset([name for name in symbols if not is_hole(name)])
        present = iter(range(len(operand_types)))
        self.codes = tuple([None if type is None else -1 - next(present) for type in operand_types])
        self.texts: dict[tuple[int, tuple[int, ...]], str] = {}
        self.filled: dict[tuple[int, ...], tuple[TensorType, ...]] = {(): types}
        self.checked: dict[tuple[int, ...], bool] = {(): True}
        self.shifted: dict[int, Piece] = {}

    def types_at(self, values: tuple[int, ...]) -> tuple[TensorType, ...]:
        """Of the results, with `values` in the holes."""
        found = self.filled.get(values)
        if found is None:
            found = self.filled[values] = tuple([filled_type(type, values) for type in self.types])
        return found

    def takes(self, values: tuple[int, ...]) -> bool:
        """Whether the operator's rule, which sees no numbers in holes, says the same of `values`."""
        found = self.checked.get(values)
        if found is None:
            try:
                found = self._says_the_same(values)
            except (EsperError, ArithmeticError):
                found = False
            self.checked[values] = found
        return found

    def _says_the_same(self, values: tuple[int, ...]) -> bool:
        types = self.types_at(values)
        if self.entry.infer is not None:
            operands = [None if type is None else filled_type(type, values) for type in self.operand_types]
            if infer_types(self.entry, operands, filled_attrs(self.attrs, values)) != types:
                return False
        if any(isinstance(size, int) and not 1 <= size <= MAX_SIZE for type in types for size in type.shape):
            return False
        elements = types[0].elements
        return not isinstance(elements, int) or elements <= MAX_ELEMENTS


def holes_among(attrs: Attrs, types: Sequence[TensorType | None]) -> list[int]:
    """The holes of a node, in order of their occurrence in `types`, then attributes."""
    found: dict[int, None] = {}
    for size in sizes_in(attrs, [type for type in types if type is not None]):
        if isinstance(size, Dim):
            found.update(dict.fromkeys(holes_of(size)))
    return [*found]


@dataclass(slots=True)
class Pieces:
    """The table of all pieces of one search, and what stands for size symbols in their texts."""

    known: dict[object, Piece] = field(default_factory=dict)
    spellings: dict[tuple[TensorType, ...], tuple[int, dict[str, Size]]] = field(default_factory=dict)
    numbers: dict[tuple[tuple[str, Size], ...], int] = field(default_factory=dict)

    def piece(
        self,
        op: str,
        attrs: Attrs,
        operand_types: tuple[TensorType | None, ...],
        types: tuple[TensorType, ...],
    ) -> Piece:
        """Attributes count as they print: 0.0 is not -0.0, and 1 is not True."""
        key = op, tuple([_exactly(value) for value in attrs.values()]), operand_types, types
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = Piece(len(self.known), op, attrs, operand_types, types)
        return found

    def general(
        self,
        op: str,
        attrs: Attrs,
        operand_types: tuple[TensorType | None, ...],
        types: tuple[TensorType, ...],
    ) -> tuple[Piece, tuple[int, ...]]:
        """The piece of a node with any holes, and which of these its own are, in order."""
        holes = holes_among(attrs, (*types, *operand_types))
        if holes != [*range(len(holes))]:
            by: By = {index: hole(number) for number, index in enumerate(holes)}
            attrs = filled_attrs(attrs, by)
            operand_types = tuple([None if type is None else filled_type(type, by) for type in operand_types])
            types = tuple([filled_type(type, by) for type in types])
        return self.piece(op, attrs, operand_types, types), tuple(holes)

    def moved(self, piece: Piece, offset: int) -> Piece:
        """The random draw `piece` with the offset of the candidate that uses it."""
        if piece.offset == offset:
            return piece
        found = piece.shifted.get(offset)
        if found is None:
            attrs = frozen_attrs({**piece.attrs, "offset": offset})
            found = self.piece(piece.op, attrs, piece.operand_types, piece.types)
            piece.shifted[offset] = found
        return found

    def spelling(self, inputs: tuple[TensorType, ...]) -> tuple[int, dict[str, Size]]:
        """A number, and what stands for each size symbol in the hash of graphs with these inputs."""
        found = self.spellings.get(inputs)
        if found is None:
            symbols: dict[str, Size] = {}
            count_axes(inputs, symbols)
            for type in inputs:
                node_text({}, (type,), symbols)
            number = self.numbers.setdefault(tuple(symbols.items()), len(self.numbers))
            found = self.spellings[inputs] = number, symbols
        return found


def _exactly(value: AttrValue) -> object:
    if isinstance(value, BlueprintIR):
        return BlueprintIR, value.structure
    if isinstance(value, float | bool):
        return type(value), str(value)
    return tuple(map(_exactly, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Wiring:
    """pieces, fills and operands: by position, operands before their readers. inputs: positions, in order.

    fills: what fills the holes of each piece. outputs: values. updates: for the position of a buffer, the
    value that it takes.
    """

    pieces: list[Piece]
    fills: list[tuple[int, ...]]
    operands: list[Operands]
    inputs: list[int]
    outputs: list[int]
    updates: dict[int, int]

    def type(self, value: int) -> TensorType:
        position = value >> RESULT_BITS
        return self.pieces[position].types_at(self.fills[position])[value & RESULT_MASK]

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        return tuple([self.type(position << RESULT_BITS) for position in self.inputs])

    def hash(self, table: Pieces) -> str:
        """The canonical hash of the graph. Raises `Unforeseen` for a size symbol that no input has."""
        number, symbols = table.spelling(self.input_types)
        pieces, fills = self.pieces, self.fills

        def text_of(position: int) -> tuple[str, str]:
            piece = pieces[position]
            key = number, fills[position]
            text = piece.texts.get(key)
            if text is None:
                if not piece.symbols <= symbols.keys():
                    raise Unforeseen("a size symbol that no input has")
                attrs = filled_attrs(piece.attrs, key[1]) if key[1] else piece.attrs
                text = piece.texts[key] = node_text(attrs, piece.types_at(key[1]), symbols)
            return piece.op, text

        return digest(self.operands.__getitem__, text_of, self.inputs, self.outputs, self.updates)


def wiring_of(ir: BlueprintIR, table: Pieces) -> Wiring:
    """`ir` in the pieces of `table`."""
    positions = {node.name: position for position, node in enumerate(ir.nodes)}
    pieces, operands = [], []
    for node in ir.nodes:
        types = tuple([None if value is None else ir.type(value) for value in node.operands])
        pieces.append(table.piece(node.op, node.attrs, types, node.types))
        operands.append(
            tuple(
                None if value is None else positions[value.node] << RESULT_BITS | value.index
                for value in node.operands
            )
        )
    return Wiring(
        pieces,
        [()] * len(pieces),
        operands,
        [positions[node.name] for node in ir.inputs],
        [positions[value.node] << RESULT_BITS | value.index for _, value in ir.outputs],
        {positions[name]: positions[value.node] << RESULT_BITS | value.index for name, value in ir.updates},
    )
