"""Which loops have a kernel: what their steps may do, and into which columns their values fall.

A loop's program holds rows of the state, so a step may compute row by row: pointwise operators, products
with matrices that stay the same, and slices and concatenations along the last axis, the columns. Registers
cannot be sliced; instead each value is held in *segments*, tiles over columns between *cuts*, such that
every slice begins and ends at one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Pointwise, View
from esper.ir.types import DType, TensorType
from esper.ops.axes import integers_of
from esper.ops.rules import attribute_integer
from esper.ops.scan import Layout
from esper.urza.plan.access import access
from esper.urza.plan.attention_uses import present
from esper.urza.plan.tiles import power_of_two

LEAST_BLOCK = 16
"""The least number of columns that matrix instructions take."""

WIDEST_SEGMENT = 64
"""The most columns of one tile."""

MOST_MULTIPLIED: Mapping[int, int] = {2: 1 << 18, 4: 1 << 16}
"""Bytes of an element -> the most numbers of matrices that a step multiplies a row with, one after another.

The code of each product stands in the kernel; without matrix instructions it is long.
"""

MOST_TILES = 512
"""The most tiles that a step computes."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns `first` to before `last` of a value."""

    first: int
    last: int

    @property
    def width(self) -> int:
        return self.last - self.first

    @property
    def block(self) -> int:
        """The columns of its tile: a power of two, and what matrix instructions take at least."""
        return 1 if self.width == 1 else max(LEAST_BLOCK, power_of_two(self.width))

    def moved(self, columns: int) -> Columns:
        return Columns(self.first + columns, self.last + columns)


