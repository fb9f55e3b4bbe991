"""The kernels of attention: each is a call of its template on buffers that are read by strides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Value
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

    reads: the operands that it reads by strides. optional: the results that it can leave out. walks: whether
    its programs hold queries and walk over keys, or hold keys and walk over queries.
    """

    reads: tuple[str, ...]
    optional: tuple[str, ...]
    walks: Literal["keys", "queries"]


_READS = ("q", "k", "v", "mask")
_GRADIENT_READS = (*_READS, "logsumexp", "g", "delta")

STEPS: Mapping[str, Step] = {
    "attention_forward": Step(_READS, ("logsumexp",), "keys"),
    "attention_query_grad": Step(_GRADIENT_READS, (), "keys"),
    "attention_key_value_grad": Step(_GRADIENT_READS, ("dk", "dv"), "queries"),
}


def write_attention(writer: Writer) -> Launch:
    """The kernel of a step of attention: a call of the template of that name."""
    (node,) = writer.group.nodes
    step, operands = STEPS[node.op], named(node)
    q, k, v = (writer.ir.type(present(operands[name])) for name in "qkv")
    (batch, heads, rows, width), (_, kv_heads, keys, _), v_width = q.shape, k.shape, v.shape[3]
    assert isinstance(width, int) and isinstance(v_width, int)

    pointers = {name: _pointer(writer, value) for name, value in operands.items()}
    results = [
        _result_pointer(writer, value, name in step.optional)
        for value, name in zip(node.results, OPERATORS[node.op].results, strict=True)
    ]
    sizes = [writer.size(size) for size in (heads, kv_heads, rows, keys)]
    mask = _mask_strides(writer.ir, operands["mask"])
    strides = [
        _tuple(writer, mask if name == "mask" else _strides(writer.ir, operands[name])) for name in step.reads
    ]
    scale = float(str(node.attrs["scale"])) or 1.0 / math.sqrt(width)
    numbers = [literal(number) for number in (scale, node.attrs["dropout"], node.attrs["offset"])]
    blocks = ["BLOCK_M", "BLOCK_N", *(str(max(16, power_of_two(size))) for size in (width, v_width))]
    flags = [str(node.attrs["causal"]), str(width), str(v_width), *blocks, '"ieee"']
    arguments = [*pointers.values(), *results, *sizes, *strides, *numbers, *flags]

    if step.walks == "keys":
        held = (CeilDiv(writer.extent(rows), "BLOCK_M"), heads)
        sharing = 1 if heads == kv_heads else heads // kv_heads
        walked = dict.fromkeys(("k", "v"), Product((held[0], writer.extent(sharing))))
    else:
        held = (CeilDiv(writer.extent(keys), "BLOCK_N"), kv_heads)
        walked = dict.fromkeys(("q", "g", "logsumexp", "delta"), Product((held[0],)))
    axes = zip((batch, heads, rows, keys), mask or (1, 1, 1, 1), strict=True)
    walked["mask"] = Product(tuple(writer.extent(size) for size, stride in axes if stride is None))
    launch = writer.finished(
        None,
        f"{node.op}({', '.join(arguments)})",
        f"attention:{node.op}",
        (Product((held[0], writer.extent(batch), writer.extent(held[1]))),),
        attention_tile(node.op, max(width, v_width), q.dtype.bytes),
        LOOP_TRIPS,
    )
    return replace(launch, passes={pointers[name]: times for name, times in walked.items() if operands[name]})


def _pointer(writer: Writer, value: Value | None) -> str:
    if value is None:
        return "None"
    base = read_of(writer.ir, value).base
    return writer.pointer(buffer_name(base), writer.ir.type(base).dtype.value)


def _result_pointer(writer: Writer, value: Value, optional: bool) -> str:
    if optional and value not in writer.plan.stored:
        return "None"
    return writer.pointer(buffer_name(value), writer.ir.type(value).dtype.value, writes=True)


def _strides(ir: BlueprintIR, value: Value | None) -> tuple[Size, ...]:
    return read_of(ir, present(value)).strides


def _mask_strides(ir: BlueprintIR, value: Value | None) -> tuple[Size | None, ...]:
    """The strides of a mask over [batch, heads, T, S], None where it is broadcast; none without one."""
    if value is None:
        return ()
    read = read_of(ir, value)
    axes = zip(read.shape, read.strides, strict=True)
    spread = [None if size == 1 or stride == 0 else stride for size, stride in axes]
    return (*(None for _ in range(4 - len(spread))), *spread)


def _tuple(writer: Writer, strides: Sequence[Size | None]) -> str:
    texts = ["None" if stride is None else writer.size(stride) for stride in strides]
    return f"({', '.join(texts)})" if texts else "None"
