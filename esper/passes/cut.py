"""Which forward values to keep for the backward pass, and which to compute again, by a minimum cut.

Keeping few bytes and computing cheap things twice is the trade of Chen et al. 2016, "Training Deep Nets with
Sublinear Memory Cost" (arXiv:1604.06174); choosing by a minimum cut over the joint graph follows Horace He's
partitioner in torch AOTAutograd. Each value v that could be kept is an edge `v.in -> v.out` of capacity
`bytes(v)`. An edge without limit leads from `u.out` to `v.in` where v is computed again from u, from the
source to `v.in` where v must not be computed again, and from `v.out` to the sink where the backward pass
reads v. Every path from source to sink then needs one kept value, and with S the source's side,

    saved bytes = sum of bytes(v) over v with v.in in S and v.out not in S

is least for a minimum cut (max-flow min-cut). Of several, one that keeps the fewest values that would have
to be written first, copies above all: outputs, and what library calls make or read, are in memory anyway.
Of these, the one nearest to the sink is taken: it computes least again, and it is unique, so the choice
depends on the graph alone.

What is computed again costs arithmetic, and at most one trip through memory each:
- pointwise operators are, casts and random draws (from their counter) included; views always are;
- a reduction is only if its result has a quarter of what it reads, or more: it is cheap to keep otherwise;
- library calls that only move elements are: a concatenation is what its parts are. But not where products or
  library calls read the result in both passes: it is in memory then, and making it again would write it
  again. Its parts are there too, and cost nothing to read;
- products, other library calls, scans and whole norms never are;
- every `MAX_CHAIN`-th operator of a chain is not, so no chain is walked again from its beginning.
Inputs, params, constants, the seed, and buffers that the step does not update are free to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import networkx as nx

from esper.ir.dims import default_size, evaluate_size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Outside, Pointwise, Reduction, Site, Template, View
from esper.ir.types import TensorType

MAX_CHAIN = 24
"""The longest chain of operators that is computed again: as many as Urza fuses into one kernel's load."""

MAX_SHRINKAGE = 4
"""A reduction whose result is smaller than its operand by more than this is not computed again."""

_Vertex = tuple[Value, str] | str
_SOURCE, _SINK = "source", "sink"


class Reason(Enum):
    """Why a value is kept. `CHEAPEST`: it may be computed again, but only from more bytes than its own."""

    EXPENSIVE = "its operator is too expensive to run twice"
    SHRINKS = "it is much smaller than what it is computed from"
    MOVED = "library calls or products read it in both passes, and it is in memory for the first"
    CHAIN = f"it ends a chain of {MAX_CHAIN} operators"
    UPDATED = "the step changes this buffer before the backward pass reads it"
    CHEAPEST = "it is no larger than what it could be computed from"


@dataclass(frozen=True, slots=True)
class Cut:
    """What the backward pass has of the forward pass.

    kept: the values to keep, in the graph's order. parts: values that are operands of a kept concatenation,
    and are read out of it: the concatenation, and which operand. again: the nodes to run again, by name,
    leaves too.
    """

    kept: Mapping[Value, Reason]
    parts: Mapping[Value, tuple[Value, int]]
    again: frozenset[str]


def minimum_cut(
    joint: BlueprintIR, ahead: set[str], behind: set[str], wanted: Iterable[Value], sizes: Mapping[str, int]
) -> Cut:
    """The cut of least bytes.

    ahead: nodes of the forward pass. behind: those of the backward pass alone. wanted: values of `ahead` that
    the backward pass reads. sizes: values of size symbols; those of others are `default_size`'s.
    """
    wanted = tuple(dict.fromkeys(wanted))
    read_ahead, read_behind = (_in_memory(joint, nodes) for nodes in (ahead, behind))
    fixed = _fixed(joint, ahead, {value.node for value in read_ahead & read_behind}, sizes)
    parts = {value: place for value, place in _parts_of(joint, fixed).items() if value not in read_behind}
    stays = read_ahead | {_base(joint, value) for value in joint.results if value.node in ahead}
    flow = _flow(joint, wanted, fixed, parts, lambda value: _capacity(joint, value, stays, sizes))
    chosen: set[Value] = set()
    for part in _pieces(flow):
        _, (near_source, near_sink) = nx.minimum_cut(part, _SOURCE, _SINK)
        chosen.update(
            vertex[0]
            for vertex in near_source
            if isinstance(vertex, tuple) and vertex[1] == "in" and (vertex[0], "out") in near_sink
        )
    return _walk_back(joint, wanted, chosen, fixed, parts)


