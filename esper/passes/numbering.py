"""Value numbering: nodes that must compute the same get the same number.

A key is the operator, its operands' keys, attributes and types; parameters, buffers, inputs and random
draws are equal only to themselves. Numbers count first occurrences, so they do not depend on names.
"""

from __future__ import annotations

from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, AttrValue


class ValueNumbers:
    """Numbers nodes as they are shown to it, in topological order."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._of: dict[str, int] = {}

    def number(self, node: Node) -> int:
        """The number of `node`, whose operands have been numbered."""
        key: object = node.name
        if not (OPERATORS[node.op].has_identity(node.attrs) or node.op in ("input", "seed")):
            operands = tuple(None if operand is None else self.of(operand) for operand in node.operands)
            key = (node.op, operands, tuple(map(_exactly, node.attrs.values())), node.types)
        number = self._numbers.setdefault(key, len(self._numbers))
        self._of[node.name] = number
        return number

    def of(self, value: Value) -> tuple[int, int]:
        """The number of the node that makes `value`, and the index of its result."""
        return self._of[value.node], value.index


def _exactly(value: AttrValue) -> object:
    """Tells -0.0 from 0.0, and True from 1, which compare equal; bodies are equal whatever their names."""
    if isinstance(value, BlueprintIR):
        return BlueprintIR, value.structure
    return (type(value), str(value)) if isinstance(value, float | bool) else value
