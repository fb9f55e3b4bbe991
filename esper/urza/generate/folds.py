"""The kernels of folds and of running sums: a body for what goes in, one for what is made of the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from esper.ir.dims import Size, product
from esper.ir.graph import Value
from esper.ir.types import DType
from esper.urza.generate.sharing import write_totals
from esper.urza.generate.writer import Body, Launch, Writer
from esper.urza.grid import CeilDiv, Extent, Product
from esper.urza.kernel import Configuration
from esper.urza.plan.access import access
from esper.urza.plan.fold_uses import KINDS
from esper.urza.plan.groups import Group
from esper.urza.plan.tiles import Tile, power_of_two

LOOP_TRIPS = 4
"""Turns of the loop over a run-time axis, assumed where the report weighs instructions."""

ELEMENTS = 2048
"""Of a tile: 16 for each of the threads of four warps."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A space as kernels of folds see it: [outer, along, inner], its tile, and how many programs it takes."""

    outer: Size
    along: Size
    inner: Size
    tile: Tile

    @staticmethod
    def of(group: Group) -> Stretch:
        assert group.along is not None
        start, end = group.along
        shape = group.space.shape
        outer, along, inner = (product(axes) for axes in (shape[:start], shape[start:end], shape[end:]))
        return Stretch(outer, along, inner, rows_tile(along) if inner == 1 else columns_tile(along, inner))

    @property
    def form(self) -> str:
        """Where the axis comes last its elements are "rows", else "columns"."""
        return "rows" if self.inner == 1 else "columns"

    @property
    def trips(self) -> int:
        """Turns of the loop over the axis."""
        if not isinstance(self.along, int):
            return LOOP_TRIPS
        return -(-self.along // int(self.tile.constexprs["BLOCK_R"]))

    def function(self, run: Group) -> tuple[str, str]:
        """The template of a run, and its constants."""
        if run.whole is None:
            return f"each_of_{self.form}", "BLOCK_R"
        kinds = _tuple([f'"{KINDS[node.op]}"' for node in run.sums])
        blocks = "BLOCK_M, BLOCK_R" if self.form == "rows" else "BLOCK_R, BLOCK_C"
        return f"fold_{self.form}", f"{kinds}, {blocks}"

    def sizes(self, writer: Writer) -> str:
        """M, R of rows; R, C of columns."""
        first, last = (self.outer, self.along) if self.form == "rows" else (self.along, self.inner)
        return f"{writer.size(first)}, {writer.step(last)}"

    def programs(self, writer: Writer) -> Extent:
        if self.form == "rows":
            return CeilDiv(writer.extent(self.outer), "BLOCK_M")
        blocks = CeilDiv(writer.extent(self.inner), "BLOCK_C")
        return blocks if self.outer == 1 else Product((writer.extent(self.outer), blocks))


def write_fold(writer: Writer) -> Launch:
    """The kernel of a group of the kind `fold`: a run along its axes, and one for each of its `passes`."""
    stretch = Stretch.of(writer.launch)
    place, found = ("outer", "BLOCK_M")
    if stretch.form == "columns":
        place, found = "outer, inner", f"{writer.size(stretch.inner)}, BLOCK_C"
    where = f"{place}, {stretch.sizes(writer)}"
    calls = [f"{place} = {stretch.form}_of_program({found})"]
    used = {f"{stretch.form}_of_program"}
    runs = [writer.launch, *writer.launch.passes]
    known: list[Value] = []
    reads: Counter[str] = Counter()
    for number, run in enumerate(runs):
        values = "values" if known else "()"
        bodies = [_each(writer, run, number, known, reads)]
        if run.whole is not None:
            finish, known = _finish(writer, run, number, known, runs[number + 1 :])
            bodies.append(finish)
        given = ", ".join([*(one.operands_text for one in bodies), *(one.name for one in bodies)])
        function, constants = stretch.function(run)
        target = "values = " if run.whole is not None and known else ""
        calls.append(f"{target}{function}({where}, {values}, {given}, {constants})")
        used.add(function)
    launch = writer.finished(
        None,
        "\n".join(calls),
        f"folds:{', '.join(sorted(used))}",
        (stretch.programs(writer),),
        stretch.tile,
        trips=stretch.trips,
    )
    return replace(launch, passes={name: times for name, times in reads.items() if times > 1})


def _each(writer: Writer, run: Group, number: int, known: Sequence[Value], reads: Counter[str]) -> Body:
    """What is done to each element in a run; `reads` counts the runs that read a pointer."""
    _begin(writer, run, known)
    for node in run.nodes:
        writer.compute(node)
    writer.store_results()
    if run.whole is not None:
        writer.lines.append(f"return {_tuple([writer.operand(node.operands[0]) for node in run.sums])}")
    reads.update({pointer for pointer, _ in writer.loaded})
    return writer.end(_numbered("terms", number), "values, outer, along, inner, mask")


def _finish(
    writer: Writer, run: Group, number: int, known: Sequence[Value], later: Sequence[Group]
) -> tuple[Body, list[Value]]:
    """What is made of the results of a run, and the values that later runs find in `values`."""
    assert run.whole is not None
    _begin(writer, run.whole, known)
    write_totals(writer, [f"totals[{index}]" for index in range(len(run.sums))])
    values = _for_later(writer, known, later)
    writer.lines.append(f"return {_tuple([writer.names[value] for value in values])}")
    return writer.end(_numbered("finish", number), "totals, values, outer, inner, mask"), values


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _begin(writer: Writer, part: Group, known: Sequence[Value]) -> None:
    """Turns to a part of the launch that finds the values `known` in its parameter `values`."""
    writer.begin(part)
    writer.names |= {value: f"values[{index}]" for index, value in enumerate(known)}


def _for_later(writer: Writer, known: Sequence[Value], later: Sequence[Group]) -> list[Value]:
    """What later runs read of values at hand: of those `known`, and of what this part computed."""
    whole = writer.group
    at_hand = [*known, *(node.result() for node in [*whole.totals, *whole.nodes])]
    readers = [part for run in later for part in run.parts]
    read = {
        found.base
        for part in readers
        for node in [*part.nodes, *part.sums]
        for operand in node.operands
        if operand is not None and (found := access(writer.ir, operand)) is not None
    }
    return [value for value in dict.fromkeys(at_hand) if value in read]


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)},)" if texts else "()"


def write_running_sum(writer: Writer) -> Launch:
    """The kernel of a `cumsum`."""
    (node,) = writer.launch.nodes
    (operand,) = node.operands
    stretch = Stretch.of(writer.launch)
    sizes = stretch.sizes(writer)
    writer.lines.append(f"return {writer.operand(operand)}")
    terms = writer.end("terms", "outer, along, inner, mask")
    writer.begin(writer.launch)
    writer.names[node.result()] = "sums"
    writer.store_results()
    store = writer.end("store", "sums, outer, along, inner, mask")
    held = "tl.float64" if node.type.dtype is DType.F32 else "tl.float32"
    function = f"running_{stretch.form}"
    call = (
        f"{function}({sizes}, {terms.operands_text}, {store.operands_text}, {terms.name}, {store.name}, "
        f"{bool(node.attrs['reverse'])}, {held}, {', '.join(stretch.tile.constexprs)})"
    )
    programs = stretch.programs(writer)
    return writer.finished(None, call, f"running:{function}", (programs,), stretch.tile, trips=stretch.trips)


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
