"""A graph as a search keeps it: *pieces*, which candidates share, and how one candidate wires them.

A piece is all that is known of a node by itself: operator, attributes, types of operands and results. What is
derived from it (text for the hash, cost, gradient) is worked out once, however many candidates use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from esper.ir.canonical import RESULT_BITS, count_axes, digest, node_text
from esper.ir.dims import Dim, Size, size_symbols
from esper.ir.graph import BlueprintIR, frozen_attrs
from esper.ir.operator import OPERATORS, Attrs, AttrValue, Leaf, Operator
from esper.ir.types import TensorType
from esper.tezzeret.costs.errors import Unforeseen

Operands = tuple[int | None, ...]
"""Values, each its node's position and the index of the result in one integer (see `RESULT_BITS`)."""


class Piece:
    """One of a table's; two nodes that differ in operands and name alone are the same piece.

    number: in order of making. floats: of which results elements are floating. is_fixed: a constant, or the
    seed. offset: of a random draw, which counts draws in the graph, else None.
    """

    __slots__ = (
        "attrs", "entry", "floats", "is_active_leaf", "is_fixed", "is_leaf", "number", "offset", "op",
        "operand_types", "shifted", "symbols", "texts", "types",
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
        self.symbols = _symbols_of(attrs, types)
        self.texts: dict[int, str] = {}
        self.shifted: dict[int, Piece] = {}


def _symbols_of(attrs: Attrs, types: Sequence[TensorType]) -> frozenset[str]:
    found = [type.symbols for type in types]
    for value in attrs.values():
        if isinstance(value, BlueprintIR):
            found += [_symbols_of(node.attrs, node.types) for node in value.nodes]
        else:
            found += [
                size_symbols(item)
                for item in (value if isinstance(value, tuple) else (value,))
                if isinstance(item, Dim)
            ]
    return frozenset().union(*found)


@dataclass(slots=True)
class Pieces:
    """The table of all pieces of one search, and what stands for size symbols in their texts."""

    known: dict[object, Piece] = field(default_factory=dict)
    spellings: dict[tuple[TensorType, ...], tuple[int, dict[str, Size]]] = field(default_factory=dict)

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
            found = self.spellings[inputs] = len(self.spellings), symbols
        return found


def _exactly(value: AttrValue) -> object:
    if isinstance(value, BlueprintIR):
        return BlueprintIR, value.structure
    if isinstance(value, float | bool):
        return type(value), str(value)
    return tuple(map(_exactly, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Wiring:
    """pieces and operands: by position, operands before their readers. inputs: positions, in order.

    outputs: values. updates: for the position of a buffer, the value that it takes.
    """

    pieces: list[Piece]
    operands: list[Operands]
    inputs: list[int]
    outputs: list[int]
    updates: dict[int, int]

    def type(self, value: int) -> TensorType:
        return self.pieces[value >> RESULT_BITS].types[value & ((1 << RESULT_BITS) - 1)]

    def hash(self, table: Pieces) -> str:
        """The canonical hash of the graph. Raises `Unforeseen` for a size symbol that no input has."""
        number, symbols = table.spelling(tuple([self.pieces[position].types[0] for position in self.inputs]))
        pieces = self.pieces

        def text_of(position: int) -> tuple[str, str]:
            piece = pieces[position]
            text = piece.texts.get(number)
            if text is None:
                if not piece.symbols <= symbols.keys():
                    raise Unforeseen("a size symbol that no input has")
                text = piece.texts[number] = node_text(piece.attrs, piece.types, symbols)
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
        operands,
        [positions[node.name] for node in ir.inputs],
        [positions[value.node] << RESULT_BITS | value.index for _, value in ir.outputs],
        {positions[name]: positions[value.node] << RESULT_BITS | value.index for name, value in ir.updates},
    )
