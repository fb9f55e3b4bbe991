"""What kernels move and a graph computes at given sizes, counted from the plan: nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Value
from esper.ir.operator import OPERATORS, Site
from esper.ir.types import TensorType
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.grid import evaluate
from esper.urza.plan.access import access
from esper.urza.plan.bytes_read import Reads
from esper.urza.plan.products import product_sizes
from esper.urza.program import Program


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that one launch asks of global memory.

    moved: every buffer as often as the kernel goes through it: a product reads its left factor once for each
    column of tiles and its right factor once for each row of tiles, attention what it loops over once for
    each block of the others, of which caches serve a part.
    minimum: every buffer that the kernel reads or writes once, weights and partial sums included.

    Of a buffer that is read through slices and look-ups alone no more counts than the elements that these
    name, each node's for itself, and no more than all of it.
    """

    moved: int
    minimum: int


def traffic(program: Program, launch: Launch, sizes: Mapping[str, int]) -> Traffic:
    """What `launch`, a step of `program`, moves; `sizes` has a number for each size symbol."""
    by_buffer = traffic_of_buffers(program, launch, sizes).values()
    return Traffic(sum(one.moved for one in by_buffer), sum(one.minimum for one in by_buffer))


def traffic_of_buffers(program: Program, launch: Launch, sizes: Mapping[str, int]) -> dict[str, Traffic]:
    """The same for each buffer that `launch` reads or writes, by name."""
    bytes_of = {name: _bytes(type, sizes) for name, type in types_of_buffers(program).items()}
    bytes_of |= {name: 4 * partial.parts * partial.width for name, partial in program.partials.items()}
    rereads = _rereads(program, launch, sizes)
    bytes_of |= _read(program, launch, sizes)
    used = set(launch.buffers.values())
    return {name: Traffic(bytes_of[name] * rereads.get(name, 1), bytes_of[name]) for name in used}


def flops(ir: BlueprintIR, sizes: Mapping[str, int]) -> int:
    """Floating-point operations of one evaluation, by the operators' own counts."""
    total = 0
    for node in ir.nodes:
        entry = OPERATORS[node.op]
        if entry.cost is not None:
            operands = tuple(None if operand is None else ir.type(operand) for operand in node.operands)
            total += evaluate_size(entry.cost(Site(entry, operands, node.attrs, node.types)).flops, sizes)
    return total


def types_of_buffers(program: Program) -> dict[str, TensorType]:
    """Leaves and what steps write, by the names that launches give them."""
    leaves = {
        buffer_name(Value(node.name)): node.type
        for node in program.ir.nodes
        if not node.operands and node.types
    }
    return {**leaves, **program.buffers}


def _read(program: Program, launch: Launch, sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of the buffers that `launch` reads and does not write."""
    reads = Reads(program.ir, lambda type: _bytes(type, sizes))
    for part in launch.group.parts:
        reads.add([*part.nodes, *part.sums], part.__contains__)
    found = {buffer_name(value): size for value, size in reads.bytes().items()}
    return {name: size for name, size in found.items() if name not in launch.written}


def _bytes(type: TensorType, sizes: Mapping[str, int]) -> int:
    return evaluate_size(type.bytes, sizes)


def _buffer(ir: BlueprintIR, value: Value) -> str:
    found = access(ir, value)
    assert found is not None
    return buffer_name(found.base)


def _rereads(program: Program, launch: Launch, sizes: Mapping[str, int]) -> dict[str, int]:
    """How often a product goes through each factor's buffer, and a template through each that it says."""
    if launch.group.kind != "product":
        numbers = {name: evaluate_size(size, sizes) for name, size in launch.sizes.items()}
        numbers |= {name: value for name, value in launch.kernel.constexprs.items() if isinstance(value, int)}
        return {launch.buffers[name]: evaluate(passes, numbers) for name, passes in launch.passes.items()}
    tile = launch.kernel.constexprs
    times: dict[str, int] = {}
    for node in (node for part in launch.group.parts for node in part.products):
        _, m, n, _ = product_sizes(program.ir, node)
        rows = -(-evaluate_size(m, sizes) // int(tile["BLOCK_M"]))
        columns = -(-evaluate_size(n, sizes) // int(tile["BLOCK_N"]))
        left, right = (_buffer(program.ir, operand) for operand in node.operands if operand is not None)
        times[left] = times.get(left, 0) + columns
        times[right] = times.get(right, 0) + rows
    return times
