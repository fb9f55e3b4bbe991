"""Each kernel and each outside call of a program: its work, its time by the roofline, what lives meanwhile.

The roofline (Williams et al. 2009) gives a step the longer of its arithmetic and its memory traffic. Traffic
is what the step must move: each of its buffers once. Products of two narrow factors run on matrix units, all
other arithmetic at the rate of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Node
from esper.ir.types import DType
from esper.tezzeret.costs.figures import Device, work_of
from esper.urza.arena import Resident, residents, spans
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.kernel import Direction
from esper.urza.program import Call, Program
from esper.urza.traffic import traffic

Bound = Literal["arithmetic", "memory"]

MATRIX_RATES = {"sm_80": 312e12, "sm_90": 989.4e12}
"""FLOP/s of dense products in float16 and bfloat16, by target, by the datasheets of `DEVICES`."""

_NARROW = frozenset({DType.F16, DType.BF16})
_PRODUCTS = frozenset(
    {
        "matmul",
        *("attention_forward", "attention_query_grad", "attention_key_value_grad", "attention_mask_grad"),
        *("convolution", "convolution_input_grad", "convolution_weight_grad"),
        "convolution_channels_last",
        *("convolution_input_grad_channels_last", "convolution_weight_grad_channels_last"),
    }
)
"""The operators that use matrix units where their factors are narrow."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a program, in its order.

    is_call: whether it calls a library's operator. flops: what it computes again included. bytes: every
    buffer once; moved: as often as the kernel goes through it, of which caches serve a part. seconds: by the
    roofline. alive: bytes that live at this step, see `living_in`.
    """

    direction: Direction
    name: str
    is_call: bool
    nodes: tuple[str, ...]
    flops: int
    bytes: int
    moved: int
    seconds: float
    bound: Bound
    alive: int


def returned_in(program: Program, sizes: Mapping[str, int]) -> tuple[Resident, ...]:
    """What library calls return for later steps of `program` alone: it lies outside the arena, and is let go
    after the last step that reads it."""
    outliving = {buffer_name(read.base) for read in program.outputs.values()}
    calls = [step for step in program.steps if isinstance(step, Call)]
    names = [name for step in calls for name in step.results if name is not None and name not in outliving]
    lives = spans(program)
    return tuple(
        Resident(name, evaluate_size(program.buffers[name].bytes, sizes), lives[name]) for name in names
    )


def living_in(program: Program, sizes: Mapping[str, int]) -> tuple[Resident, ...]:
    """What `program` makes for itself: in its arena, and by library calls."""
    return (*residents(program, sizes), *returned_in(program, sizes))


def steps_of(
    program: Program, sizes: Mapping[str, int], device: Device, matrix_rate: float
) -> Iterator[Step]:
    """The steps of `program`; `sizes` has a number for each size symbol.

    matrix_rate: FLOP/s of products of narrow factors.
    """
    living = living_in(program, sizes)
    for number, step in enumerate(program.steps):
        if isinstance(step, Call):
            nodes = [step.node]
            name = f"{step.node.op} {step.node.name}"
            work = work_of(program.ir, step.node, sizes)
            least = moved = 0 if work is None else work.bytes
            added = 0
        else:
            nodes = _computed(step)
            name = step.kernel.name
            asked = traffic(program, step, sizes)
            least, moved = asked.minimum, asked.moved
            added = _added(program, step)
        narrow = sum(_flops(program.ir, node, sizes) for node in nodes if _is_narrow(program.ir, node))
        total = added + sum(_flops(program.ir, node, sizes) for node in nodes)
        arithmetic = narrow / matrix_rate + (total - narrow) / device.flops_per_second
        memory = least / device.bytes_per_second
        yield Step(
            direction=program.direction,
            name=name,
            is_call=isinstance(step, Call),
            nodes=tuple(node.name for node in nodes),
            flops=total,
            bytes=least,
            moved=moved,
            seconds=max(arithmetic, memory),
            bound="arithmetic" if arithmetic > memory else "memory",
            alive=sum(one.size for one in living if one.span.first <= number <= one.span.last),
        )


def _computed(launch: Launch) -> list[Node]:
    """The nodes of a kernel, each once; of one whose partial sums it only adds up, none."""
    found = {
        node.name: node
        for part in launch.group.parts
        for node in (*part.nodes, *part.sums, *part.accumulated, *part.joined)
    }
    return list(found.values())


def _added(program: Program, launch: Launch) -> int:
    """Additions of partial sums that other kernels left."""
    totals = {node.name for part in launch.group.parts for node in part.totals}
    partials = (program.partials.get(f"#partials.{name}") for name in totals)
    return sum(one.parts * one.width for one in partials if one is not None)


def _flops(ir: BlueprintIR, node: Node, sizes: Mapping[str, int]) -> int:
    work = work_of(ir, node, sizes)
    return 0 if work is None else work.flops


def _is_narrow(ir: BlueprintIR, node: Node) -> bool:
    """Whether matrix units compute `node`: a convolution's groups are products of their own, too small."""
    factors = [ir.type(value).dtype for value in node.operands[:2] if value is not None]
    return node.op in _PRODUCTS and node.attrs.get("groups", 1) == 1 and _NARROW.issuperset(factors)
