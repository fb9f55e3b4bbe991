"""How far a graph in fewer digits is from itself in float64, measured, and which products a budget allows.

The joint graph runs on random values by the operators' references: its outputs and its gradients are compared
with those in float64. Errors of products are taken for independent, so that squares add up (Higham 2002,
Accuracy and Stability of Numerical Algorithms, 2.8), to choose by; what was chosen is measured as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR, Node
from esper.ir.operator import OPERATORS
from esper.ir.types import DType
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph, run_passes
from esper.passes.precision import Need, Precision, need_of
from esper.tezzeret.costs.figures import work_of
from esper.urza.verify.draws import places_among, tensor_for

SMALL = 16
"""Sizes above it are measured at it, where the graph allows: roundings do not depend on them by much."""

DIGITS = 1e-4
"""What float32 itself gives to no such share of its length counts for nothing: the gradient of a bias which a
norm or a softmax takes away again is zero but for roundings."""

MOST_GROUPS = 32
"""So many errors are measured by themselves; of more products, neighbours are narrowed together."""

LEAST = 1e-30
"""Errors below it count as it."""

SEED = 1


class Rounding:
    """Errors of graphs that compute what `ir` does, on one draw of values."""

    def __init__(self, ir: BlueprintIR, sizes: Mapping[str, int]) -> None:
        """sizes: a number for each size symbol. Raises what `joint_graph` and `evaluate` raise."""
        joint = joint_graph(ir)
        small = {name: min(size, SMALL) for name, size in sizes.items()}
        try:
            self._exact = self._at(joint, small)
        except (EsperError, RuntimeError):  # some window is larger
            self._exact = self._at(joint, sizes)
        single = self._run(joint)
        self._judged = [name for name in self._exact if _distance(self._exact[name], single[name]) < DIGITS]

    def error(self, ir: BlueprintIR) -> float:
        """The greatest distance of an output or gradient from its float64 value, as a share of its length."""
        found = self._run(joint_graph(ir))
        zeros = {name: torch.zeros_like(self._exact[name]) for name in self._judged if name not in found}
        return max(
            (_distance(self._exact[name], {**zeros, **found}[name]) for name in self._judged), default=0.0
        )

    def _at(self, joint: BlueprintIR, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        places = places_among([joint])

        def drawn(node: Node) -> torch.Tensor:
            return tensor_for(node, sizes, generator, "normal", node.name in places)

        self._inputs = {node.name: drawn(node) for node in joint.inputs}
        self._weights = {node.name: drawn(node) for node in (*joint.params, *joint.buffers)}
        return self._run(joint, torch.float64)

    def _run(self, joint: BlueprintIR, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        inputs = {node.name: self._inputs[node.name] for node in joint.inputs}
        weights = {node.name: self._weights[node.name] for node in (*joint.params, *joint.buffers)}
        results = evaluate(joint, inputs, weights, dtype=dtype, seed=SEED)
        return {name: value for name, value in results.items() if value.is_floating_point()}


def _distance(exact: torch.Tensor, found: torch.Tensor) -> float:
    length = torch.linalg.vector_norm(exact.double())
    if length == 0:
        return float("inf") if torch.any(found != 0) else 0.0
    return float(torch.linalg.vector_norm(found.double() - exact.double()) / length)


def narrowest(
    ir: BlueprintIR, budget: float, sizes: Mapping[str, int], dtype: DType = DType.BF16
) -> tuple[Precision, float] | None:
    """The pass that runs as much of `ir` in `dtype` as keeps the error within `budget`, and its error.

    All products if that does; else those that do most for their errors. None where none may. Raises as
    `Rounding` does.
    """
    products = {
        node.name: work.flops
        for node in ir.nodes
        if need_of(OPERATORS[node.op]) is Need.NARROW
        and node.type.dtype is DType.F32
        and (work := work_of(ir, node, sizes)) is not None
    }
    if not products:
        return None
    rounding = Rounding(ir, sizes)

    def error(entry: Precision) -> float:
        return rounding.error(run_passes(ir, [entry]))

    entry = Precision(dtype)
    found = error(entry)
    if found <= budget:
        return entry, found

    def but_for(groups: Sequence[Group]) -> Precision:
        narrow = {name for group in groups for name in group}
        return replace(entry, keep=tuple(name for name in products if name not in narrow))

    groups = _groups(tuple(products))
    alone = {group: error(but_for([group])) for group in groups}

    def worth(group: Group) -> float:
        return sum(products[name] for name in group) / max(alone[group], LEAST) ** 2

    chosen: list[Group] = []
    for group in sorted(groups, key=worth, reverse=True):
        if sum(alone[one] ** 2 for one in (*chosen, group)) ** 0.5 <= budget:
            chosen.append(group)
    while chosen:
        narrowed = but_for(chosen)
        found = error(narrowed)
        if found <= budget:
            return narrowed, found
        chosen.pop()
    return None


Group = tuple[str, ...]


def _groups(names: tuple[str, ...]) -> list[Group]:
    """`names` in order, in no more than `MOST_GROUPS` groups of neighbours."""
    size = -(-len(names) // MOST_GROUPS)
    return [names[start : start + size] for start in range(0, len(names), size)]
