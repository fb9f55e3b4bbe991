"""What a blueprint costs, counted from its graph: nothing here is measured.

Parameters are exact. FLOPs and bytes are the sums of the operators' own counts over one training step,
forward and backward, after the cleaning passes. Latency is the roofline (Williams et al. 2009) of a reference
GPU by its datasheet: each operator takes the longer of its arithmetic and its memory traffic. It ranks
blueprints; it does not predict milliseconds. Memory is that of a program that computes nothing twice; what a
program that computes again what is cheap keeps is told by `esper.tezzeret.costs.exact`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Cost, Leaf, Site, View
from esper.ir.rewrite import needed_by
from esper.lang import SizeValue, size_values
from esper.passes import joint_graph, run_passes
from esper.passes.autodiff import GRADIENT


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
    """Counts of one training step.

    memory: bytes of the weights, and of each tensor that the backward pass reads of the forward pass (a view
    counts as what it views; inputs and weights are there anyway): all that is kept if nothing is computed
    twice.
    """

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


@dataclass(frozen=True, slots=True)
class Work:
    """What one operator does: arithmetic, and the bytes that it reads and writes."""

    flops: int
    bytes: int

    def seconds(self, device: Device) -> float:
        return max(self.flops / device.flops_per_second, self.bytes / device.bytes_per_second)


def cost_of(ir: BlueprintIR, node: Node) -> Cost | None:
    """Of `node`, a node of `ir`; None for one that costs nothing by its nature."""
    entry = OPERATORS[node.op]
    if entry.cost is None:
        return None
    operands = tuple(None if operand is None else ir.type(operand) for operand in node.operands)
    return entry.cost(Site(entry, operands, node.attrs, node.types))


def work_of(ir: BlueprintIR, node: Node, sizes: Mapping[str, int]) -> Work | None:
    """The work of `node`, a node of `ir`; None for one that does none by its nature."""
    found = cost_of(ir, node)
    if found is None:
        return None
    return Work(evaluate_size(found.flops, sizes), evaluate_size(found.read + found.written, sizes))


def roofline(work: Iterable[Work], device: Device) -> float:
    """Seconds, one operator after another: the exact sum, rounded once, whatever the order."""
    return math.fsum(entry.seconds(device) for entry in work)


def quantities(
    ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None = None, device: Device = REFERENCE_DEVICE
) -> Quantities:
    """The counts for `ir` at `sizes`; size symbols that are not given have the defaults of `size_values`."""
    return counted(ir, sizes, [device])[0]


def counted(
    ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None, devices: Iterable[Device]
) -> list[Quantities]:
    """`quantities` for several devices, which differ in latency alone."""
    values = size_values(ir, sizes)
    joint = joint_graph(run_passes(ir))
    work = [found for node in joint.nodes if (found := work_of(joint, node, values)) is not None]
    params = evaluate_size(ir.parameters, values)
    flops, moved = sum(entry.flops for entry in work), sum(entry.bytes for entry in work)
    memory = weight_bytes(ir, values) + kept_bytes(joint, values)
    return [Quantities(params, flops, moved, memory, roofline(work, device)) for device in devices]


def weight_bytes(ir: BlueprintIR, sizes: Mapping[str, int]) -> int:
    """Of all parameters."""
    return sum(evaluate_size(node.type.bytes, sizes) for node in ir.params)


def kept_bytes(joint: BlueprintIR, sizes: Mapping[str, int]) -> int:
    """Of what the backward pass of a joint graph reads of the forward pass, see `Quantities`."""
    updated = {name for name, _ in joint.updates}
    kept = {
        base: evaluate_size(joint.type(base).bytes, sizes)
        for base in read_back(joint)
        if not isinstance(OPERATORS[joint.node(base.node).op].lowering, Leaf) or base.node in updated
    }
    return sum(kept.values())


def read_back(joint: BlueprintIR) -> dict[Value, None]:
    """The values of the forward pass that the backward pass reads, views as what they are views of."""
    results = [value for name, value in joint.outputs if not name.startswith(GRADIENT)]
    ahead = needed_by(joint, [value.node for value in (*results, *(value for _, value in joint.updates))])
    return {
        viewed(joint, value): None
        for node in joint.nodes
        if node.name not in ahead
        for value in node.operands
        if value is not None and value.node in ahead
    }


def viewed(joint: BlueprintIR, value: Value) -> Value:
    """What `value` is a view of: itself, or what its operands come to through views alone."""
    while isinstance(OPERATORS[(node := joint.node(value.node)).op].lowering, View):
        value = node.operand
    return value
