"""Where the values of a loop lie: the text of loads and stores of one segment's tile.

Tiles are [BLOCK_M, block of columns]; a value that is one line for all rows is read as [1, block], a matrix
as it lies in memory. `row`, `mask` and `step` are the template's, `column_B` and `line_B` count the B places
of a tile along its columns and lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esper.ir.dims import Size, product
from esper.ir.graph import Node, Value
from esper.ir.types import DType
from esper.urza.generate.literals import constant_text
from esper.urza.generate.writer import Writer, buffer_name
from esper.urza.plan.access import Access, row_major
from esper.urza.plan.attention_uses import present, read_of
from esper.urza.plan.scan_uses import Columns, Step
from esper.urza.plan.space import Segment, Space, index_text


@dataclass(frozen=True, slots=True)
class _Term:
    """A part of an offset: what is one number for the tile, what differs in it, and where that is inside.

    "" for nothing and for everywhere.
    """

    start: str = ""
    offset: str = ""
    inside: str = ""


@dataclass(frozen=True, slots=True)
class LoopPlaces:
    """The loads and stores of a loop's kernel."""

    writer: Writer
    node: Node
    step: Step

    def read(self, index: int) -> Access:
        """How operand `index` of the loop is read."""
        return read_of(self.writer.ir, present(self.node.operands[index]))

    def constant(self, index: int) -> str | None:
        """The text of an operand that is one number, or None."""
        found = self.writer.ir.node(self.read(index).base.node)
        return constant_text(found) if found.op == "constant" else None

    def is_full(self, index: int) -> bool:
        """Whether what is read of operand `index` has a line for each row, and each column."""
        read, leaf = self.read(index), self.step.body.inputs[index]
        return self.step.has_rows(leaf.type) and 0 not in read.strides and product(self.step.rows) != 1

    def whole(self, index: int, segment: Columns) -> str:
        """A load of a segment of the first carry or the constant with the number `index`."""
        read = self.read(index)
        return self._load(read.base, self._terms(read, segment))

    def slice(self, index: int, segment: Columns) -> str:
        """A load of a segment of the step's slice of the sequence with the number `index`."""
        read = self.read(index)
        time = self.step.layout.axis(len(read.shape) - 1)
        return self._load(
            read.base, [self._time(read.strides[time]), *self._terms(_without(read, time), segment)]
        )

    def store(self, value: Value, segment: Columns, text: str) -> str:
        """A store of a segment of a last carry."""
        type = self.writer.ir.type(value)
        return self._store(
            value, self._terms(Access(value, type.shape, row_major(type.shape)), segment), text
        )

    def store_slice(self, value: Value, segment: Columns, text: str) -> str:
        """A store of a segment of the step's slice of what is stacked."""
        type = self.writer.ir.type(value)
        time = self.step.layout.axis(type.rank - 1)
        whole = Access(value, type.shape, row_major(type.shape))
        terms = [self._time(whole.strides[time]), *self._terms(_without(whole, time), segment)]
        return self._store(value, terms, text)

    def tile(self, index: int, lines: Columns, columns: Columns, is_transposed: bool) -> str:
        """A load of a tile of the matrix with the number `index`, in its own element type.

        is_transposed: lines of the tile lie along the matrix's second axis.
        """
        read = self.read(index)
        along = read.strides[::-1] if is_transposed else read.strides
        terms = [self._along("line", lines, along[0]), self._along("column", columns, along[1])]
        return self._load(read.base, terms, widened=False)

    def line(self, index: int, axis: int, run: Columns, fixed: int) -> str:
        """A load of a line [1, block] of a matrix: `run` along `axis`, at `fixed` along the other."""
        read = self.read(index)
        terms = [
            _Term(self._times(fixed, read.strides[1 - axis])),
            self._along("column", run, read.strides[axis]),
        ]
        return self._load(read.base, terms)

    def matrix_pointer(self, index: int) -> str:
        return self._pointer(self.read(index).base)

    def _terms(self, read: Access, segment: Columns) -> list[_Term]:
        terms = []
        if self.step.rows and read.shape[:-1] == self.step.rows:
            rows = Access(read.base, read.shape[:-1], read.strides[:-1])
            axes = (Segment("row", 0, len(self.step.rows)),)
            offset, used = index_text(Space(self.step.rows), axes, rows, self.writer.body_size)
            if used:
                terms.append(_Term("", offset, "mask"))
        if read.shape:
            terms.append(self._along("column", segment, read.strides[-1]))
        return terms

    def _along(self, name: str, segment: Columns, stride: Size) -> _Term:
        """The places of `segment` along an axis; none where all lie at one place."""
        size, start = segment.block, self._times(segment.first, stride)
        if stride == 0 or size == 1:
            return _Term(start)
        place = f"{name}_{size}"
        offset = place if stride == 1 else f"{place} * {self.writer.body_size(stride)}"
        return _Term(start, offset, "" if size == segment.width else f"({place} < {segment.width})")

    def _times(self, place: int, stride: Size) -> str:
        size = stride * place
        return "" if size == 0 else self.writer.body_size(size)

    def _time(self, stride: Size) -> _Term:
        return _Term("" if stride == 0 else f"step * {self.writer.body_size(stride)}")

    def _pointer(self, base: Value, writes: bool = False) -> str:
        return self.writer.body_pointer(buffer_name(base), self.writer.ir.type(base).dtype.value, writes)

    def _load(self, base: Value, terms: Sequence[_Term], widened: bool = True) -> str:
        place, inside = _joined(self._pointer(base), terms)
        text = f"tl.load({place}, {inside}, 0.0)" if inside else f"tl.load({place})"
        narrow = self.writer.ir.type(base).dtype is not DType.F32
        return f"{text}.to(tl.float32)" if widened and narrow else text

    def _store(self, value: Value, terms: Sequence[_Term], text: str) -> str:
        if not any(term.inside == "mask" for term in terms):
            terms = [*terms, _Term("", "row", "mask")]  # there is one row, number 0
        place, inside = _joined(self._pointer(value, writes=True), terms)
        return f"tl.store({place}, {text}, {inside})"


def _joined(pointer: str, terms: Sequence[_Term]) -> tuple[str, str]:
    """The place that `terms` lead to from `pointer`, and where it is inside.

    Numbers come first: then tiles of one buffer differ by what an instruction holds, not by their addresses.
    """
    parts = [*(term.start for term in terms), *(term.offset for term in terms)]
    inside = [term.inside for term in terms if term.inside]
    return " + ".join([pointer, *filter(None, parts)]), " & ".join(inside)


def _without(read: Access, axis: int) -> Access:
    """A slice of `read` along `axis`."""
    shape, strides = ((*sizes[:axis], *sizes[axis + 1 :]) for sizes in (read.shape, read.strides))
    return Access(read.base, shape, strides)
