"""The memory of what Urza makes of a graph: the second rung, for the few candidates that are worth a plan.

`Quantities.memory` is what is kept if nothing is computed twice, and takes microseconds. The figures here are
those of the programs that would run: what the minimum cut saves for the backward pass, since it computes
again what is cheap, and the arenas that the planner lays out. They take as long as planning does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue, size_values
from esper.tezzeret.costs.figures import weight_bytes
from esper.urza.arena import arena
from esper.urza.compiler import make_programs


@dataclass(frozen=True, slots=True)
class ExactMemory:
    """Bytes, all exact for the planned programs.

    saved: of what the forward pass keeps for the backward pass. forward_arena, backward_arena: of the one
    allocation that each pass makes for what it needs meanwhile.
    """

    weights: int
    saved: int
    forward_arena: int
    backward_arena: int

    @property
    def memory(self) -> int:
        """What `Quantities.memory` is without computing again: weights, and what is saved."""
        return self.weights + self.saved


def exact_memory(ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None = None) -> ExactMemory:
    """Of `ir` at `sizes`, as in `quantities`. Raises `UnsupportedElementType` for float64."""
    values = size_values(ir, sizes)
    programs = make_programs(ir)
    return ExactMemory(
        weight_bytes(ir, values),
        evaluate_size(programs.parts.saved_bytes, values),
        arena(programs.forward, values).size,
        arena(programs.backward, values).size,
    )
