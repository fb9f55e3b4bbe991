"""Whether a kernel that computes a value may read it where it is, in registers."""

from __future__ import annotations

from itertools import pairwise

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Value
from esper.urza.plan.access import access
from esper.urza.plan.space import Space


def in_registers(ir: BlueprintIR | Builder, operand: Value, space: Space) -> bool:
    """Whether `operand`, computed in `space`, is read there in the frame in which it was computed."""
    read = access(ir, operand)
    assert read is not None
    axes = zip(read.shape, read.strides, strict=True)
    frame = space.frame([1 if stride == 0 else size for size, stride in axes])
    own = space.frame(ir.type(read.base).shape)
    return frame is not None and own == frame and _keeps_order(read.strides, read.shape)


def _keeps_order(strides: tuple[Size, ...], shape: tuple[Size, ...]) -> bool:
    """Whether elements are visited in the buffer's order; broadcast axes don't count."""
    kept = [(stride, size) for stride, size in zip(strides, shape, strict=True) if stride != 0 and size != 1]
    return all(left == right * size for (left, _), (right, size) in pairwise(kept))
