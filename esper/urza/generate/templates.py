"""Which template a group becomes, with which blocks: one function a kind of kernel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from esper.ir.dims import product
from esper.urza.generate.attention import write_attention
from esper.urza.generate.depthwise import write_depthwise, write_depthwise_weight_grad
from esper.urza.generate.folds import write_fold, write_running_sum
from esper.urza.generate.matmul import write_product
from esper.urza.generate.pooling import write_pooling
from esper.urza.generate.scan import write_scan
from esper.urza.generate.sharing import form, picked, united, write_totals, written
from esper.urza.generate.writer import FIRST, Launch, Writer
from esper.urza.grid import CeilDiv, Extent, Sum
from esper.urza.kernel import VECTOR, Configuration, Direction
from esper.urza.plan.groups import Group, Plan
from esper.urza.plan.tiles import Tile, columns_tile, finish_tile, pointwise_tile, rows_tile
from esper.urza.plan.window_uses import CONVOLUTIONS, POOLINGS, WEIGHT_GRADIENTS

IS_FIRST = re.compile(rf"\b{FIRST}\b")

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
    "cumsum": write_running_sum,
    "scan": write_scan,
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
    if group.kind == "fold":
        return write_fold(writer)
    for node in group.nodes:
        writer.compute(node)
    if group.channel is not None:
        return _channels(writer)
    if group.split is not None:
        return _rows(writer) if group.reduces_rows else _columns(writer)
    return _map(writer)


def _map(writer: Writer) -> Launch:
    """A map, and the totals that programs of their own add up beside it."""
    writer.store_results()
    numel = product(writer.group.space.shape)
    size, by_vectors = writer.step(numel), any(IS_FIRST.search(line) for line in writer.lines)
    tile = pointwise_tile()
    if by_vectors:
        tile = _in_vectors(writer, tile)
    body = writer.end("body", f"offsets, {FIRST}, mask" if by_vectors else "offsets, mask")
    given = f"{size}, {body.operands_text}, {body.name}, {', '.join(tile.constexprs)}"
    programs: Extent = CeilDiv(writer.extent(numel), "BLOCK")
    if writer.launch.beside:
        blocks, calls = _totals(writer, writer.launch.beside)
        counts = ", ".join([*map(str, blocks), f"tl.cdiv({size}, BLOCK)"])
        function = "elements_of_vectors" if by_vectors else "elements"
        calls += ["else:", f"    {function}(program, {given})"]
        call = "\n".join([f"member, program = member_of_program(({counts}))", *calls])
        template = f"columns:totals_of_lines;pointwise:{function}"
        programs = Sum((sum(blocks), programs))
    else:
        function = "pointwise_vectors" if by_vectors else "pointwise"
        call, template = f"{function}({given})", f"pointwise:{function}"
    launch = writer.finished(None, call, template, (programs,), tile)
    return _promised(launch) if by_vectors else launch


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
        call=f"columns({writer.size(rows)}, {{operands}}, {partials}, {{body}}, {width}, "
        "BLOCK_M, BLOCK_K{before_loop})",
        fixed="column",
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
    sizes, by_vectors = f"{writer.size(before)}, {writer.step(after)}", writer.is_promised(after)
    tile = _in_vectors(writer, pointwise_tile()) if by_vectors else pointwise_tile()
    launch = writer.finished(
        body="before, channel, after, mask",
        call=f"channels({sizes}, {{operands}}, {partials}, {{body}}, {width}, "
        f"{', '.join(tile.constexprs)}{{before_loop}})",
        fixed="channel",
        template="columns:channels",
        grid=(width, group.partial(group.sums[0]).parts),
        tile=tile,
        trips=LOOP_TRIPS,
    )
    return _promised(launch) if by_vectors else launch


def _in_vectors(writer: Writer, tile: Tile) -> Tile:
    """`tile` with VECTOR; sizes that need a promise to be multiples of it have that in `aligned` alone."""
    return replace(tile, constexprs={**tile.constexprs, "VECTOR": 1 if writer.steps else VECTOR})


def _promised(launch: Launch) -> Launch:
    """`launch` by vectors under promises."""
    kernel = launch.kernel
    configurations = (
        Configuration({**one.constexprs, "VECTOR": VECTOR}, one.num_warps, one.num_stages)
        for one in (kernel.configuration, *kernel.alternatives)
    )
    return replace(launch, kernel=replace(kernel, promised=tuple(configurations)))


def _finish(writer: Writer) -> Launch:
    if writer.launch.members:
        return _finish_together(writer)
    writer.lines += written(writer, writer.launch, _write_totals)
    parts, width, pointers = _lines_of(writer, writer.launch)
    return writer.finished(
        body="totals, offsets, mask",
        call=f"finish({parts}, {width}, ({', '.join(pointers)},), {{operands}}, {{body}}, BLOCK_P, BLOCK_W)",
        template="columns:finish",
        grid=(CeilDiv(width, "BLOCK_W"),),
        tile=finish_tile(parts),
    )


def _finish_together(writer: Writer) -> Launch:
    blocks, calls = _totals(writer, writer.launch.members)
    call = "\n".join([f"member, program = member_of_program(({', '.join(map(str, blocks))}))", *calls])
    return writer.finished(None, call, "columns:totals_of_lines", (sum(blocks),), Tile({}, 4))


def _totals(writer: Writer, groups: Sequence[Group]) -> tuple[list[int], list[str]]:
    """How many programs each of several totals takes, and the branches of the entry that run them.

    Totals that are alike but for their pointers and sizes share a branch.
    """
    writer.in_body["member"] = None
    alike: dict[object, list[tuple[Group, list[str]]]] = {}
    for member in groups:
        lines = written(writer, member, _write_totals)
        alike.setdefault((_lines_of(writer, member)[0], form(writer, lines)), []).append((member, lines))
    blocks: list[int] = []
    calls: list[str] = []
    for number, members in enumerate(alike.values()):
        first = len(blocks)
        found = [_lines_of(writer, member) for member, _ in members]
        writer.lines += united(writer, [lines for _, lines in members], first)
        body = writer.end(f"totals_{number}", "totals, offsets, mask")
        parts, tile = found[0][0], finish_tile(found[0][0]).constexprs
        pointers = [picked(names, first) for names in zip(*(names for _, _, names in found), strict=True)]
        width = picked([str(width) for _, width, _ in found], first)
        blocks += [-(-width // _fixed(tile["BLOCK_W"])) for _, width, _ in found]
        calls += [
            f"{'elif' if calls else 'if'} member < {len(blocks)}:",
            f"    totals_of_lines(program, {parts}, {width}, ({', '.join(pointers)},), "
            f"{body.operands_text}, {body.name}, {tile['BLOCK_P']}, {tile['BLOCK_W']})",
        ]
    return blocks, calls


def _write_totals(writer: Writer) -> None:
    write_totals(writer, [f"totals[{index}]" for index in range(len(writer.group.totals))])


def _lines_of(writer: Writer, group: Group) -> tuple[int, int, list[str]]:
    """(parts, width, pointers) of the partial sums that a group finishes."""
    partials = [writer.plan.partials[node.name] for node in group.totals]
    return partials[0].parts, partials[0].width, [writer.pointer(one.name, "f32") for one in partials]


def _partials(writer: Writer) -> str:
    names = [writer.group.partial(node).name for node in writer.group.sums]
    pointers = [writer.pointer(name, "f32", writes=True) for name in names]
    return f"({', '.join(pointers)},)"


def _fixed(size: object) -> int:
    assert isinstance(size, int), size
    return size
