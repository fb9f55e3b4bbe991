"""The kernels of depthwise convolutions: calls of their templates on maps that are read by strides."""

from __future__ import annotations

from dataclasses import replace

from esper.ir.graph import Node, Value
from esper.urza.generate.maps import Map, read_map, sizes_text, written_map
from esper.urza.generate.writer import Launch, Writer
from esper.urza.grid import CeilDiv
from esper.urza.kernel import Configuration, KernelSource
from esper.urza.plan.window_tiles import (
    depthwise_sums_tile,
    depthwise_sums_vectors,
    depthwise_tile,
    depthwise_vectors,
)
from esper.urza.plan.window_uses import CHANNELS_LAST, Filters, filters_of

LOOP_TRIPS = 16
"""Turns of the loop over pixels, assumed where the report weighs instructions."""


def write_depthwise(writer: Writer) -> Launch:
    """The kernel of a depthwise convolution, or of the gradient of its input."""
    (node,) = writer.group.nodes
    filters, last = filters_of(writer.ir, node), node.op.endswith(CHANNELS_LAST)
    back = "input_grad" in node.op
    source, weight = _operands(node)
    x_pointer, x = read_map(writer, source, last)
    weight_pointer, weight_map = read_map(writer, weight)
    result_pointer, result = written_map(writer, node.result(), last)
    channels = filters.channels * (1 if back else filters.multiplier)
    values = [
        *(x_pointer, weight_pointer, result_pointer, writer.size(x.sizes[0])),
        *(sizes_text(writer, sizes) for sizes in (x.sizes[2:], result.sizes[2:], x.strides)),
        sizes_text(writer, (weight_map.strides[0], *weight_map.strides[2:])),
        sizes_text(writer, result.strides),
        *_literals(filters, channels),
        *(str(back), str(last), "VECTOR", "BLOCK_P", "BLOCK_C"),
    ]
    grid = (CeilDiv(writer.extent(result.pixels), "BLOCK_P"), CeilDiv(channels, "BLOCK_C"))
    launch = writer.finished(
        None,
        f"depthwise({', '.join(values)})",
        "depthwise:depthwise",
        grid,
        depthwise_tile(channels, filters.kernel[2], last),
        filters.kernel[0] * filters.kernel[1],
    )
    in_vectors = not last and (filters.stride == 1 or not back) and _in_vectors(writer, x, result)
    return replace(launch, kernel=_promised(launch.kernel, in_vectors, depthwise_vectors(channels)))


def write_depthwise_weight_grad(writer: Writer) -> Launch:
    """The kernel of the partial sums of a gradient of depthwise filters."""
    (node,) = writer.group.sums
    filters, last = filters_of(writer.ir, node), node.op.endswith(CHANNELS_LAST)
    partial = writer.group.partial(node)
    gradient, source = _operands(node)
    g_pointer, g = read_map(writer, gradient, last)
    x_pointer, x = read_map(writer, source, last)
    channels = filters.channels * filters.multiplier
    values = [
        *(g_pointer, x_pointer, writer.pointer(partial.name, "f32", writes=True)),
        writer.size(g.sizes[0]),
        *(sizes_text(writer, sizes) for sizes in (g.sizes[2:], x.sizes[2:], g.strides, x.strides)),
        *_literals(filters, channels),
        *(str(last), "VECTOR", "BLOCK_P", "BLOCK_C"),
    ]
    lines = filters.kernel[0] * filters.kernel[1]
    launch = writer.finished(
        None,
        f"depthwise_weight_grad({', '.join(values)})",
        "depthwise:depthwise_weight_grad",
        (CeilDiv(channels, "BLOCK_C"), lines, partial.parts),
        depthwise_sums_tile(channels, filters.kernel[2], last),
        LOOP_TRIPS,
    )
    in_vectors = not last and _in_vectors(writer, x, g)
    kernel = _promised(launch.kernel, in_vectors, depthwise_sums_vectors(channels))
    return replace(launch, kernel=kernel, passes={g_pointer: lines, x_pointer: lines})


def _in_vectors(writer: Writer, read: Map, other: Map) -> bool:
    """Whether lines of both are whole vectors under promises, which lie side by side where taps read."""
    return read.strides[4] == 1 and all(writer.is_promised(one.sizes[4]) for one in (read, other))


def _promised(kernel: KernelSource, in_vectors: bool, chosen: tuple[Configuration, ...]) -> KernelSource:
    return replace(kernel, promised=chosen) if in_vectors else kernel


def _operands(node: Node) -> tuple[Value, Value]:
    first, second = node.operands
    assert first is not None and second is not None
    return first, second


def _literals(filters: Filters, channels: int) -> list[str]:
    numbers = (filters.stride, filters.dilation, channels, filters.multiplier)
    return [str(filters.kernel), str(filters.padding), *map(str, numbers)]
