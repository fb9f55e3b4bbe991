"""The reducer: a graph on which something fails to a minimal one on which it fails in the same way.

Delta debugging (Zeller, Hildebrandt, 2002): chunks of nodes, halves first, are cut out and what read them
reads inputs in their place; then the families of `esper.passes.simpler` take away results, operands,
sizes and attributes until no single step more is possible. Every graph tried is valid and simpler than the
last, so the way down ends, and it is the same each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from esper.errors import EsperError
from esper.ir.dims import Dim
from esper.ir.graph import BlueprintIR, Node
from esper.ir.operator import OPERATORS, REQUIRED
from esper.ir.types import DType, TensorType
from esper.ir.verify import verify
from esper.passes import simpler

FAMILIES: tuple[Callable[[BlueprintIR], simpler.Candidates], ...] = (
    simpler.fewer_results,
    simpler.without_dead_nodes,
    simpler.other_results,
    simpler.bypassed,
    simpler.merged_inputs,
    simpler.fewer_operands,
    simpler.smaller_sizes,
    simpler.simpler_attributes,
    simpler.plain_dtypes,
)
SYMBOL = 1000  # what a size symbol counts for: any number is simpler


@dataclass(frozen=True)
class Reduction:
    """The reduced graph, how many graphs were tried, and whether the time sufficed to find no simpler one."""

    ir: BlueprintIR
    tried: int
    is_minimal: bool


def reduce(ir: BlueprintIR, fails: Callable[[BlueprintIR], bool], seconds: float = inf) -> Reduction:
    """`ir`, on which `fails` is true, made as simple as it can be with `fails` still true.

    seconds: after this long, the simplest graph found so far is the result.
    """
    search = _Search(ir, fails, time.monotonic() + seconds)
    while search.in_time:
        before = search.ir
        search.take_first(simpler.fewer_results)
        search.cut_chunks()
        for family in FAMILIES:
            while search.take_first(family):
                pass
        if search.ir is before:
            break
    return Reduction(search.ir, search.tried, search.in_time)


class _Search:
    """The simplest failing graph so far."""

    def __init__(self, ir: BlueprintIR, fails: Callable[[BlueprintIR], bool], deadline: float) -> None:
        self.ir = ir
        self.tried = 0
        self._fails = fails
        self._deadline = deadline

    @property
    def in_time(self) -> bool:
        return time.monotonic() < self._deadline

    def take(self, candidate: BlueprintIR) -> bool:
        """Whether `candidate` is simpler, valid, and fails; it is then the graph to go on with."""
        if not self.in_time or not complexity(candidate) < complexity(self.ir):
            return False
        try:
            verify(candidate)
        except EsperError:
            return False
        self.tried += 1
        if not self._fails(candidate):
            return False
        self.ir = candidate
        return True

    def take_first(self, family: Callable[[BlueprintIR], Iterable[BlueprintIR]]) -> bool:
        return any(self.take(candidate) for candidate in family(self.ir))

    def cut_chunks(self) -> None:
        size = len(self.ir.nodes)
        while size:
            start = 0
            while start < len(self.ir.nodes):
                chunk = {node.name for node in self.ir.nodes[start : start + size]}
                if not self.take(simpler.cut(self.ir, chunk)):
                    start += size
            size //= 2


def complexity(ir: BlueprintIR) -> tuple[int, ...]:
    """What the reducer makes less of, most important first."""
    leaves = [type for node in _all_nodes(ir) if not node.operands for type in node.types]
    return (
        ir.size - len(ir.inputs),
        ir.size,
        len(ir.results),
        sum(operand is not None for node in _all_nodes(ir) for operand in node.operands),
        sum(type.rank for type in leaves),
        sum(map(_elements, leaves)),
        sum(map(_attributes, _all_nodes(ir))),
        sum(type.dtype is not DType.F32 for type in leaves),
    )


def _all_nodes(ir: BlueprintIR) -> list[Node]:
    """The nodes of `ir` and of the bodies in it."""
    return [
        one for node in ir.nodes for one in (node, *(n for _, body in node.bodies for n in _all_nodes(body)))
    ]


def _elements(type: TensorType) -> int:
    total = 1
    for size in type.shape:
        total *= SYMBOL if isinstance(size, Dim) else size
    return total


def _attributes(node: Node) -> int:
    """0 where each attribute has its default; else longer texts count for more."""
    total = 0
    for attribute in OPERATORS[node.op].attributes:
        value = node.attrs.get(attribute.name)
        if value is None or isinstance(value, BlueprintIR):
            continue
        if attribute.default is REQUIRED or value != attribute.default:
            total += 1 + len(str(value))
    return total
