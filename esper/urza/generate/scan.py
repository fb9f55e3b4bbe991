"""The kernel of a loop: its start, its step and its end as functions that the template calls.

The step is written value by value and segment by segment (`scan_uses`), in float32. A product of rows with a
matrix adds up the products of their tiles; slices and concatenations are names of tiles, and the zeros of a
slice's gradient are none at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from esper.ir.dims import Dim, product
from esper.ir.graph import Node, Value
from esper.ir.operator import OPERATORS, Pointwise, View
from esper.ir.types import DType, TensorType
from esper.urza.generate.literals import constant_text, literal
from esper.urza.generate.scan_places import LoopPlaces
from esper.urza.generate.writer import Body, Launch, Writer, identifier
from esper.urza.grid import CeilDiv, Extent, Product
from esper.urza.plan.attention_uses import present
from esper.urza.plan.scan_uses import Columns, Step, columns_of_slice
from esper.urza.plan.tiles import scan_tile

LOOP_TRIPS = 64
"""Steps, assumed where the report weighs instructions."""

MOST_HELD = 64 * 1024
"""In bytes: the most of matrices that is loaded before the loop; more is loaded in each step."""

ZERO = "0.0"
"""The text of columns that are zero whatever the step is."""

TILE_TYPES = {DType.F32: "tl.float32", DType.BF16: "tl.bfloat16", DType.F16: "tl.float16"}


def write_scan(writer: Writer) -> Launch:
    """The kernel of a loop."""
    (node,) = writer.group.nodes
    step = Step.of(node)
    return _Loop(writer, node, step, LoopPlaces(writer, node, step)).write()


@dataclass
class _Loop:
    """A loop while it is written.

    names: the tile of each segment of a value, as text, in the body that is being written.
    held: names of tiles that steps read again and again, and the text that loads each before the loop.
    kept: those of them that are parts of matrices, by what they are.
    lines: names of tiles that may have one line for all rows.
    products: how many products of tiles a step has.
    """

    writer: Writer
    node: Node
    step: Step
    places: LoopPlaces
    names: dict[tuple[Value, Columns], str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    kept: dict[object, str] = field(default_factory=dict)
    lines: set[str] = field(default_factory=set)
    products: int = 0

    def write(self) -> Launch:
        writer, layout, step = self.writer, self.step.layout, self.step
        bodies = {"step": self._write_step(), "start": self._write_start(), "finish": self._write_finish()}
        ordered = [bodies[name] for name in ("start", "step", "finish")]
        sequence = self.places.read(layout.carries)
        steps = layout.steps(TensorType(DType.F32, sequence.shape))
        rows = product(step.rows)
        arguments = [
            *(writer.size(rows), writer.size(steps)),
            *(body.operands_text for body in ordered),
            *(body.name for body in ordered),
            *(str(self.node.attrs["reverse"]), "BLOCK_M", "STAGES"),
        ]
        programs = CeilDiv(writer.extent(rows), "BLOCK_M")
        tile = scan_tile(step.matrix_type.bytes, self._holds_matrices)
        call = f"scan({', '.join(arguments)})"
        launch = writer.finished(None, call, "scan:scan", (programs,), tile, LOOP_TRIPS)
        again: Extent = programs if self._holds_matrices else Product((programs, writer.extent(steps)))
        return replace(launch, passes={self.places.matrix_pointer(i): again for i in sorted(step.matrices)})

    @property
    def _holds_matrices(self) -> bool:
        return self.step.matrix_bytes <= MOST_HELD

    # --- the three functions ---

    def _write_step(self) -> Body:
        layout, body = self.step.layout, self.step.body
        carries = [leaf.result() for leaf in body.inputs[: layout.carries]]
        state = [name for value in carries for name in self._name_all(value)]
        after, yielded = (
            [value for _, value in body.outputs[part]]
            for part in (slice(layout.carries), slice(layout.carries, None))
        )
        yielded += carries if self.node.attrs["histories"] else []
        stored = [
            (result, value)
            for result, value in zip(self.node.results[layout.carries :], yielded, strict=True)
            if result in self.writer.plan.stored
        ]
        for result, value, segment in self._in_turn(stored, after):
            self._emit(value, segment)
            if result is not None:
                text = self._with_rows(value, segment)
                self.writer.lines.append(self.places.store_slice(result, segment, text))
        next_state = [self._with_rows(value, segment) for value in after for segment in self._of(value)]
        held = [f"({', '.join(self.held)},) = held"] if self.held else []
        self.writer.lines[:0] = [f"({', '.join(state)},) = state", *held]
        self.writer.lines.append(f"return ({', '.join(next_state)},)")
        return self._end("step", "state, held, row, mask, step")

    def _in_turn(
        self, stored: Sequence[tuple[Value, Value]], after: Sequence[Value]
    ) -> list[tuple[Value | None, Value, Columns]]:
        """What a step has to give, such that what belongs to the same columns of the state comes together.

        A value that is several times as wide as the state has such columns in each part: gates do.
        """
        period = min(len(self._of(value)) for value in after)
        wanted = [*stored, *((None, value) for value in after)]
        found = [
            (number % period, order, number, (result, value, segment))
            for order, (result, value) in enumerate(wanted)
            for number, segment in enumerate(self._of(value))
        ]
        return [entry for *_, entry in sorted(found, key=lambda one: one[:3])]

    def _write_start(self) -> Body:
        lines, state = self.writer.lines, []
        for index, leaf in enumerate(self.step.body.inputs[: self.step.layout.carries]):
            number = self.places.constant(index)
            for segment in self._of(leaf.result()):
                text = self.places.whole(index, segment) if number is None else number
                name = self._fresh(f"{leaf.name}_{segment.first}")
                lines.append(f"{name} = {_full(text, segment, is_number=number is not None)}")
                state.append(name)
        lines += [f"{name} = {text}" for name, text in self.held.items()]
        held = "".join(f"{name}, " for name in self.held)
        lines.append(f"return ({', '.join(state)},), ({held.rstrip()})")
        return self._end("start", "row, mask")

    def _write_finish(self) -> Body:
        leaves = self.step.body.inputs[: self.step.layout.carries]
        state = [name for leaf in leaves for name in self._name_all(leaf.result())]
        for result, leaf in zip(self.node.results, leaves, strict=False):
            for segment in self._of(leaf.result()) if result in self.writer.plan.stored else ():
                text = self._with_rows(leaf.result(), segment)
                self.writer.lines.append(self.places.store(result, segment, text))
        if self.writer.lines:
            self.writer.lines.insert(0, f"({', '.join(state)},) = state")
        return self._end("finish", "state, row, mask")

    def _end(self, name: str, parameters: str) -> Body:
        """Ends a body, whose first lines count the places of its tiles."""
        words = {word for line in self.writer.lines for word in re.findall(r"\w+", line)}
        places = []
        for size in sorted({one.block for found in self.step.segments.values() for one in found}):
            for kind, shape in (("column", "None, :"), ("line", ":, None")):
                if f"{kind}_{size}" in words:
                    places.append(f"{kind}_{size} = tl.arange(0, {size})[{shape}]")
        self.writer.lines[:0] = places
        self.names.clear()
        self.kept.clear()
        return self.writer.end(name, parameters)

    # --- names ---

    def _of(self, value: Value) -> Sequence[Columns]:
        return self.step.segments[value]

    def _fresh(self, stem: str) -> str:
        """A name like `stem` that no tile has."""
        taken = {*self.names.values(), *self.held}
        name = self.writer.unique(identifier(stem))
        while name in taken:
            name = self.writer.unique(f"_{name}")
        return name

    def _name_all(self, value: Value) -> list[str]:
        """Names all segments of `value`; the names."""
        found = []
        for segment in self._of(value):
            self.names[value, segment] = self._fresh(self._stem(value, segment))
            found.append(self.names[value, segment])
        return found

    def _stem(self, value: Value, segment: Columns) -> str:
        return value.node if len(self._of(value)) == 1 else f"{value.node}_{segment.first}"

    def _assign(self, value: Value, segment: Columns, text: str) -> None:
        name = self._fresh(self._stem(value, segment))
        self.writer.lines.append(f"{name} = {text}")
        self.names[value, segment] = name

    def _with_rows(self, value: Value, segment: Columns) -> str:
        """The tile of a segment, with a line for each row."""
        text = self.names[value, segment]
        if text.isidentifier() and text not in self.lines:
            return text
        return _full(text, segment, is_number=not text.isidentifier())

    # --- what a step computes ---

    def _emit(self, value: Value, segment: Columns) -> None:
        """Computes a segment, after what it needs that has no name yet; a stack stands for the recursion."""
        stack = [(value, segment)]
        while stack:
            value, segment = stack[-1]
            node = self.step.body.node(value.node)
            missing = [one for one in self._sources(node, segment) if one not in self.names]
            if missing:
                stack += reversed(missing)
                continue
            stack.pop()
            if (value, segment) not in self.names:
                self._compute(node, segment)

    def _sources(self, node: Node, segment: Columns) -> list[tuple[Value, Columns]]:
        """The segments that one of the result of `node` is made of."""
        operands = [present(operand) for operand in node.operands]
        if node.op == "matmul":
            return [(operands[0], inner) for inner in self._of(operands[0])]
        if node.op == "slice":
            first, _ = columns_of_slice(node)
            return [(operands[0], segment.moved(first))]
        if node.op == "slice_backward":
            first, last = columns_of_slice(node)
            inside = first <= segment.first and segment.last <= last
            return [(operands[0], segment.moved(-first))] if inside else []
        if node.op == "concat":
            first = 0
            for operand in operands:
                last = first + self._of(operand)[-1].last
                if segment.last <= last:
                    return [(operand, segment.moved(-first))]
                first = last
        found = []
        for operand in operands:
            own = self._of(operand)
            found.append((operand, segment if segment in own else own[0]))
        return found

    def _compute(self, node: Node, segment: Columns) -> None:
        """Names a segment of the result of `node`, whose sources have names."""
        place = (node.result(), segment)
        sources = self._sources(node, segment)
        texts = [self.names[source] for source in sources]
        if node.op == "input":
            self._read(node.result(), segment)
        elif node.op == "constant":
            self.names[place] = constant_text(node)
        elif node.op == "matmul":
            self._product(node, segment)
        elif node.op in ("slice", "slice_backward", "concat") or isinstance(
            OPERATORS[node.op].lowering, View
        ):
            self._rename(place, sources[0] if sources else None)
        elif node.op == "add" and ZERO in texts:
            self._rename(place, sources[1 - texts.index(ZERO)])
        else:
            if not any(text.isidentifier() for text in texts):
                texts = [_full(text, segment, is_number=True) for text in texts]
            self._assign(node.result(), segment, self._expression(node, texts))
            if all(text in self.lines for text in texts if text.isidentifier()):
                self.lines.add(self.names[place])

    def _rename(self, place: tuple[Value, Columns], source: tuple[Value, Columns] | None) -> None:
        """Names a segment that is another one, or one column of it beside itself; without one, zero."""
        text = ZERO if source is None else self.names[source]
        if source is None or source[1].block == place[1].block or not text.isidentifier():
            self.names[place] = text
        else:
            self._assign(*place, _full(text, place[1], is_number=False))

    def _read(self, value: Value, segment: Columns) -> None:
        """Names a segment of a slice of a sequence, or of a constant."""
        index = self.step.place(value)
        number = self.places.constant(index)
        if number is not None:
            self.names[value, segment] = number
            return
        if index < self.step.layout.constants:
            self._assign(value, segment, self.places.slice(index, segment))
        else:
            name = self._fresh(self._stem(value, segment))
            self.held[name] = self.places.whole(index, segment)
            self.names[value, segment] = name
        if not self.places.is_full(index):
            self.lines.add(self.names[value, segment])

    def _expression(self, node: Node, texts: Sequence[str]) -> str:
        entry = OPERATORS[node.op]
        assert isinstance(entry.lowering, Pointwise), node.op
        names = {entry.input_of(index).name: text for index, text in enumerate(texts)}
        for name, value in node.attrs.items():
            size = self.writer.body_size(value) if isinstance(value, Dim) else None
            names[name] = literal(value) if size is None else f"({size} * 1.0)"
        text = entry.lowering.expression.format(**names)
        if node.op == "cast" and not self.step.body.type(present(node.operands[0])).dtype.is_floating:
            return f"({text}).to(tl.float32)"
        return text

    # --- products ---

    def _product(self, node: Node, segment: Columns) -> None:
        """The columns `segment` of a product: what the segments of its left factor give, added up."""
        left, right = (present(operand) for operand in node.operands)
        index = self.step.place(right)
        axis_of_inner = 1 if node.attrs["transpose_b"] else 0
        total = ""
        for inner in self._of(left):
            if self.names[left, inner] == ZERO:
                continue
            text = self._with_rows(left, inner)
            self.products += 1
            if inner.width == 1:
                line = self._line(index, 1 - axis_of_inner, segment, inner.first)
                found = f"{text} * {line}"
            elif segment.width == 1:
                line = self._line(index, axis_of_inner, inner, segment.first)
                found = f"tl.sum({_masked(text, inner)} * {line}, 1)[:, None]"
            else:
                tile = self._tile(index, inner, segment, is_transposed=axis_of_inner == 1)
                factor = f"{_masked(text, inner)}.to({TILE_TYPES[self.step.matrix_type]})"
                found = f'tl.dot({factor}, {tile}{total and f", {total}"}, input_precision="ieee")'
            is_sum = total and not found.startswith("tl.dot")
            if not total:
                self._assign(node.result(), segment, found)
                total = self.names[node.result(), segment]
            else:
                self.writer.lines.append(f"{total} = {f'{total} + ' if is_sum else ''}{found}")
        if not total:
            self._assign(node.result(), segment, _full(ZERO, segment, is_number=True))

    def _tile(self, index: int, inner: Columns, segment: Columns, is_transposed: bool) -> str:
        """The tile [inner, segment] of a product's right factor.

        What waits before the loop is read either way round; a step loads it as each product reads it.
        """
        if is_transposed and self._holds_matrices:
            return f"tl.trans({self._tile(index, segment, inner, is_transposed=False)})"
        part = ("tile", inner, segment, is_transposed)
        return self._part(index, part, self.places.tile(index, inner, segment, is_transposed))

    def _line(self, index: int, axis: int, run: Columns, fixed: int) -> str:
        return self._part(index, ("line", axis, run, fixed), self.places.line(index, axis, run, fixed))

    def _part(self, index: int, part: object, text: str) -> str:
        """The name of a loaded part of a matrix: loaded before the loop, or each time in the step.

        What a step kept from one product to the next would take as much room as before the loop.
        """
        if not self._holds_matrices:
            name = self._fresh(f"{self.step.body.inputs[index].name}_part_{self.products}")
            self.writer.lines.append(f"{name} = {text}")
            return name
        key = (index, part)
        if key not in self.kept:
            name = self._fresh(f"{self.step.body.inputs[index].name}_part_{len(self.kept)}")
            self.held[name] = text
            self.kept[key] = name
        return self.kept[key]


def _full(text: str, segment: Columns, is_number: bool) -> str:
    """A tile with a line for each row from the text of one that may have one for all, or of a number."""
    shape = f"[row.shape[0], {segment.block}]"
    return f"tl.full({shape}, {text}, tl.float32)" if is_number else f"tl.broadcast_to({text}, {shape})"


def _masked(text: str, segment: Columns) -> str:
    """A tile that is zero beyond its columns: what stands there may be no number."""
    size = segment.block
    return text if size == segment.width else f"tl.where(column_{size} < {segment.width}, {text}, 0.0)"
