"""What a blueprint costs, counted from its graph: nothing here is measured.

Parameters are exact. FLOPs and bytes are the sums of the operators' own counts over one training step,
forward and backward. Latency is the roofline of a reference GPU by its datasheet: each operator takes the
longer of its arithmetic and its memory traffic. It ranks blueprints; it does not predict milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR
from esper.ir.operator import OPERATORS, Site
from esper.lang import SizeValue, size_values
from esper.passes import DECOMPOSED, forward_and_backward, joint_graph, run_passes


@dataclass(frozen=True, slots=True)
class Device:
    """Rates of a GPU by its datasheet: FLOP/s in float32 without matrix units, bytes/s of memory."""

    name: str
    flops_per_second: float
    bytes_per_second: float


DEVICES = {
    "sm_80": Device("NVIDIA A100 SXM 80 GB, datasheet", 19.5e12, 2.039e12),
    "sm_90": Device("NVIDIA H100 SXM, datasheet", 66.9e12, 3.35e12),
}
"""By target. What is not asked for a target is estimated for the first."""

REFERENCE_DEVICE = DEVICES["sm_80"]


@dataclass(frozen=True, slots=True)
class Quantities:
    """Counts of one training step. memory: bytes of weights and of what is saved for the backward pass."""

    params: int
    flops: int
    bytes: int
    memory: int
    latency: float
    """Seconds, by the device's roofline."""

    @property
    def latency_ms(self) -> float:
        return self.latency * 1e3

    @property
    def memory_mb(self) -> float:
        return self.memory / 2**20

    @property
    def balanced(self) -> float:
        """The geometric mean of latency in microseconds and memory in MiB."""
        return float((self.latency * 1e6 * self.memory / 2**20) ** 0.5)


QUANTITIES = ("params", "flops", "bytes", "memory", "latency_ms", "memory_mb")
"""What a constraint may bound."""

OBJECTIVES = ("latency", "memory", "balanced")


def quantities(
    ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None = None, device: Device = REFERENCE_DEVICE
) -> Quantities:
    """The counts for `ir` at `sizes`; size symbols that are not given have the defaults of `size_values`."""
    values = size_values(ir, sizes)
    joint = joint_graph(run_passes(ir))
    flops = moved = 0
    latency = 0.0
    for node in joint.nodes:
        cost = OPERATORS[node.op].cost
        if cost is None:
            continue
        operands = tuple(None if operand is None else joint.type(operand) for operand in node.operands)
        found = cost(Site(OPERATORS[node.op], operands, node.attrs, node.types))
        work = evaluate_size(found.flops, values)
        traffic = evaluate_size(found.read + found.written, values)
        flops, moved = flops + work, moved + traffic
        latency += max(work / device.flops_per_second, traffic / device.bytes_per_second)
    weights = sum(evaluate_size(node.type.bytes, values) for node in ir.params)
    parts = forward_and_backward(run_passes(joint, DECOMPOSED), values)
    saved = evaluate_size(parts.saved_bytes, values)
    return Quantities(evaluate_size(ir.parameters, values), flops, moved, weights + saved, latency)
