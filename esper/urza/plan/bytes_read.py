"""How many bytes a kernel reads of each value: all of it, or as much as slices and look-ups name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.types import TensorType
from esper.urza.plan.access import access
from esper.urza.plan.placed import is_placed

NAMED: Mapping[str, int] = {"slice": 0, "gather": 0, "embedding": 1}
"""Operators that read as many elements as they make of the operand at this place."""


@dataclass
class Reads:
    """What nodes of one kernel read from memory.

    size: the bytes of a tensor of a type. whole: values of which all is read. named: the bytes that slices
    and look-ups name of a value, each node's for itself.
    """

    ir: BlueprintIR
    size: Callable[[TensorType], int]
    whole: set[Value] = field(default_factory=set)
    named: dict[Value, int] = field(default_factory=dict)

    def add(self, nodes: Iterable[Node], at_hand: Callable[[str], bool]) -> None:
        """Counts what `nodes` read. at_hand: whether they find what has a name in registers."""
        for node in nodes:
            placed = is_placed(self.ir, node)
            for place, operand in enumerate(node.operands):
                if operand is None:
                    continue
                found = access(self.ir, operand)
                assert found is not None
                if placed and NAMED.get(node.op) == place:
                    self.named[found.base] = self.named.get(found.base, 0) + self.size(
                        self.ir.type(operand).with_shape(node.type.shape)
                    )
                elif placed or node.op == "matmul" or not at_hand(found.base.node):
                    self.whole.add(found.base)

    def bytes(self) -> dict[Value, int]:
        """By the values that are read, leaves included."""
        found = {value: self.size(self.ir.type(value)) for value in self.whole | self.named.keys()}
        return {
            value: size if value in self.whole else min(size, self.named[value])
            for value, size in found.items()
        }
