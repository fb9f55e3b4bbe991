"""Who reads what: values that one node alone reads, and nodes that read nothing but weights."""

from __future__ import annotations

from collections import Counter

from esper.ir.graph import BlueprintIR, Value
from esper.ir.rewrite import needed_by

_GIVEN = ("param", "buffer", "constant", "size")


def read_once(ir: BlueprintIR) -> frozenset[Value]:
    """The values that one operand reads and that are no result; readers that no result needs do not count."""
    live = needed_by(ir, (value.node for value in ir.results))
    reads = Counter(
        operand for node in ir.nodes if node.name in live for operand in node.operands if operand is not None
    )
    return frozenset(value for value, count in reads.items() if count == 1) - frozenset(ir.results)


def of_weights(ir: BlueprintIR) -> frozenset[str]:
    """The names of the nodes that depend on parameters, buffers and constants alone."""
    found: set[str] = set()
    for node in ir.nodes:
        reads = [operand.node for operand in node.operands if operand is not None]
        if node.op in _GIVEN or (reads and found.issuperset(reads)):
            found.add(node.name)
    return frozenset(found)


def weights_first(ir: BlueprintIR) -> BlueprintIR:
    """`ir` with the nodes of `of_weights` before all others, either kind in its order."""
    first = of_weights(ir)
    ahead = [node for node in ir.nodes if node.name in first]
    return ir.replace(nodes=[*ahead, *(node for node in ir.nodes if node.name not in first)])
