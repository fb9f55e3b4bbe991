"""The kernels of folds: one body for what is folded, one for what is made of the results."""

from __future__ import annotations

from esper.ir.dims import Size, product
from esper.urza.fold_uses import KINDS
from esper.urza.generate import Launch, Writer
from esper.urza.grid import CeilDiv, Product
from esper.urza.sharing import write_totals
from esper.urza.tiles import Tile, power_of_two

LOOP_TRIPS = 4
"""Turns of the loop over a run-time axis, assumed where the report weighs instructions."""

ELEMENTS = 2048
"""Of a tile: 16 for each of the threads of four warps."""


def write_fold(writer: Writer) -> Launch:
    """The kernel of a group of the kind `fold`."""
    group = writer.launch
    assert group.along is not None and group.whole is not None
    first, last = group.along
    shape = group.space.shape
    outer, along, inner = (product(axes) for axes in (shape[:first], shape[first:last], shape[last:]))
    for node in group.nodes:
        writer.compute(node)
    writer.store_results()
    folded = group.sums
    writer.lines.append(f"return ({', '.join(writer.operand(node.operands[0]) for node in folded)},)")
    terms = writer.end("terms", "outer, along, inner, mask")
    writer.begin(group.whole)
    write_totals(writer, [f"totals[{number}]" for number in range(len(folded))])
    finish = writer.end("finish", "totals, outer, inner, mask")
    tile = rows_tile(along) if inner == 1 else columns_tile(along, inner)
    function = "fold_rows" if inner == 1 else "fold_columns"
    sizes = (outer, along) if inner == 1 else (along, inner)
    call = (
        f"{function}({', '.join(map(writer.size, sizes))}, {terms.operands_text}, {finish.operands_text}, "
        f'{terms.name}, {finish.name}, {len(folded)}, "{KINDS[folded[0].op]}", {", ".join(tile.constexprs)})'
    )
    if inner == 1:
        grid = CeilDiv(writer.extent(outer), "BLOCK_M")
        return writer.finished(None, call, f"folds:{function}", (grid,), tile, trips=_trips(along, tile))
    blocks = CeilDiv(writer.extent(inner), "BLOCK_C")
    programs = blocks if outer == 1 else Product((writer.extent(outer), blocks))
    return writer.finished(None, call, f"folds:{function}", (programs,), tile, trips=_trips(along, tile))


def rows_tile(along: Size) -> Tile:
    """BLOCK_M, BLOCK_R: rows of an unknown length have a program each."""
    block = 1024 if not isinstance(along, int) else min(1024, power_of_two(along))
    return Tile({"BLOCK_M": max(1, min(32, ELEMENTS // 2 // block)), "BLOCK_R": block}, 4)


def columns_tile(along: Size, inner: Size) -> Tile:
    """BLOCK_R, BLOCK_C: as many columns as fill lanes with accesses of 128 bits, where there are so many."""
    block_c = 128 if not isinstance(inner, int) else max(8, min(128, power_of_two(inner)))
    block_r = ELEMENTS // block_c
    if isinstance(along, int):
        block_r = min(block_r, power_of_two(along))
    return Tile({"BLOCK_R": block_r, "BLOCK_C": block_c}, 4)


def _trips(along: Size, tile: Tile) -> int:
    return -(-along // int(tile.constexprs["BLOCK_R"])) if isinstance(along, int) else LOOP_TRIPS
