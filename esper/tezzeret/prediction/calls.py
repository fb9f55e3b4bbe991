"""What the torch tier calls when a graph runs: one call of an operator for each node of the optimised graph.

Torch's views are calls, too: they cost the host, and what reads a view whose elements lie apart takes longer.
So each call has, after its operator's own figures, in how many pieces its operands lie, and in how many a
view leaves its result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Leaf
from esper.ir.types import DType
from esper.passes import run_passes
from esper.passes.manager import CLEAN
from esper.tezzeret.costs.figures import work_of
from esper.tezzeret.prediction.errors import UnmeasuredType
from esper.tezzeret.prediction.figures import DRAWN_AHEAD, FIGURES, Occurrence, Shape, describe, log, number

ACCUMULATE = "accumulate"
"""The sum of two gradients of a value that several nodes read: autograd's, no operator's."""

VIEWS = frozenset({"permute", "transpose", "chunk", "slice", "unsqueeze", "squeeze", "broadcast_to"})
"""What torch does without touching an element."""

_TURNED = frozenset({"permute", "transpose", "chunk", "slice", "broadcast_to"})
"""The views after which neighbours in a row may lie apart in memory."""

_KEEP_LAYOUT = frozenset({"unsqueeze", "squeeze"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call. figures: logarithms, as many as its operator has. flops, bytes: of the forward direction."""

    op: str
    figures: tuple[float, ...]
    flops: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one graph at given sizes. held: bytes of all values that the calls make."""

    calls: tuple[Call, ...]
    held: int


def calls_of(ir: BlueprintIR, sizes: Mapping[str, int]) -> Calls:
    """The calls of the torch tier in training; `sizes` has a number for each size symbol.

    Raises `UnmeasuredType` for a graph with floating tensors that are not float32.
    """
    optimised = run_passes(ir, CLEAN)
    require_measured(optimised)
    pieces = _pieces(optimised, sizes)
    is_ahead = _masked(optimised, sizes) <= DRAWN_AHEAD
    found: list[Call] = []
    held = 0
    for node in optimised.nodes:
        if node.op == "constant" or isinstance(OPERATORS[node.op].lowering, Leaf) or _does_nothing(node):
            continue
        operands = [() if o is None else optimised.type(o).concrete_shape(sizes) for o in node.operands]
        results = [type.concrete_shape(sizes) for type in node.types]
        described = FIGURES.get(node.op, describe(node))
        figures = described(Occurrence(operands, results, node.attrs, is_ahead))
        read = max((pieces.get(operand, 1) for operand in node.operands), default=1)
        views = [user.result() for user in optimised.users(node.name) if user.op in _TURNED]
        written = max((pieces.get(view, 1) for view in views), default=1)
        work = work_of(optimised, node, sizes)
        flops, moved = (0, 0) if work is None or node.op in VIEWS else (work.flops, work.bytes)
        found.append(Call(node.op, (*figures, log(read), log(written)), flops, moved))
        if node.op not in VIEWS:
            held += evaluate_size(node.type.bytes, sizes)
    found += _accumulations(optimised, sizes)
    return Calls(tuple(found), held)


def _does_nothing(node: Node) -> bool:
    """Whether the torch tier leaves the node out: it drops nothing."""
    return node.op in ("dropout", "feature_dropout", "drop_path") and number(node.attrs["p"]) == 0


def require_measured(ir: BlueprintIR) -> None:
    """Raises `UnmeasuredType`."""
    for node in ir.nodes:
        for type in node.types:
            if type.dtype.is_floating and type.dtype is not DType.F32:
                raise UnmeasuredType(blueprint=ir.name, value=node.name, dtype=type.dtype)


def _pieces(ir: BlueprintIR, sizes: Mapping[str, int]) -> dict[Value | None, int]:
    """Of each value whose elements lie apart in memory: in how many pieces."""
    found: dict[Value | None, int] = {}
    for node in ir.nodes:
        if node.op in _TURNED:
            shape = node.type.concrete_shape(sizes)
            found[node.result()] = math.prod(shape) // _run(ir, node, shape)
        elif node.op in _KEEP_LAYOUT and node.operand in found:
            found[node.result()] = found[node.operand]
    return found


def _run(ir: BlueprintIR, node: Node, shape: Shape) -> int:
    """How many elements of a view lie beside each other."""
    rank = len(shape)
    if node.op in ("chunk", "slice"):
        axes = node.attrs["axes"] if node.op == "slice" else (node.attrs["axis"],)
        assert isinstance(axes, tuple)
        return math.prod(shape[min(int(number(axis)) % rank for axis in axes) :])
    if node.op == "broadcast_to":
        return shape[-1] if shape else 1
    if node.op == "transpose":
        order = list(range(rank))
        one, other = (int(number(node.attrs[name])) % rank for name in ("axis0", "axis1"))
        order[one], order[other] = order[other], order[one]
    else:
        axes = node.attrs["axes"]
        assert isinstance(axes, tuple)
        order = [int(number(axis)) % rank for axis in axes]
    kept = 0
    while kept < rank and order[rank - 1 - kept] == rank - 1 - kept:
        kept += 1
    return math.prod(shape[rank - kept :])


def _masked(ir: BlueprintIR, sizes: Mapping[str, int]) -> int:
    """The elements of all masks that dropout draws."""
    total = 0
    for node in ir.nodes:
        if node.op in ("dropout", "add_and_norm") and number(node.attrs[_SHARE[node.op]]) > 0:
            total += evaluate_size(node.type.elements, sizes)
        elif node.op in _ATTENTIONS and number(node.attrs["dropout"]) > 0:
            shapes = [() if o is None else ir.type(o).concrete_shape(sizes) for o in node.operands[:2]]
            (examples, *heads, length, _), keys = shapes[0], (shapes[1] or shapes[0])[-2]
            count = heads[0] if heads else int(number(node.attrs["heads"]))
            total += examples * count * length * keys
    return total


_SHARE = {"dropout": "p", "add_and_norm": "dropout"}
_ATTENTIONS = frozenset({"multi_head_attention", "scaled_dot_product_attention"})


def _accumulations(ir: BlueprintIR, sizes: Mapping[str, int]) -> Iterable[Call]:
    for node in ir.nodes:
        if node.op == "constant" or not node.type.dtype.is_floating or node.op == "buffer":
            continue
        readers = sum(operand == node.result() for user in ir.users(node.name) for operand in user.operands)
        if readers > 1:
            elements = evaluate_size(node.type.elements, sizes)
            one = Call(ACCUMULATE, (log(elements),), elements, 12 * elements)
            yield from [one] * (readers - 1)
