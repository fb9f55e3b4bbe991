"""The kernels of folds and of running sums: a body for what goes in, one for what is made of the results."""

from __future__ import annotations

from esper.ir.dims import Size, product
from esper.ir.types import DType
from esper.urza.fold_uses import KINDS
from esper.urza.generate import Body, Launch, Writer
from esper.urza.grid import CeilDiv, Extent, Product
from esper.urza.kernel import Configuration
from esper.urza.sharing import write_totals
from esper.urza.tiles import Tile, power_of_two

LOOP_TRIPS = 4
"""Turns of the loop over a run-time axis, assumed where the report weighs instructions."""

ELEMENTS = 2048
"""Of a tile: 16 for each of the threads of four warps."""


def write_fold(writer: Writer) -> Launch:
    """The kernel of a group of the kind `fold`."""
    group = writer.launch
    assert group.whole is not None
    for node in group.nodes:
        writer.compute(node)
    writer.store_results()
    folded = group.sums
    writer.lines.append(f"return ({', '.join(writer.operand(node.operands[0]) for node in folded)},)")
    terms = writer.end("terms", "outer, along, inner, mask")
    writer.begin(group.whole)
    write_totals(writer, [f"totals[{number}]" for number in range(len(folded))])
    finish = writer.end("finish", "totals, outer, inner, mask")
    return along_axes(writer, "folds:fold", terms, finish, f'{len(folded)}, "{KINDS[folded[0].op]}"')


def write_running_sum(writer: Writer) -> Launch:
    """The kernel of a `cumsum`."""
    (node,) = writer.launch.nodes
    (operand,) = node.operands
    writer.lines.append(f"return {writer.operand(operand)}")
    terms = writer.end("terms", "outer, along, inner, mask")
    writer.begin(writer.launch)
    writer.names[node.result()] = "sums"
    writer.store_results()
    store = writer.end("store", "sums, outer, along, inner, mask")
    held = "tl.float64" if node.type.dtype is DType.F32 else "tl.float32"
    return along_axes(writer, "running:running", terms, store, f"{bool(node.attrs['reverse'])}, {held}")


def along_axes(writer: Writer, template: str, first: Body, second: Body, constants: str) -> Launch:
    """A launch of `template`_rows or _columns over the space of the writer's launch, with two bodies."""
    group = writer.launch
    assert group.along is not None
    start, end = group.along
    shape = group.space.shape
    outer, along, inner = (product(axes) for axes in (shape[:start], shape[start:end], shape[end:]))
    tile = rows_tile(along) if inner == 1 else columns_tile(along, inner)
    template = f"{template}_{'rows' if inner == 1 else 'columns'}"
    sizes = (outer, along) if inner == 1 else (along, inner)
    call = (
        f"{template.split(':')[1]}({', '.join(map(writer.size, sizes))}, {first.operands_text}, "
        f"{second.operands_text}, {first.name}, {second.name}, {constants}, {', '.join(tile.constexprs)})"
    )
    programs: Extent = CeilDiv(writer.extent(outer), "BLOCK_M")
    if inner != 1:
        blocks = CeilDiv(writer.extent(inner), "BLOCK_C")
        programs = blocks if outer == 1 else Product((writer.extent(outer), blocks))
    return writer.finished(None, call, template, (programs,), tile, trips=_trips(along, tile))


def rows_tile(along: Size) -> Tile:
    """BLOCK_M, BLOCK_R: rows of an unknown length have a program each."""
    block = 1024 if not isinstance(along, int) else min(1024, power_of_two(along))
    smaller = Configuration({"BLOCK_R": max(1, block // 4)}, 4, 3)
    return Tile({"BLOCK_M": max(1, min(32, ELEMENTS // 2 // block)), "BLOCK_R": block}, 4, 3, (smaller,))


def columns_tile(along: Size, inner: Size) -> Tile:
    """BLOCK_R, BLOCK_C: as many columns as fill lanes with accesses of 128 bits, where there are so many."""
    block_c = 128 if not isinstance(inner, int) else max(8, min(128, power_of_two(inner)))
    block_r = ELEMENTS // block_c
    if isinstance(along, int):
        block_r = min(block_r, power_of_two(along))
    smaller = Configuration({"BLOCK_R": max(1, block_r // 4)}, 4, 3)
    return Tile({"BLOCK_R": block_r, "BLOCK_C": block_c}, 4, 3, (smaller,))


def _trips(along: Size, tile: Tile) -> int:
    return -(-along // int(tile.constexprs["BLOCK_R"])) if isinstance(along, int) else LOOP_TRIPS