def _pieces(flow: nx.DiGraph[_Vertex]) -> Iterable[nx.DiGraph[_Vertex]]:
    """The pieces of `flow` that share nothing but source and sink, and are fed by the source.

    Copies: a view of the whole would look at all of the source's edges for each of them.
    """
    fed = dict(flow.adj[_SOURCE])
    drained = dict(flow.pred[_SINK])
    inner = flow.subgraph(flow.nodes - {_SOURCE, _SINK}).copy()
    for component in nx.weakly_connected_components(inner):
        if component.isdisjoint(fed):
            continue
        part = inner.subgraph(component).copy()
        part.add_nodes_from((_SOURCE, _SINK))
        part.add_edges_from((_SOURCE, vertex, fed[vertex]) for vertex in component if vertex in fed)
        part.add_edges_from((vertex, _SINK, drained[vertex]) for vertex in component if vertex in drained)
        yield part


def _in_memory(joint: BlueprintIR, nodes: set[str]) -> set[Value]:
    """What products and library calls among `nodes` read, be it through views."""
    found: set[Value] = set()
    for node in joint.nodes:
        computes = isinstance(OPERATORS[node.op].lowering, Template | Outside) and not _only_moves(
            joint, node
        )
        if node.name in nodes and computes:
            found.update(_base(joint, operand) for operand in node.operands if operand is not None)
    return found


def _base(joint: BlueprintIR, value: Value) -> Value:
    """What `value` is a view of."""
    while isinstance(OPERATORS[(node := joint.node(value.node)).op].lowering, View):
        (operand,) = node.operands
        assert operand is not None
        value = operand
    return value


def _parts_of(joint: BlueprintIR, fixed: Mapping[str, Reason]) -> dict[Value, tuple[Value, int]]:
    """The operands of concatenations that are kept if they are wanted: of which one, and which operand."""
    found: dict[Value, tuple[Value, int]] = {}
    for node in joint.nodes:
        if node.op == "concat" and fixed.get(node.name) is Reason.MOVED:
            for index, operand in enumerate(node.operands):
                if operand is not None and joint.node(operand.node).operands:
                    found.setdefault(operand, (node.result(), index))
    return found


def _fixed(
    joint: BlueprintIR, ahead: set[str], moved: set[str], sizes: Mapping[str, int]
) -> dict[str, Reason]:
    """The nodes of `ahead` that are not run again, and why. moved: what calls of both passes read."""
    updated = {name for name, _ in joint.updates}
    found: dict[str, Reason] = {}
    depth: dict[str, int] = {}
    for node in joint.nodes:
        if node.name not in ahead:
            continue
        before = max(
            (depth.get(operand.node, 0) for operand in node.operands if operand is not None), default=0
        )
        if not node.operands:
            reason = Reason.UPDATED if node.name in updated else None
            length = 0
        elif isinstance(OPERATORS[node.op].lowering, View):
            reason, length = None, before
        else:
            length = before + 1
            reason = _reason(joint, node, sizes)
            if reason is None and node.name in moved and _only_moves(joint, node):
                reason = Reason.MOVED
            if reason is None and length >= MAX_CHAIN:
                reason = Reason.CHAIN
        if reason is not None:
            found[node.name] = reason
        depth[node.name] = 0 if reason is not None else length
    return found


