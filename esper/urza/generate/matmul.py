"""The kernels of matrix products: one, several beside each other in a launch, or several that add up.

A launch of several products has programs for the tiles of each: pointers and sizes that differ are picked by
the member's number, epilogues are called by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from esper.ir.dims import Size, product
from esper.urza.generate.sharing import dispatched, picked, write_totals
from esper.urza.generate.writer import Launch, Writer, buffer_name
from esper.urza.grid import CeilDiv, Product, Sum
from esper.urza.kernel import SPREAD
from esper.urza.plan.attention_uses import present, read_of
from esper.urza.plan.groups import Group
from esper.urza.plan.products import about, product_sizes
from esper.urza.plan.tiles import product_tile

LOOP_TRIPS = 4
"""Turns of a loop over a run-time size, assumed where the report weighs instructions."""


@dataclass(frozen=True, slots=True)
class _Factors:
    """What a member of a product's launch multiplies, as text: one entry a term, strides in three parts."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    inner: tuple[str, ...]
    a_strides: tuple[tuple[str, ...], ...]
    b_strides: tuple[tuple[str, ...], ...]


def _factors(writer: Writer, group: Group) -> _Factors:
    columns: list[list[Any]] = [[], [], [], [], []]
    for node in group.products:
        batch, m, n, k = product_sizes(writer.ir, node)
        a, b = (operand for operand in node.operands if operand is not None)
        dtype = writer.ir.type(a).dtype.value
        slice_a, slice_b = (m * k, k * n) if batch else (0, 0)
        a_strides: tuple[Size, ...] = (slice_a, 1, m) if node.attrs["transpose_a"] else (slice_a, k, 1)
        b_strides: tuple[Size, ...] = (slice_b, 1, k) if node.attrs["transpose_b"] else (slice_b, n, 1)
        found = (
            *(writer.pointer(buffer_name(read_of(writer.ir, factor).base), dtype) for factor in (a, b)),
            writer.size(k),
            *(tuple(map(writer.step, strides)) for strides in (a_strides, b_strides)),
        )
        for column, entry in zip(columns, found, strict=True):
            column.append(entry)
    return _Factors(*map(tuple, columns))


def write_product(writer: Writer) -> Launch:
    """The kernel of a product, or of the members of a launch of products."""
    launch = writer.launch
    members = launch.members or [launch]
    factors = [_factors(writer, member) for member in members]
    if launch.members:
        writer.in_body["member"] = None
    body = dispatched(writer, "body", "tile, slice_index, row, column, mask", _epilogue)
    summed = next((member for member in members if member.sums), None)
    sums = ""
    if summed is not None:
        found = dispatched(writer, "sums", "sums, slice_index, offsets, mask", _store_sums)
        sums = f', SUM_OF="{summed.sum_of}", SUM={found.name}, sum_operands={found.operands_text}'
    sizes = [product_sizes(writer.ir, member.products[0]) for member in members]
    batch, slices = sizes[0][0], launch.parts[0].slices
    inner = [product_sizes(writer.ir, node)[3] for node in members[0].products]
    even = " and ".join(f"{k} % BLOCK_K == 0" for k in inner)
    dtype = writer.ir.type(present(members[0].products[0].operands[0])).dtype
    tile = product_tile(
        max(about(m) for _, m, _, _ in sizes),
        max(about(n) for _, _, n, _ in sizes),
        sum(map(about, inner)),
        dtype.bytes,
        slices=slices * len(members),
    )
    tiles = [
        Product((CeilDiv(writer.extent(m), "BLOCK_M"), CeilDiv(writer.extent(n), "BLOCK_N")))
        for _, m, n, _ in sizes
    ]
    lines = []
    if launch.members:
        counts = [
            f"tl.cdiv({writer.size(m)}, BLOCK_M) * tl.cdiv({writer.size(n)}, BLOCK_N)" for _, m, n, _ in sizes
        ]
        lines.append(f"member, program = member_of_program(({', '.join(counts)}))")
    arguments = [
        "program" if launch.members else "tl.program_id(0)",
        *(_terms([getattr(one, name) for one in factors]) for name in ("a", "b")),
        picked([writer.size(m) for _, m, _, _ in sizes]),
        picked([writer.size(n) for _, _, n, _ in sizes]),
        *(_terms([getattr(one, name) for one in factors]) for name in ("inner", "a_strides", "b_strides")),
        *(body.operands_text, body.name, "BLOCK_M", "BLOCK_N", "BLOCK_K", '"ieee"'),
    ]
    flags = f", SPREAD={SPREAD}" + (f", SPLITS={slices}" if slices > 1 else "")
    flags += f", EVEN_K={even}" if all(isinstance(k, int) for k in inner) else ""
    lines.append(f"matmul({', '.join(arguments)}{flags}{sums})")
    return writer.finished(
        body=None,
        call="\n".join(lines),
        template="matmul:matmul",
        grid=(
            tiles[0] if len(tiles) == 1 else Sum(tuple(tiles)),
            writer.extent(slices if not batch else product(batch)),
        ),
        tile=replace(tile, constexprs={**tile.constexprs, SPREAD: False}),
        trips=_trips(inner, int(tile.constexprs["BLOCK_K"])),
    )


def _trips(inner: Sequence[Size], block: int) -> int:
    """Turns of a product's loop over all terms."""
    return sum(-(-size // block) if isinstance(size, int) else LOOP_TRIPS for size in inner)


def _epilogue(writer: Writer) -> None:
    """What becomes of a tile of the product of the writer's group."""
    group, node = writer.group, writer.group.accumulated[-1]
    if group.shares_inner:
        partial = group.partial(node)
        pointer = writer.body_pointer(partial.name, "f32", writes=True)
        m, n = node.type.shape[-2:]
        writer.lines.append(f"tl.store({pointer} + (slice_index * {m} + row) * {n} + column, tile, mask)")
        return
    writer.names[node.result()] = "tile"
    for member in group.nodes:
        if member not in group.accumulated:
            writer.compute(member)
    writer.store_results()


def _store_sums(writer: Writer) -> None:
    """What becomes of a factor's sums: parts for a group that adds them up, or what is made of the whole."""
    group = writer.group
    if group.whole is not None:
        writer.begin(group.whole)
        write_totals(writer, ["sums"])
        return
    for node in group.sums:
        partial = group.partial(node)
        pointer = writer.body_pointer(partial.name, "f32", writes=True)
        writer.lines.append(f"tl.store({pointer} + slice_index * {partial.width} + offsets, sums, mask)")


def _terms(members: Sequence[Sequence[Any]]) -> str:
    """A tuple with one entry for each term, each picked by the member where they differ."""
    entries = [
        picked(list(entry))
        if isinstance(entry[0], str)
        else f"({', '.join(map(picked, zip(*entry, strict=True)))})"
        for entry in zip(*members, strict=True)
    ]
    return f"({', '.join(entries)},)"
