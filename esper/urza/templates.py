"""Which template a group becomes, with which blocks: one function a kind of kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esper.ir.dims import product
from esper.urza.attention import write_attention
from esper.urza.depthwise import write_depthwise, write_depthwise_weight_grad
from esper.urza.generate import Launch, Writer
from esper.urza.grid import CeilDiv, Extent
from esper.urza.groups import Group, Plan
from esper.urza.kernel import Direction
from esper.urza.matmul import write_product
from esper.urza.pooling import write_pooling
from esper.urza.sharing import choice, numbered, write_totals
from esper.urza.tiles import Tile, columns_tile, finish_tile, pointwise_tile, rows_tile
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
        return write_product(writer)
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
    members = writer.launch.members or [writer.launch]
    calls, blocks, tiles = [], [], []
    for number, member in enumerate(members):
        writer.begin(member)
        write_totals(writer, [f"totals[{index}]" for index in range(len(member.totals))])
        body = writer.end(numbered("body", number, members), "totals, offsets, mask")
        partials = [writer.plan.partials[node.name] for node in member.totals]
        pointers = ", ".join(writer.pointer(partial.name, "f32") for partial in partials)
        tiles.append(finish_tile(partials[0].parts))
        width, block = partials[0].width, _fixed(tiles[-1].constexprs["BLOCK_W"])
        blocks.append(-(-width // block))
        calls.append(f"{partials[0].parts}, {width}, ({pointers},), {{operands}}, {body}")
    if len(members) == 1:
        call = f"finish({calls[0]}, BLOCK_P, BLOCK_W)"
        grid: Extent = CeilDiv(partials[0].width, "BLOCK_W")
        return writer.finished(None, call, "columns:finish", (grid,), tiles[0])
    sized = [
        f"totals_of_lines(program, {call}, {tile.constexprs['BLOCK_P']}, {tile.constexprs['BLOCK_W']})"
        for call, tile in zip(calls, tiles, strict=True)
    ]
    head = f"member, program = member_of_program(({', '.join(map(str, blocks))}))"
    call = "\n".join([head, *choice(sized)])
    return writer.finished(
        None, call, "columns:totals_of_lines", (sum(blocks),), Tile({}, tiles[0].num_warps)
    )


def _partials(writer: Writer) -> str:
    names = [writer.group.partial(node).name for node in writer.group.sums]
    pointers = [writer.pointer(name, "f32", writes=True) for name in names]
    return f"({', '.join(pointers)},)"


def _fixed(size: object) -> int:
    assert isinstance(size, int), size
    return size
