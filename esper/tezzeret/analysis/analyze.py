"""The analysis of a graph: counts of a training step, the steps of its programs, and the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue, size_values
from esper.tezzeret.analysis.chains import Width, longest_chain, width_of
from esper.tezzeret.analysis.steps import MATRIX_RATES, Step, living_in, returned_in, steps_of
from esper.tezzeret.costs.figures import DEVICES, weight_bytes
from esper.tezzeret.errors import UnknownTarget
from esper.urza.arena import arena, live_bytes
from esper.urza.compiler import make_programs
from esper.urza.kernel import Direction
from esper.urza.program import Program


@dataclass(frozen=True, slots=True)
class Memory:
    """What one direction makes for itself, in bytes.

    size: of the arena, one allocation. returned: the most that library calls have returned at one step,
    beside it. peak: the most that lives at one step, at: that step's place among those of the direction,
    living: what lives then, largest first.
    """

    size: int
    returned: int
    peak: int
    at: int
    living: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Analysis:
    """Counts of one training step at `sizes`; memory in bytes, times in seconds by the device's roofline.

    flops: by direction, of all its steps, so what several of them compute counts for each. saved: what the
    forward pass keeps for the backward pass. chain: the longest chain of operators. width: None without any.
    """

    ir: BlueprintIR
    sizes: Mapping[str, int]
    target: str
    device: str
    parameters: int
    weights: int
    flops: Mapping[Direction, int]
    saved: int
    chain: tuple[str, ...]
    width: Width | None
    steps: tuple[Step, ...]
    memory: Mapping[Direction, Memory]

    def of(self, direction: Direction) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.direction == direction)

    def bytes(self, direction: Direction) -> int:
        """What the steps of a direction must move."""
        return sum(step.bytes for step in self.of(direction))

    def seconds(self, direction: Direction) -> float:
        return sum(step.seconds for step in self.of(direction))

    @property
    def total(self) -> float:
        """Seconds of both directions."""
        return sum(step.seconds for step in self.steps)

    @property
    def peak(self) -> int:
        """Bytes that are held at most: weights, what is saved, and the larger of what either direction makes
        for itself; inputs, outputs and the gradients of weights apart."""
        made = (one.size + one.returned for one in self.memory.values())
        return self.weights + self.saved + max(made, default=0)

    @property
    def bottleneck(self) -> Step | None:
        """The step that takes most; None where nothing is computed."""
        return max(self.steps, key=lambda step: step.seconds, default=None)


def analyze(ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None = None, target: str = "sm_80") -> Analysis:
    """What `ir` does at `sizes` on the device of `target`; sizes not given are the defaults of `size_values`.

    Raises `UnknownTarget` for one that is not in `DEVICES`, and what `make_programs` raises.
    """
    if target not in DEVICES:
        raise UnknownTarget(name=target, known=", ".join(DEVICES))
    values = size_values(ir, sizes)
    programs = make_programs(ir)
    device = DEVICES[target]
    steps = [
        step for program in programs.both for step in steps_of(program, values, device, MATRIX_RATES[target])
    ]
    return Analysis(
        ir=ir,
        sizes=values,
        target=target,
        device=device.name,
        parameters=evaluate_size(ir.parameters, values),
        weights=weight_bytes(ir, values),
        flops={
            direction: sum(step.flops for step in steps if step.direction == direction)
            for direction in (program.direction for program in programs.both)
        },
        saved=evaluate_size(programs.parts.saved_bytes, values),
        chain=longest_chain(ir),
        width=width_of(ir, values),
        steps=tuple(steps),
        memory={program.direction: _memory(program, values) for program in programs.both},
    )


def _memory(program: Program, sizes: Mapping[str, int]) -> Memory:
    found = living_in(program, sizes)
    alive = [
        [(one.name, one.size) for one in found if one.span.first <= number <= one.span.last]
        for number in range(len(program.steps))
    ]
    totals = [sum(size for _, size in living) for living in alive]
    peak = max(totals, default=0)
    at = totals.index(peak) if totals else 0
    living = sorted(alive[at], key=lambda one: (-one[1], one[0])) if alive else []
    returned = live_bytes(returned_in(program, sizes))
    return Memory(arena(program, sizes).size, returned, peak, at, tuple(living))