@dataclass(frozen=True)
class Step:
    """The step of a loop, as its kernel sees it.

    rows: the axes of a value before its columns. matrices: the numbers of the constants that are right
        factors of products and nothing else.
    """

    layout: Layout
    rows: tuple[Size, ...]
    matrices: frozenset[int]

    @staticmethod
    def of(node: Node) -> Step:
        layout = Layout.of(node.attrs)
        body = layout.body
        given = [leaf.type.shape for leaf in body.inputs[: layout.carries]]
        rows = max((shape[:-1] for shape in given), key=len, default=())
        right: set[str] = set()
        others = {value.node for _, value in layout.body.outputs}
        for one in layout.body.nodes:
            for place, value in enumerate(one.operands):
                if value is not None:
                    (right if (one.op, place) == ("matmul", 1) else others).add(value.node)
        names = {leaf.name: index for index, leaf in enumerate(layout.body.inputs)}
        constant = (names[name] for name in right - others if name in names)
        return Step(layout, rows, frozenset(index for index in constant if index >= layout.constants))

    @property
    def body(self) -> BlueprintIR:
        return self.layout.body

    @property
    def matrix_type(self) -> DType:
        """The element type of the factors of products, float32 where there are none."""
        types = [
            self.body.type(value).dtype for node in self.body.of("matmul") for value in node.operands if value
        ]
        return types[0] if types else DType.F32

    @property
    def matrix_bytes(self) -> int:
        """Of all matrices, whose sizes are numbers."""
        sizes = (self.body.inputs[index].type.bytes for index in self.matrices)
        return sum(size for size in sizes if isinstance(size, int))

    def place(self, leaf: Value) -> int:
        """The number of an input of the body."""
        return [node.name for node in self.body.inputs].index(leaf.node)

    def is_matrix(self, node: Node) -> bool:
        return node.op == "input" and self.place(node.result()) in self.matrices

    def width(self, type: TensorType) -> int | None:
        """The number of columns of a value that has all rows, or is one line for all; None for others."""
        *lead, columns = type.shape or (1,)
        lined = all(size == 1 for size in lead)
        return columns if isinstance(columns, int) and (tuple(lead) == self.rows or lined) else None

    def has_rows(self, type: TensorType) -> bool:
        """Whether a value has a line for each row; otherwise one is shared by all."""
        return type.shape[:-1] == self.rows and (bool(type.shape) or not self.rows)

    @cached_property
    def segments(self) -> Mapping[Value, tuple[Columns, ...]]:
        """The tiles of each value but the matrices, from left to right."""
        cuts = {value: {0, width} for value, width in self._widths()}
        self._settle(cuts)
        for found in cuts.values():
            ends = sorted(found)
            for first, last in pairwise(ends):
                found.update(range(first, last, WIDEST_SEGMENT))
        self._settle(cuts)
        return {
            value: tuple(Columns(*ends) for ends in pairwise(sorted(found))) for value, found in cuts.items()
        }

    def _widths(self) -> Iterator[tuple[Value, int]]:
        for node in self.body.nodes:
            width = self.width(node.type)
            if not self.is_matrix(node) and width is not None:
                yield node.result(), width

    def _settle(self, cuts: dict[Value, set[int]]) -> None:
        """Adds to `cuts` what those of other values ask for, until nothing is left to add."""
        links = list(self._links())
        changed = True
        while changed:
            changed = False
            for link in links:
                whole, part = cuts[link.whole], cuts[link.part]
                inside = {cut - link.first for cut in whole if link.first <= cut <= link.last}
                outside = {cut + link.first for cut in part}
                if not (inside <= part and outside <= whole):
                    part |= inside
                    whole |= outside
                    changed = True

    def _links(self) -> Iterator[_Link]:
        """Which columns of which values are the same."""
        body = self.body
        carried = zip(body.inputs[: self.layout.carries], body.outputs, strict=False)
        for leaf, (_, value) in carried:
            yield _Link(leaf.result(), value, 0, self._columns(value))
        for node in body.nodes:
            result, operands = node.result(), [value for value in node.operands if value is not None]
            if node.op == "slice":
                yield _Link(operands[0], result, *columns_of_slice(node))
            elif node.op == "slice_backward":
                yield _Link(result, operands[0], *columns_of_slice(node))
            elif node.op == "concat":
                first = 0
                for operand in operands:
                    last = first + self._columns(operand)
                    yield _Link(result, operand, first, last)
                    first = last
            elif operands and node.op != "matmul":
                columns = self._columns(result)
                same = (operand for operand in operands if self._columns(operand) == columns)
                yield from (_Link(result, operand, 0, columns) for operand in same)

    def _columns(self, value: Value) -> int:
        found = self.width(self.body.type(value))
        assert found is not None, value
        return found


@dataclass(frozen=True, slots=True)
class _Link:
    """The columns `first` to `last` of `whole` are those of `part`."""

    whole: Value
    part: Value
    first: int
    last: int


def columns_of_slice(node: Node) -> tuple[int, int]:
    """The columns that a slice reads, or whose gradient it gives: from where to where."""
    (start,), (stop,) = (integers_of(node.attrs[name]) for name in ("start", "stop"))
    return start, stop


def refuses_scan(ir: BlueprintIR, node: Node) -> str | None:
    """Why a loop has no kernel, or None."""
    step = Step.of(node)
    if not step.layout.carries:
        return "a loop without a state: its steps do not wait for each other"
    for one in step.body.nodes:
        if not step.is_matrix(one) and (reason := _refuses(step, one)) is not None:
            return reason
    for index in sorted(step.matrices):
        read = access(ir, present(node.operands[index]))
        if read is not None and ir.node(read.base.node).op == "constant":
            return f"`{step.body.inputs[index].name}` of its step is a constant, and lies nowhere in memory"
    return _refuses_results(step) or _refuses_size(step)


