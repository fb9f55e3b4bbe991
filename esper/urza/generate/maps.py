"""Maps as the templates of windows take them: [N, C, D, H, W], with axes of size 1 where there are fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esper.ir.dims import Size, product
from esper.ir.graph import Value
from esper.urza.generate.writer import Writer, buffer_name
from esper.urza.plan.access import access, row_major
from esper.urza.plan.window_uses import AXES


@dataclass(frozen=True, slots=True)
class Map:
    """sizes: (n, c, d, h, w); strides: of the same axes in elements, 0 for an axis that is not there."""

    sizes: tuple[Size, ...]
    strides: tuple[Size, ...]

    @property
    def pixels(self) -> Size:
        """Elements of one channel, in all examples."""
        return self.sizes[0] * product(self.sizes[2:])


def read_map(writer: Writer, value: Value, channels_last: bool = False) -> tuple[str, Map]:
    """The pointer to an operand, and how it is read."""
    read = access(writer.ir, value)
    assert read is not None
    pointer = writer.pointer(buffer_name(read.base), writer.ir.type(read.base).dtype.value)
    return pointer, _map(read.shape, read.strides, channels_last)


def written_map(writer: Writer, value: Value, channels_last: bool = False) -> tuple[str, Map]:
    """The pointer to a result, and how it is written: contiguous."""
    type = writer.ir.type(value)
    pointer = writer.pointer(buffer_name(value), type.dtype.value, writes=True)
    return pointer, _map(type.shape, row_major(type.shape), channels_last)


def _map(shape: Sequence[Size], strides: Sequence[Size], channels_last: bool) -> Map:
    return Map(_five(shape, 1, channels_last), _five(strides, 0, channels_last))


def _five(axes: Sequence[Size], absent: Size, channels_last: bool) -> tuple[Size, ...]:
    """One entry for each of (n, c, d, h, w)."""
    if channels_last:
        axes = (axes[0], axes[-1], *axes[1:-1])
    return (*axes[:2], *[absent] * (2 + AXES - len(axes)), *axes[2:])


def sizes_text(writer: Writer, sizes: Sequence[Size]) -> str:
    """A tuple of sizes or strides in the entry function."""
    return f"({', '.join(map(writer.step, sizes))})"
