"""Parallel paths: where a value is read by several branches that need nothing of each other until they meet.

The branches of a value meet in the first node that all ways from them lead to, their lowest common ancestor
in the tree of post-dominators. Up to there the graph falls into parts that no edge joins. A part without a
product, such as a skip connection, is no branch: the others may well meet before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx

from esper.ir.graph import BlueprintIR
from esper.ir.operator import OPERATORS, Leaf
from esper.ir.rewrite import needed_by
from esper.passes.precision import Need, need_of
from esper.tezzeret.costs.figures import work_of

_END = ""
"""Stands behind all outputs; no node has this name."""


@dataclass(frozen=True, slots=True)
class Branch:
    """nodes: by name, in order. flops: of the forward pass."""

    nodes: tuple[str, ...]
    flops: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Branches from the node `at` to the node `join`; None where they meet in no node."""

    at: str
    join: str | None
    branches: tuple[Branch, ...]


def forks(ir: BlueprintIR, sizes: Mapping[str, int]) -> tuple[Fork, ...]:
    """The forks of `ir` of which two branches or more hold a product, in order.

    sizes: a number for each size symbol.
    """
    graph = _dataflow(ir)
    meeting = _Meeting(ir, graph, dict(nx.immediate_dominators(graph.reverse(copy=False), _END)), sizes)
    found = (meeting.fork(node.name) for node in ir.nodes if node.name in graph)
    return tuple(fork for fork in found if fork is not None)


@dataclass(frozen=True, slots=True)
class _Meeting:
    """graph: of the dataflow. meets: the immediate post-dominator of each node but the last."""

    ir: BlueprintIR
    graph: nx.DiGraph[Any]
    meets: Mapping[str, str]
    sizes: Mapping[str, int]

    def fork(self, name: str) -> Fork | None:
        """The branches of the node `name`; None where fewer than two hold a product."""
        readers = set(self.graph.successors(name)) - {_END}
        while len(readers) > 1:
            join = self._join(readers)
            parts = self._parts(name, join)
            working = [part for part in parts if self._works(part) and part & readers]
            behind = readers & set[str]().union(*working)
            if behind == readers:
                break
            readers = behind
        else:
            return None
        if len(working) < 2:
            return None
        order = {node.name: place for place, node in enumerate(self.ir.nodes)}
        branches = [self._branch(sorted(part, key=order.__getitem__)) for part in working]
        branches.sort(key=lambda branch: order[branch.nodes[0]])
        return Fork(name, None if join == _END else join, tuple(branches))

    def _join(self, readers: set[str]) -> str:
        """The first node that all ways from `readers` lead to."""
        first, *others = (self._ways_out(reader) for reader in sorted(readers))
        return next(node for node in first if all(node in other for other in others))

    def _ways_out(self, name: str) -> list[str]:
        """`name` and all that every way from it passes, in order."""
        found = [name]
        while found[-1] != _END:
            found.append(self.meets[found[-1]])
        return found

    def _parts(self, name: str, join: str) -> list[set[str]]:
        """What lies between a node and the join of branches of it, in parts that no edge joins."""
        between = nx.descendants(self.graph, name) & nx.ancestors(self.graph, join)
        return list(nx.weakly_connected_components(self.graph.subgraph(between)))

    def _works(self, part: set[str]) -> bool:
        """Whether it holds a product."""
        return any(need_of(OPERATORS[self.ir.node(name).op]) is Need.NARROW for name in part)

    def _branch(self, names: list[str]) -> Branch:
        work = (work_of(self.ir, self.ir.node(name), self.sizes) for name in names)
        return Branch(tuple(names), sum(found.flops for found in work if found is not None))


def _dataflow(ir: BlueprintIR) -> nx.DiGraph[Any]:
    """What the outputs need, weights apart: an edge from each node to each that reads it."""
    outputs = [value.node for _, value in ir.outputs]
    live = needed_by(ir, outputs)
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_node(_END)
    kept = [
        node
        for node in ir.nodes
        if node.name in live and (node.op == "input" or not isinstance(OPERATORS[node.op].lowering, Leaf))
    ]
    names = {node.name for node in kept}
    for node in kept:
        graph.add_node(node.name)
        reads = (operand.node for operand in node.operands if operand is not None)
        graph.add_edges_from((read, node.name) for read in reads if read in names)
    graph.add_edges_from((name, _END) for name in outputs if name in names)
    return graph
