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
from itertools import islice

from esper.ir.dims import Dim, Size, size_symbols, substitute, symbol
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import AttrValue
from esper.ir.types import TensorType

FORMAT = "esper-ir-1"


def canonical_hash(ir: BlueprintIR) -> str:
    """SHA-256 of the canonical form, in hexadecimal."""
    return _digest(ir, {})


def structural_hash(ir: BlueprintIR) -> str:
    """As `canonical_hash`, with size symbols as they are called."""
    return _digest(ir, None)


def _digest(ir: BlueprintIR, symbols: dict[str, Size] | None) -> str:
    digest = hashlib.sha256(FORMAT.encode())
    for line in _Numbering(ir, symbols).lines():
        digest.update(b"\n" + line.encode())
    return digest.hexdigest()


class _Numbering:
    """symbols: what stands for each size symbol so far; None leaves them as they are."""

    def __init__(self, ir: BlueprintIR, symbols: dict[str, Size] | None) -> None:
        self.ir = ir
        self.numbers: dict[str, int] = {}
        self.symbols = symbols
        self.described: list[str] = []

    def lines(self) -> list[str]:
        for node in self.ir.inputs:
            for size in node.type.shape:
                if isinstance(size, Dim) and size_symbols(size) == {str(size)}:
                    self._size(size)
        for node in self.ir.inputs:
            self._describe(node)
        outputs = []
        for _, value in self.ir.outputs:
            self._walk(value.node)
            outputs.append(self._value(value))
        updates = dict(self.ir.updates)
        settled: dict[str, None] = {}
        seen = 0
        while seen < len(self.numbers):
            reached = list(islice(self.numbers, seen, None))
            seen += len(reached)
            for name in reached:
                if name in updates:
                    self._walk(updates[name].node)
                    settled[name] = None
        for name in updates:  # of buffers that nothing reads
            if name not in settled:
                self._walk(name)
                self._walk(updates[name].node)
                settled[name] = None
        described = [f"update {self.numbers[name]} = {self._value(updates[name])}" for name in settled]
        return [*self.described, f"outputs {' '.join(outputs)}", *described]

    def _walk(self, root: str) -> None:
        """Numbers `root` after all it depends on, operands in order, without recursion."""
        stack = [(root, iter(self.ir.node(root).operands))]
        if root in self.numbers:
            return
        opened = {root}
        while stack:
            name, operands = stack[-1]
            for operand in operands:
                if operand is not None and operand.node not in self.numbers and operand.node not in opened:
                    opened.add(operand.node)
                    stack.append((operand.node, iter(self.ir.node(operand.node).operands)))
                    break
            else:
                stack.pop()
                self._describe(self.ir.node(name))

    def _describe(self, node: Node) -> None:
        self.numbers[node.name] = len(self.numbers)
        operands = " ".join("_" if operand is None else self._value(operand) for operand in node.operands)
        types = " ".join(self._type(type) for type in node.types)
        attrs = " ".join(f"{name}={self._attr(node.attrs[name])}" for name in sorted(node.attrs))
        self.described.append(f"{node.op}({operands}) {{{attrs}}} : {types}")

    def _value(self, value: Value) -> str:
        return f"{self.numbers[value.node]}#{value.index}"

    def _type(self, type: TensorType) -> str:
        return f"{type.dtype}[{','.join(self._size(size) for size in type.shape)}]"

    def _size(self, size: Size) -> str:
        if self.symbols is None:
            return str(size)
        for name in sorted(size_symbols(size)):
            self.symbols.setdefault(name, symbol(f"s{len(self.symbols)}"))
        return str(substitute(size, self.symbols))

    def _attr(self, value: AttrValue) -> str:
        if isinstance(value, Dim):
            return self._size(value)
        if isinstance(value, tuple):
            return f"[{','.join(map(self._attr, value))}]"
        if isinstance(value, BlueprintIR):
            return f"graph:{_digest(value, self.symbols)}"
        return f"{type(value).__name__}:{value!r}"
