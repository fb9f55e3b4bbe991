"""Forms of reductions: whole rows in registers, sums of columns or channels; what has none is a fold."""

from __future__ import annotations

from dataclasses import dataclass

from esper.ir.build import Builder
from esper.ir.dims import Dim, Size
from esper.ir.graph import BlueprintIR, Node
from esper.ir.operator import OPERATORS, Reduction
from esper.urza.plan.groups import Group
from esper.urza.plan.tiles import ROW_LIMIT


@dataclass(frozen=True, slots=True)
class Form:
    """What a reduction asks of its kernel: whole rows, a split into rows and columns, or channels."""

    rows: bool
    split: int
    channel: tuple[int, int] | None = None

    def fits(self, group: Group) -> bool:
        if self.channel is not None:
            return group.split is None and group.channel in (None, self.channel)
        if group.channel is not None or group.split not in (None, self.split):
            return False
        rank = len(group.space.shape)
        wide = (self.rows or group.reduces_rows) and not _narrow(group.space.shape[-1:])
        return not wide and (not self.rows or self.split == rank - 1)


def form_of(ir: BlueprintIR | Builder, node: Node) -> Form | None:
    """The form of a reduction of whole rows, or of a sum of fixed size; None for others, which are folds."""
    (operand,) = node.operands
    assert operand is not None
    shape = ir.type(operand).shape
    rank = len(shape)
    attribute = node.attrs["axes"]
    assert isinstance(attribute, tuple)
    axes = [int(str(axis)) for axis in attribute]
    if axes == [rank - 1] and _narrow(shape[-1:]):
        return Form(True, rank - 1)
    lowering = OPERATORS[node.op].lowering
    if not isinstance(lowering, Reduction) or lowering.kind != "sum":
        return None
    kept = [axis for axis in range(rank) if axis not in axes and shape[axis] != 1]
    if kept and kept != list(range(kept[0], kept[-1] + 1)):
        return None
    if any(isinstance(shape[axis], Dim) for axis in kept):
        return None
    if not kept:
        return Form(False, rank, (rank, rank))
    if kept[-1] == rank - 1:
        return Form(False, kept[0])
    return Form(False, kept[0], (kept[0], kept[-1] + 1))


def _narrow(shape: tuple[Size, ...]) -> bool:
    return all(isinstance(size, int) and size <= ROW_LIMIT for size in shape)


def is_row(ir: BlueprintIR, node: Node) -> bool:
    """Whether a reduction is of rows that a kernel keeps in registers."""
    form = form_of(ir, node)
    return form is not None and form.rows
