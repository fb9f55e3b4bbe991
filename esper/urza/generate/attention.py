"""The kernels of attention: each is a call of its template on buffers that are read by strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Value
from esper.ir.operator import OPERATORS
from esper.urza.generate.literals import literal
from esper.urza.generate.writer import Launch, Writer, buffer_name
from esper.urza.grid import CeilDiv, Extent, Product
from esper.urza.plan.attention_uses import named, present, read_of
from esper.urza.plan.tiles import attention_tile, power_of_two

LOOP_TRIPS = 16
"""Turns of the loop over keys or queries, assumed where the report weighs instructions."""


@dataclass(frozen=True, slots=True)
class Step:
    """One of the kernels.

    module: the module of `esper.kernels` that has it. reads: the operands that it reads by strides.
    optional: the results that it can leave out. walks: over what its programs walk, which hold the others:
    blocks of queries, of keys, or of both.
    """

    module: str
    reads: tuple[str, ...]
    optional: tuple[str, ...]
    walks: Literal["keys", "queries", "heads"]


_READS = ("q", "k", "v", "mask")
_GRADIENT_READS = (*_READS, "logsumexp", "g", "delta")

STEPS: Mapping[str, Step] = {
    "attention_forward": Step("attention", _READS, ("logsumexp",), "keys"),
    "attention_query_grad": Step("attention_grad", _GRADIENT_READS, (), "keys"),
    "attention_key_value_grad": Step("attention_grad", _GRADIENT_READS, ("dk", "dv"), "queries"),
    "attention_mask_grad": Step("attention_grad", _GRADIENT_READS, (), "heads"),
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
    counts = (*((batch,) if step.walks == "heads" else ()), heads, kv_heads, rows, keys)
    sizes = [writer.size(size) for size in counts]
    mask = _mask_strides(writer.ir, operands["mask"])
    strides = [
        _tuple(writer.step, mask)
        if name == "mask"
        else _tuple(writer.size, _strides(writer.ir, operands[name]))
        for name in step.reads
    ]
    scale = float(str(node.attrs["scale"])) or 1.0 / math.sqrt(width)
    numbers = [literal(number) for number in (scale, node.attrs["dropout"], node.attrs["offset"])]
    blocks = ["BLOCK_M", "BLOCK_N", *(str(max(16, power_of_two(size))) for size in (width, v_width))]
    flags = [str(node.attrs["causal"]), str(width), str(v_width), *blocks, '"ieee"']
    arguments = [*pointers.values(), *results, *sizes, *strides, *numbers, *flags]

    grid, walked = _programs(writer, step, (batch, heads, rows, keys), kv_heads, mask)
    launch = writer.finished(
        None,
        f"{node.op}({', '.join(arguments)})",
        f"{step.module}:{node.op}",
        (grid,),
        attention_tile(node.op, max(width, v_width), q.dtype.bytes),
        LOOP_TRIPS,
    )
    return replace(launch, passes={pointers[name]: times for name, times in walked.items() if operands[name]})


def _programs(
    writer: Writer,
    step: Step,
    scores: tuple[Size, Size, Size, Size],
    kv_heads: Size,
    mask: Sequence[Size | None],
) -> tuple[Extent, dict[str, Extent]]:
    """How many programs run, and how often each operand is read that a program does not hold."""
    batch, heads, rows, keys = map(writer.extent, scores)
    query_blocks, key_blocks = CeilDiv(rows, "BLOCK_M"), CeilDiv(keys, "BLOCK_N")
    again = [size for size, stride in zip((batch, heads, rows, keys), mask, strict=False) if not stride]
    held = ("q", "g", "logsumexp", "delta")
    match step.walks:
        case "keys":
            sharing = 1 if scores[1] == kv_heads else scores[1] // kv_heads
            grid = Product((query_blocks, batch, heads))
            walked = dict.fromkeys(("k", "v"), Product((query_blocks, writer.extent(sharing))))
        case "queries":
            grid = Product((key_blocks, batch, writer.extent(kv_heads)))
            walked = dict.fromkeys(held, Product((key_blocks,)))
        case "heads":
            apart = [size for size, stride in zip((batch, heads), mask[:2], strict=True) if stride]
            grid = Product((query_blocks, key_blocks, *apart))
            walked = {**dict.fromkeys(held, Product((key_blocks,))), "k": Product((query_blocks,))}
            walked["v"] = walked["k"]
    return grid, {**walked, "mask": Product(tuple(again))}


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
    """The strides of a mask over [batch, heads, T, S], None where it has size 1; no strides without one."""
    if value is None:
        return ()
    read = read_of(ir, value)
    axes = zip(read.shape, read.strides, strict=True)
    spread = [None if size == 1 else stride for size, stride in axes]
    return (*(None for _ in range(4 - len(spread))), *spread)


def _tuple(text: Callable[[Size], str], strides: Sequence[Size | None]) -> str:
    texts = ["None" if stride is None else text(stride) for stride in strides]
    return f"({', '.join(texts)})" if texts else "None"
