"""How deep and how wide a graph is, before any pass: its longest chain of operators, what lives at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Value
from esper.ir.operator import OPERATORS, Leaf


@dataclass(frozen=True, slots=True)
class Width:
    """alive: the most values that live at once in the order of the nodes, weights and state apart; at: the
    first node at which they do. widest: the largest value that an operator makes, in bytes.
    """

    alive: int
    at: str
    widest: Value
    widest_bytes: int


def longest_chain(ir: BlueprintIR) -> tuple[str, ...]:
    """The names of the nodes on the longest path of operators; the first such, leaves apart."""
    lengths: dict[str, int] = {}
    before: dict[str, str | None] = {}
    for node in ir.nodes:
        reads = [value.node for value in node.operands if value is not None]
        deepest = max(reads, key=lengths.__getitem__, default=None)
        is_leaf = isinstance(OPERATORS[node.op].lowering, Leaf)
        lengths[node.name] = 0 if is_leaf else 1 + (0 if deepest is None else lengths[deepest])
        before[node.name] = deepest
    chain: list[str] = []
    name = max(lengths, key=lengths.__getitem__, default=None)
    while name is not None and lengths[name]:
        chain.append(name)
        name = before[name]
    return tuple(reversed(chain))


def width_of(ir: BlueprintIR, sizes: Mapping[str, int]) -> Width | None:
    """None for a graph without operators. `sizes` has a number for each size symbol."""
    counted = [node for node in ir.nodes if not isinstance(OPERATORS[node.op].lowering, Leaf)]
    if not counted:
        return None
    last = {
        value: place for place, node in enumerate(counted) for value in node.operands if value is not None
    }
    last |= dict.fromkeys(ir.results, len(counted))
    living = {node.result() for node in ir.inputs} & last.keys()
    most, at = 0, counted[0].name
    for place, node in enumerate(counted):
        made = {value for value in node.results if value in last}
        if len(living | made) > most:
            most, at = len(living | made), node.name
        living = {value for value in living | made if last[value] > place}
    bytes_of = {
        value: evaluate_size(ir.type(value).bytes, sizes) for node in counted for value in node.results
    }
    widest = max(bytes_of, key=bytes_of.__getitem__)
    return Width(most, at, widest, bytes_of[widest])