def _reason(joint: BlueprintIR, node: Node, sizes: Mapping[str, int]) -> Reason | None:
    lowering = OPERATORS[node.op].lowering
    if isinstance(lowering, Reduction):
        read = sum(_bytes(joint.type(operand), sizes) for operand in node.operands if operand is not None)
        if sum(_bytes(type, sizes) for type in node.types) * MAX_SHRINKAGE < read:
            return Reason.SHRINKS
    elif not isinstance(lowering, Pointwise) and not _only_moves(joint, node):
        return Reason.EXPENSIVE
    return None


def _only_moves(joint: BlueprintIR, node: Node) -> bool:
    """Whether a library call copies elements and computes nothing."""
    entry = OPERATORS[node.op]
    operands = tuple(None if operand is None else joint.type(operand) for operand in node.operands)
    return (
        isinstance(entry.lowering, Outside)
        and entry.cost is not None
        and entry.cost(Site(entry, operands, node.attrs, node.types)).flops == 0
    )


def _flow(
    joint: BlueprintIR,
    wanted: tuple[Value, ...],
    fixed: Mapping[str, Reason],
    parts: Mapping[Value, tuple[Value, int]],
    capacity_of: Callable[[Value], int],
) -> nx.DiGraph[_Vertex]:
    """The network whose minimum cut is sought; an edge without `capacity` has no limit."""
    flow: nx.DiGraph[_Vertex] = nx.DiGraph()
    flow.add_nodes_from((_SOURCE, _SINK))
    flow.add_edges_from(((value, "out"), _SINK) for value in wanted)
    stack, seen = list(wanted), set(wanted)
    while stack:
        value = stack.pop()
        node = joint.node(value.node)
        if isinstance(OPERATORS[node.op].lowering, View):
            flow.add_edge((value, "in"), (value, "out"))
        elif node.operands or node.name in fixed:
            capacity = 1 if value in parts else capacity_of(value)
            flow.add_edge((value, "in"), (value, "out"), capacity=capacity)
        if node.name in fixed:
            flow.add_edge(_SOURCE, (value, "in"))
            continue
        for operand in node.operands:
            if operand is None:
                continue
            flow.add_edge((operand, "out"), (value, "in"))
            if operand not in seen:
                seen.add(operand)
                stack.append(operand)
    return flow


def _walk_back(
    joint: BlueprintIR,
    wanted: tuple[Value, ...],
    chosen: set[Value],
    fixed: Mapping[str, Reason],
    parts: Mapping[Value, tuple[Value, int]],
) -> Cut:
    """From what is wanted to what is kept, which nodes lie between."""
    again: set[str] = set()
    kept: set[Value] = set()
    stack, seen = list(wanted), set(wanted)
    while stack:
        value = stack.pop()
        if value in chosen:
            kept.add(value)
            continue
        again.add(value.node)
        for operand in joint.node(value.node).operands:
            if operand is not None and operand not in seen:
                seen.add(operand)
                stack.append(operand)
    order = {node.name: position for position, node in enumerate(joint.nodes)}
    ordered = sorted(kept, key=lambda value: (order[value.node], value.index))
    read_out = {value: parts[value] for value in ordered if value in parts and parts[value][0] in kept}
    reasons = {value: fixed.get(value.node, Reason.CHEAPEST) for value in ordered if value not in read_out}
    return Cut(reasons, read_out, frozenset(again))


def _capacity(joint: BlueprintIR, value: Value, in_memory: set[Value], sizes: Mapping[str, int]) -> int:
    """What keeping a value costs: its bytes; of equal bytes, less where it is `in_memory` anyway, most for a
    copy. A product's result is not: what its kernel makes of it may be written in its place."""
    node = joint.node(value.node)
    called = isinstance(OPERATORS[node.op].lowering, Template | Outside) and node.op != "matmul"
    copy = _only_moves(joint, node)
    written_first = 2 if copy else 0 if called or value in in_memory else 1
    return _bytes(joint.type(value), sizes) * (2 * len(joint.nodes) + 1) + written_first


def _bytes(type: TensorType, sizes: Mapping[str, int]) -> int:
    """At least one: keeping nothing must not cost less than keeping little."""
    values = {name: sizes.get(name, default_size(name)) for name in type.symbols}
    return max(evaluate_size(type.bytes, values), 1)
