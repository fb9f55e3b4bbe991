"""The kernels of pooling: calls of their templates on maps that are read by strides."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Size, product
from esper.ir.graph import Value
from esper.urza.generate.maps import Map, read_map, sizes_text, written_map
from esper.urza.generate.writer import Launch, Writer
from esper.urza.grid import CeilDiv
from esper.urza.plan.window_tiles import pooling_tile
from esper.urza.plan.window_uses import windows_of

LOOP_TRIPS = 4
"""Turns of a loop over a window whose sides are run-time sizes, assumed where the report weighs."""


def write_pooling(writer: Writer) -> Launch:
    """The kernel of a pooling, or of its gradient."""
    (node,) = writer.group.nodes
    reads = [read_map(writer, operand) for operand in node.operands if operand is not None]
    results = [_written(writer, value) for value in node.results]
    result = next(found for found in results if found is not None)[1]
    back = node.op.endswith("_backward")
    x, y = (result, reads[0][1]) if back else (reads[0][1], result)
    windows = windows_of(node)
    template = node.op.removeprefix("adaptive_")
    literals = [windows.kernel, windows.padding, windows.stride, windows.adaptive]
    if template.startswith("avg"):
        literals.append(bool(node.attrs.get("count_include_pad", False)))
    values = [
        *(pointer for pointer, _ in reads),
        *("None" if found is None else found[0] for found in results),
        writer.size(x.sizes[0]),
        *_all_sizes(writer, [x.sizes[2:], y.sizes[2:], *(read.strides for _, read in reads)]),
        writer.size(x.sizes[1]),
        *map(str, literals),
        "BLOCK",
    ]
    trips = LOOP_TRIPS if windows.adaptive else windows.kernel[2]
    grid = (CeilDiv(writer.extent(product(result.sizes)), "BLOCK"),)
    call = f"{template}({', '.join(values)})"
    return writer.finished(None, call, f"pooling:{template}", grid, pooling_tile(), trips)


def _written(writer: Writer, value: Value) -> tuple[str, Map] | None:
    """Where a result goes; None where nobody reads it."""
    return written_map(writer, value) if value in writer.plan.stored else None


def _all_sizes(writer: Writer, tuples: Sequence[tuple[Size, ...]]) -> list[str]:
    return [sizes_text(writer, sizes) for sizes in tuples]
