"""The kernels of attention: each is a call of its template on buffers that are read by strides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS
from esper.urza.attention_uses import named, present, read_of
from esper.urza.generate import Launch, Writer, buffer_name, literal
from esper.urza.grid import CeilDiv, Product
from esper.urza.tiles import attention_tile, power_of_two

LOOP_TRIPS = 16
"""Turns of the loop over keys or queries, assumed where the report weighs instructions."""


@dataclass(frozen=True, slots=True)
class Step:
    """One of the kernels.

    reads: the operands that it reads by strides, with how many axes have one. writes: which results it can
    leave out. block: the block whose programs share the first axis, and whose rows: of q or of k.
    """

    reads: Mapping[str, int]
    optional_results: tuple[str, ...]
    block: str
    rows_of: str


_OPERANDS = {"q": 4, "k": 4, "v": 4, "mask": 4}
_GRADIENT = {**_OPERANDS, "logsumexp": 3, "g": 4, "delta": 3}

STEPS: Mapping[str, Step] = {
    "attention_forward": Step(_OPERANDS, ("logsumexp",), "BLOCK_M", "q"),
    "attention_query_grad": Step(_GRADIENT, (), "BLOCK_M", "q"),
    "attention_key_value_grad": Step(_GRADIENT, ("dk", "dv"), "BLOCK_N", "k"),
}


def write_attention(writer: Writer) -> Launch:
    """The kernel of a step of attention: a call of the template of that name."""
    (node,) = writer.group.nodes
    step, operands = STEPS[node.op], named(node)
    q, k, v = (writer.ir.type(present(operands[name])) for name in "qkv")
    (batch, heads, rows, width), (_, kv_heads, keys, _), v_width = q.shape, k.shape, v.shape[3]
    assert isinstance(width, int) and isinstance(v_width, int)

    pointers = [_pointer(writer, value) for value in operands.values()]
    results = [
        _result_pointer(writer, value, name in step.optional_results)
        for value, name in zip(node.results, OPERATORS[node.op].results, strict=True)
    ]
    sizes = [writer.size(size) for size in (heads, kv_heads, rows, keys)]
    scores = (batch, heads, rows, keys)
    strides = [_strides(writer, operands[name], scores if name == "mask" else None) for name in step.reads]
    scale = float(str(node.attrs["scale"])) or 1.0 / math.sqrt(width)
    numbers = [literal(number) for number in (scale, node.attrs["dropout"], node.attrs["offset"])]
    blocks = ["BLOCK_M", "BLOCK_N", *(str(max(16, power_of_two(size))) for size in (width, v_width))]
    flags = [str(node.attrs["causal"]), str(width), str(v_width), *blocks, '"ieee"']
    call = f"{node.op}({', '.join([*pointers, *results, *sizes, *strides, *numbers, *flags])})"

    shared, count = (heads, rows) if step.rows_of == "q" else (kv_heads, keys)
    grid = Product((CeilDiv(writer.extent(count), step.block), writer.extent(batch), writer.extent(shared)))
    tile = attention_tile(node.op, max(width, v_width), q.dtype.bytes)
    return writer.finished(None, call, f"attention:{node.op}", (grid,), tile, LOOP_TRIPS)


def _pointer(writer: Writer, value: Value | None) -> str:
    if value is None:
        return "None"
    base = read_of(writer.ir, value).base
    return writer.pointer(buffer_name(base), writer.ir.type(base).dtype.value)


def _result_pointer(writer: Writer, value: Value, optional: bool) -> str:
    if optional and value not in writer.plan.stored:
        return "None"
    return writer.pointer(buffer_name(value), writer.ir.type(value).dtype.value, writes=True)


def _strides(writer: Writer, value: Value | None, wanted: Sequence[Size] | None) -> str:
    """The strides of a read as a tuple; of a read that is broadcast to the shape `wanted`, if given."""
    if value is None:
        return "None"
    read = read_of(writer.ir, value)
    strides = list(read.strides)
    if wanted is not None:
        lead = [0] * (len(wanted) - len(strides))
        strides = [*lead, *(0 if size == 1 else s for size, s in zip(read.shape, strides, strict=True))]
    return f"({', '.join(map(writer.size, strides))})"
