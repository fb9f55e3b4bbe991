"""Which template a group becomes, with which blocks: one function a kind of kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esper.ir.dims import Size, product
from esper.ir.graph import Value
from esper.urza.access import access
from esper.urza.attention import write_attention
from esper.urza.depthwise import write_depthwise, write_depthwise_weight_grad
from esper.urza.generate import Launch, Writer, buffer_name
from esper.urza.grid import CeilDiv, Product
from esper.urza.groups import Group, Plan
from esper.urza.kernel import Direction
from esper.urza.pooling import write_pooling
from esper.urza.products import about, product_sizes
from esper.urza.tiles import columns_tile, finish_tile, pointwise_tile, product_tile, rows_tile
from esper.urza.window_uses import CONVOLUTIONS, POOLINGS, WEIGHT_GRADIENTS

LOOP_TRIPS = 4
"""Turns of a loop over a run-time size, assumed where the report weighs instructions."""


TEMPLATES: Mapping[str, Callable[[Writer], Launch]] = {
    "attention_forward": write_attention,
    "attention_query_grad": write_attention,
    "attention_key_value_grad": write_attention,
    "attention_mask_grad": write_attention,
    **dict.fromkeys(CONVOLUTIONS, write_depthwise),
    **dict.fromkeys(WEIGHT_GRADIENTS, write_depthwise_weight_grad),
    **dict.fromkeys(POOLINGS, write_pooling),
}
"""What writes the kernel of an operator of `ELIGIBLE`."""


def generate(plan: Plan, group: Group, direction: Direction) -> Launch:
    """The kernel of one group that is not a library call."""
    writer = Writer(plan, group, direction)
    if group.kind == "template":
        (node,) = group.nodes + group.sums
        return TEMPLATES[node.op](writer)
    if group.kind == "product":
        return _product(writer)
    if group.kind == "finish":
        return _finish(writer)
    for node in group.nodes:
        writer.compute(node)
    if group.channel is not None:
        return _channels(writer)
    if group.split is not None:
        return _rows(writer) if group.reduces_rows else _columns(writer)
    return _map(writer)


def _map(writer: Writer) -> Launch:
    writer.store_results()
    numel = product(writer.group.space.shape)
    return writer.finished(
        body="offsets, mask",
        call=f"pointwise({writer.size(numel)}, {{operands}}, {{body}}, BLOCK)",
        template="pointwise:pointwise",
        grid=(CeilDiv(writer.extent(numel), "BLOCK"),),
        tile=pointwise_tile(),
    )


def _rows(writer: Writer) -> Launch:
    group = writer.group
    writer.store_results()
    shape = group.space.shape
    rows, width = product(shape[:-1]), _fixed(shape[-1])
    if not group.sums:
        return writer.finished(
            body="row, column, mask",
            call=f"rows({writer.size(rows)}, {{operands}}, {{body}}, {width}, BLOCK_M, BLOCK_K)",
            template="rows:rows",
            grid=(CeilDiv(writer.extent(rows), "BLOCK_M"),),
            tile=rows_tile(width),
        )
    partials = _partials(writer)
    writer.lines.append(f"return {writer.terms()}")
    return writer.finished(
        body="row, column, mask",
        call=f"rows_with_sums({writer.size(rows)}, {{operands}}, {partials}, {{body}}, {width}, "
        "BLOCK_M, BLOCK_K)",
        template="rows:rows_with_sums",
        grid=(group.partial(group.sums[0]).parts,),
        tile=rows_tile(width),
        trips=LOOP_TRIPS,
    )


def _columns(writer: Writer) -> Launch:
    group = writer.group
    writer.store_results()
    assert group.split is not None
    shape = group.space.shape
    rows, width = product(shape[: group.split]), _fixed(product(shape[group.split :]))
    partials = _partials(writer)
    writer.lines.append(f"return {writer.terms()}")
    return writer.finished(
        body="row, column, mask",
        call=f"columns({writer.size(rows)}, {{operands}}, {partials}, {{body}}, {width}, BLOCK_M, BLOCK_K)",
        template="columns:columns",
        grid=(CeilDiv(width, "BLOCK_K"), group.partial(group.sums[0]).parts),
        tile=columns_tile(width),
        trips=LOOP_TRIPS,
    )


def _channels(writer: Writer) -> Launch:
    group = writer.group
    writer.store_results()
    assert group.channel is not None
    first, last = group.channel
    shape = group.space.shape
    before, width, after = product(shape[:first]), _fixed(product(shape[first:last])), product(shape[last:])
    partials = _partials(writer)
    writer.lines.append(f"return {writer.terms()}")
    return writer.finished(
        body="offsets, channel, mask",
        call=f"channels({writer.size(before)}, {writer.size(after)}, {{operands}}, {partials}, {{body}}, "
        f"{width}, BLOCK)",
        template="columns:channels",
        grid=(width, group.partial(group.sums[0]).parts),
        tile=pointwise_tile(),
        trips=LOOP_TRIPS,
    )


def _finish(writer: Writer) -> Launch:
    group = writer.group
    for number, node in enumerate(group.totals):
        writer.names[node.result()] = f"totals[{number}]"
    for node in group.nodes:
        writer.compute(node)
    writer.store_results()
    partials = [writer.plan.partials[node.name] for node in group.totals]
    pointers = [writer.pointer(partial.name, "f32") for partial in partials]
    parts, width = partials[0].parts, partials[0].width
    return writer.finished(
        body="totals, offsets, mask",
        call=f"finish({parts}, {width}, ({', '.join(pointers)},), {{operands}}, {{body}}, BLOCK_P, BLOCK_W)",
        template="columns:finish",
        grid=(CeilDiv(width, "BLOCK_W"),),
        tile=finish_tile(parts),
    )


def _product(writer: Writer) -> Launch:
    group = writer.group
    (node,) = group.products
    batch, m, n, k = product_sizes(writer.ir, node)
    a, b = (operand for operand in node.operands if operand is not None)
    dtype = writer.ir.type(a).dtype
    pointers = [writer.pointer(buffer_name(_base(writer, v)), dtype.value) for v in (a, b)]
    transpose_a, transpose_b = bool(node.attrs["transpose_a"]), bool(node.attrs["transpose_b"])
    slice_a, slice_b = (m * k, k * n) if batch else (0, 0)
    strides_a: tuple[Size, ...] = (slice_a, 1, m) if transpose_a else (slice_a, k, 1)
    strides_b: tuple[Size, ...] = (slice_b, 1, k) if transpose_b else (slice_b, n, 1)
    split = ""
    if group.shares_inner:
        partial = group.partial(node)
        pointer = writer.body_pointer(partial.name, "f32", writes=True)
        writer.lines.append(f"tl.store({pointer} + (slice_index * {m} + row) * {n} + column, tile, mask)")
        split = f", SPLITS={group.slices}"
    else:
        writer.names[node.result()] = "tile"
        for member in group.nodes:
            if member is not node:
                writer.compute(member)
        writer.store_results()
    even = f", EVEN_K={k} % BLOCK_K == 0" if isinstance(k, int) else ""
    tile = product_tile(about(m), about(n), about(k), dtype.bytes, slices=group.slices)
    sizes = ", ".join(writer.size(size) for size in (m, n, k))
    strides = ", ".join(f"({', '.join(map(writer.size, s))})" for s in (strides_a, strides_b))
    slices: Size = group.slices if not batch else product(batch)
    return writer.finished(
        body="tile, slice_index, row, column, mask",
        call=f"matmul({', '.join(pointers)}, {sizes}, {strides}, {{operands}}, {{body}}, "
        f'BLOCK_M, BLOCK_N, BLOCK_K, "ieee"{split}{even})',
        template="matmul:matmul",
        grid=(
            Product((CeilDiv(writer.extent(m), "BLOCK_M"), CeilDiv(writer.extent(n), "BLOCK_N"))),
            writer.extent(slices),
        ),
        tile=tile,
        trips=-(-k // int(tile.constexprs["BLOCK_K"])) if isinstance(k, int) else LOOP_TRIPS,
    )


def _partials(writer: Writer) -> str:
    names = [writer.group.partial(node).name for node in writer.group.sums]
    pointers = [writer.pointer(name, "f32", writes=True) for name in names]
    return f"({', '.join(pointers)},)"


def _base(writer: Writer, value: Value) -> Value:
    read = access(writer.ir, value)
    assert read is not None
    return read.base


def _fixed(size: Size) -> int:
    assert isinstance(size, int), size
    return size
