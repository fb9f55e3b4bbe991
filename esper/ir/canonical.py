"""The canonical hash: equal for graphs that differ only in names and node order.

Nodes are numbered by an ordered depth-first walk from the results; each contributes its operator,
attributes, result types and operand numbers. Inputs and outputs count by position, size symbols by the
first input that has them as an axis, else by first use. A node is numbered once, so two parameters are
two however alike they are. Nodes that no result needs do not count, except inputs, which are the
signature. Buffer updates are walked in the order of their buffers' first use, those of buffers that
nothing else reads as they are listed. A body counts by its own canonical form, in the size symbols of
the graph around it. Symbols that no input has as an axis of its own, and that meet first in one size,
count by their names: such a graph cannot run by itself, since nothing tells their values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from esper.ir.dims import Dim, Size, size_symbols, substitute, symbol
from esper.ir.graph import BlueprintIR, Value
from esper.ir.operator import Attrs, AttrValue
from esper.ir.types import TensorType

FORMAT = "esper-ir-1"

RESULT_BITS = 20
"""A value is one integer in the walk: its node's position, and in the low bits the index of the result."""

RESULT_MASK = (1 << RESULT_BITS) - 1


def canonical_hash(ir: BlueprintIR) -> str:
    """SHA-256 of the canonical form, in hexadecimal."""
    return _digest(ir, {})


def structural_hash(ir: BlueprintIR) -> str:
    """As `canonical_hash`, with size symbols as they are called."""
    return _digest(ir, None)


def _digest(ir: BlueprintIR, symbols: dict[str, Size] | None) -> str:
    positions = {node.name: position for position, node in enumerate(ir.nodes)}

    def value_of(value: Value) -> int:
        return positions[ir.node(value.node).name] << RESULT_BITS | value.index

    def operands_of(position: int) -> Sequence[int | None]:
        return [None if value is None else value_of(value) for value in ir.nodes[position].operands]

    def text_of(position: int) -> tuple[str, str]:
        node = ir.nodes[position]
        return node.op, node_text(node.attrs, node.types, symbols)

    inputs = [positions[node.name] for node in ir.inputs]
    count_axes([ir.nodes[position].type for position in inputs], symbols)
    outputs = [value_of(value) for _, value in ir.outputs]
    updates = {positions[ir.node(name).name]: value_of(value) for name, value in ir.updates}
    return digest(operands_of, text_of, inputs, outputs, updates)


def digest(
    operands_of: Callable[[int], Sequence[int | None]],
    text_of: Callable[[int], tuple[str, str]],
    inputs: Sequence[int],
    outputs: Sequence[int],
    updates: Mapping[int, int],
) -> str:
    """The hash of a graph whose nodes are called by their positions, and values as `RESULT_BITS` says.

    text_of: a node's operator and its `node_text`, asked for in the order of the numbering. updates: for the
    position of a buffer, the value that it takes.
    """
    numbers: dict[int, int] = {}
    described: list[str] = []

    def spelled(value: int) -> str:
        return f"{numbers[value >> RESULT_BITS]}#{value & RESULT_MASK}"

    def describe(position: int) -> None:
        op, rest = text_of(position)
        numbers[position] = len(numbers)
        operands = [
            "_" if value is None else f"{numbers[value >> RESULT_BITS]}#{value & RESULT_MASK}"
            for value in operands_of(position)
        ]
        described.append(f"{op}({' '.join(operands)}) {rest}")

    def walk(root: int) -> None:
        """Numbers `root` after all it depends on, operands in order, without recursion."""
        if root in numbers:
            return
        stack = [(root, iter(operands_of(root)))]
        opened = {root}
        while stack:
            position, operands = stack[-1]
            for value in operands:
                if value is None:
                    continue
                below = value >> RESULT_BITS
                if below not in numbers and below not in opened:
                    if not operands_of(below):
                        describe(below)
                        continue
                    opened.add(below)
                    stack.append((below, iter(operands_of(below))))
                    break
            else:
                stack.pop()
                describe(position)

    for position in inputs:
        describe(position)
    for value in outputs:
        walk(value >> RESULT_BITS)
    leaving = " ".join(map(spelled, outputs))
    settled: dict[int, None] = {}
    if updates:
        pending = [*numbers]
        while pending:
            reached = len(numbers)
            for position in pending:
                if position in updates:
                    walk(updates[position] >> RESULT_BITS)
                    settled[position] = None
            pending = [*numbers][reached:]
    for position in updates:  # of buffers that nothing reads
        if position not in settled:
            walk(position)
            walk(updates[position] >> RESULT_BITS)
            settled[position] = None
    described.append(f"outputs {leaving}")
    described += [f"update {numbers[position]} = {spelled(updates[position])}" for position in settled]
    return hashlib.sha256("\n".join([FORMAT, *described]).encode()).hexdigest()


def count_axes(types: Sequence[TensorType], symbols: dict[str, Size] | None) -> None:
    """Adds to `symbols`, unless it is None, what stands for each symbol that alone is an axis of an input."""
    for type in types:
        for size in type.shape:
            if isinstance(size, Dim) and size_symbols(size) == {str(size)}:
                _size(symbols, size)


def node_text(attrs: Attrs, types: Sequence[TensorType], symbols: dict[str, Size] | None) -> str:
    """Attributes and result types of a node. symbols: what stands for each size symbol so far, to which the
    others are added; None leaves symbols as they are called."""
    listed = " ".join([f"{name}={_attr(symbols, attrs[name])}" for name in sorted(attrs)])
    return f"{{{listed}}} : {' '.join(map(partial(_type, symbols), types))}"


def _type(symbols: dict[str, Size] | None, type: TensorType) -> str:
    return f"{type.dtype.value}[{','.join([_size(symbols, size) for size in type.shape])}]"


def _size(symbols: dict[str, Size] | None, size: Size) -> str:
    if symbols is None or isinstance(size, int):
        return str(size)
    for name in sorted(size_symbols(size)):
        symbols.setdefault(name, symbol(f"s{len(symbols)}"))
    return str(substitute(size, symbols))


def _attr(symbols: dict[str, Size] | None, value: AttrValue) -> str:
    if isinstance(value, Dim):
        return _size(symbols, value)
    if isinstance(value, tuple):
        return f"[{','.join([_attr(symbols, item) for item in value])}]"
    if isinstance(value, BlueprintIR):
        return f"graph:{_digest(value, symbols)}"
    return f"{type(value).__name__}:{value!r}"
