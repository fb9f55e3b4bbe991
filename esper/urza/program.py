"""A program: what one direction of a seed does, step by step, with the buffers in between.

Steps are kernel launches and calls of library operators. A program is data; `esper.urza.run` executes it
with torch tensors, `esper.urza.verify` in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.types import TensorType
from esper.urza.generate.templates import generate
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.kernel import Direction, KernelSource
from esper.urza.plan.access import Access, access
from esper.urza.plan.groups import Partial, Plan
from esper.urza.plan.planner import make_plan


@dataclass(frozen=True, slots=True)
class Call:
    """One library operator. `results` are the buffers of its results, None where nobody reads one."""

    node: Node
    operands: tuple[Access | None, ...]
    results: tuple[str | None, ...]


@dataclass(frozen=True)
class Program:
    """buffers: what steps write, by name; partials: float32 buffers of partial sums.

    outputs: how the graph's outputs and updates are read from buffers or leaves, by name.
    """

    plan: Plan
    direction: Direction
    steps: tuple[Launch | Call, ...]
    buffers: Mapping[str, TensorType]
    partials: Mapping[str, Partial]
    outputs: Mapping[str, Access]

    @property
    def ir(self) -> BlueprintIR:
        return self.plan.ir

    @property
    def kernels(self) -> tuple[KernelSource, ...]:
        return tuple(step.kernel for step in self.steps if isinstance(step, Launch))

    @cached_property
    def constants(self) -> tuple[Node, ...]:
        """Those that library calls or outputs read; kernels have theirs in their code."""
        calls = [step for step in self.steps if isinstance(step, Call)]
        reads = [read for step in calls for read in step.operands if read is not None]
        names = dict.fromkeys(read.base.node for read in [*reads, *self.outputs.values()])
        return tuple(node for node in map(self.ir.node, names) if node.op == "constant")

    @cached_property
    def own_buffers(self) -> tuple[str, ...]:
        """Those that kernels write and nobody reads after the call; not those that library calls return."""
        returned = {name for step in self.steps if isinstance(step, Call) for name in step.results}
        outliving = {buffer_name(read.base) for read in self.outputs.values()}
        return tuple(name for name in self.buffers if name not in returned and name not in outliving)

    @property
    def outside(self) -> tuple[str, ...]:
        """The operators that run as library calls, in order."""
        return tuple(step.node.op for step in self.steps if isinstance(step, Call))


def make_program(ir: BlueprintIR, direction: Direction) -> Program:
    """Plans and generates one direction. Raises what `make_plan` raises."""
    plan = make_plan(ir)
    steps: list[Launch | Call] = []
    for group in plan.groups:
        if group.kind == "outside":
            steps.append(_call(plan, group.nodes[0]))
            continue
        steps.append(generate(plan, group, direction))
    outputs = {name: _read(plan.ir, value) for name, value in plan.ir.outputs + plan.ir.updates}
    buffers = {buffer_name(value): plan.ir.type(value) for value in sorted(plan.stored, key=str)}
    partials = {partial.name: partial for partial in plan.partials.values()}
    return Program(plan, direction, tuple(steps), buffers, partials, outputs)


def _call(plan: Plan, node: Node) -> Call:
    return Call(
        node,
        tuple(None if operand is None else _read(plan.ir, operand) for operand in node.operands),
        tuple(buffer_name(value) if value in plan.stored else None for value in node.results),
    )


def _read(ir: BlueprintIR, value: Value) -> Access:
    found = access(ir, value)
    assert found is not None
    return found