def _refuses(step: Step, node: Node) -> str | None:
    """Why a node of a step has no place in a kernel, or None."""
    type = node.type
    if len(node.types) > 1 or not (type.dtype.is_floating or type.dtype is DType.BOOL):
        return f"`{node.name}` of its step is {type}, and a kernel's loop holds floating values"
    if step.width(type) is None:
        rows = ", ".join([*map(str, step.rows), "columns"])
        return f"`{node.name}` of its step is {type}, neither [{rows}] of a fixed width nor one line"
    lowering = OPERATORS[node.op].lowering
    if node.op == "constant":
        return None
    if node.op == "input":
        return None if type.dtype.is_floating else f"`{node.name}` of its step is {type}, expected floating"
    if isinstance(lowering, Pointwise):
        return "a step draws random numbers" if lowering.depends_on_place else None
    if node.op == "matmul":
        return _refuses_product(step, node)
    if isinstance(lowering, View) and node.op != "permute":
        return _refuses_view(step, node)
    if node.op in ("slice", "slice_backward"):
        return _refuses_slice(node)
    if node.op == "concat":
        axis = attribute_integer(node.attrs, "axis") % type.rank
        return None if axis == type.rank - 1 else f"`{node.name}` of its step joins rows"
    return f"`{node.op}` in its step, which computes more than row by row"


def _refuses_product(step: Step, node: Node) -> str | None:
    left, right = (step.body.node(value.node) for value in node.operands if value is not None)
    if not step.is_matrix(right) or right.type.rank != 2 or not step.has_rows(left.type):
        return f"`{node.name}` of its step is no product of rows with a matrix that stays the same"
    if not all(isinstance(size, int) for size in right.type.shape) or node.attrs["transpose_a"]:
        return f"`{node.name}` of its step multiplies with {right.type}, expected a matrix of fixed sizes"
    if right.type.dtype is not step.matrix_type:
        return f"`{node.name}` of its step is of {right.type.dtype}, another product of {step.matrix_type}"
    return None


def _refuses_view(step: Step, node: Node) -> str | None:
    (operand,) = node.operands
    assert operand is not None
    given = step.body.type(operand)
    keeps_rows = node.op == "broadcast_to" or step.has_rows(given) == step.has_rows(node.type)
    if keeps_rows and step.width(given) in (step.width(node.type), 1):
        return None
    return f"`{node.name}` of its step moves elements between rows and columns"


def _refuses_slice(node: Node) -> str | None:
    rank = node.type.rank
    axes, step = integers_of(node.attrs["axes"]), integers_of(node.attrs["step"])
    bounds = (*node.attrs["start"], *node.attrs["stop"])  # type: ignore[misc]
    if [axis % rank for axis in axes] != [rank - 1] or set(step) - {1}:
        return f"`{node.name}` of its step is no slice of columns side by side"
    if len(bounds) != 2 or not all(isinstance(bound, int) and bound >= 0 for bound in bounds):
        return f"`{node.name}` of its step begins or ends at a column that is no number"
    return None


def _refuses_results(step: Step) -> str | None:
    """Why a carry or what a step yields cannot be stored by the programs of its rows, or None."""
    body, layout = step.body, step.layout
    carries = [(leaf.name, leaf.type) for leaf in body.inputs[: layout.carries]]
    for name, type in [*carries, *layout.outputs]:
        if not step.has_rows(type) or not type.dtype.is_floating:
            rows = ", ".join([*map(str, step.rows), "columns"])
            return (
                f"`{name}` of its step is {type}, expected floating [{rows}], since programs share out rows"
            )
    return None


def _refuses_size(step: Step) -> str | None:
    segments = step.segments
    multiplied = 0
    for node in step.body.of("matmul"):
        left = node.operands[0]
        assert left is not None
        columns = sum(segment.block for segment in segments[node.result()])
        multiplied += sum(segment.block for segment in segments[left]) * columns
    most = MOST_MULTIPLIED[step.matrix_type.bytes]
    if multiplied > most:
        found = f"a step multiplies each row with {multiplied} numbers of {step.matrix_type}"
        return f"{found}, padded to tiles, above {most}"
    tiles = sum(map(len, segments.values()))
    if tiles > MOST_TILES:
        return f"a step computes {tiles} tiles of up to {WIDEST_SEGMENT} columns, above {MOST_TILES}"
    return None
