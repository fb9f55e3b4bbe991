"""Which convolutions and poolings have kernels of their own, and the sides of their windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR, Node
from esper.ops.rules import attribute_integer
from esper.urza.plan.access import access

AXES = 3
"""Maps of fewer axes have others of size 1 before them."""

LONGEST_SIDE = 11
"""The longest side of a filter; its last axis is unrolled."""

MOST_FILTERS = 4
"""The most filters for each channel; each would read its input again."""

MOST_READS = 256
"""The most elements that a maximum's gradient compares for each element of its own."""

CHANNELS_LAST = "_channels_last"


@dataclass(frozen=True, slots=True)
class Filters:
    """What depthwise filters do: `kernel`, `padding` of three axes, `stride`, `dilation` of all.

    channels: of x. multiplier: filters for each of them.
    """

    kernel: tuple[int, ...]
    padding: tuple[int, ...]
    stride: int
    dilation: int
    channels: int
    multiplier: int


def refuses_convolution(ir: BlueprintIR, node: Node) -> str | None:
    """Why a convolution, or one of its gradients, has no kernel for this node, or None."""
    weight = _weight_shape(ir, node)
    filters, groups = weight[0], node.attrs["groups"]
    if not isinstance(filters, int) or not isinstance(groups, int):
        return f"its channels, {filters} in groups of {groups}, are not fixed"
    if weight[1] != 1 or (groups == 1 and filters > 1):
        return "a library call (cuDNN) until a measurement says otherwise"
    if filters // groups > MOST_FILTERS:
        return f"{filters // groups} filters for each channel, above {MOST_FILTERS}"
    for side in weight[2:]:
        if not isinstance(side, int) or side > LONGEST_SIDE:
            return f"a filter's side is {side}, above {LONGEST_SIDE}"
    return _unread(ir, node)


def filters_of(ir: BlueprintIR, node: Node) -> Filters:
    """The filters of a node that `refuses_convolution` does not refuse."""
    filters, _, *sides = (int(str(size)) for size in _weight_shape(ir, node))
    groups = attribute_integer(node.attrs, "groups")
    return Filters(
        _three(sides, 1),
        _three([attribute_integer(node.attrs, "padding")] * len(sides), 0),
        attribute_integer(node.attrs, "stride"),
        attribute_integer(node.attrs, "dilation"),
        groups,
        filters // groups,
    )


@dataclass(frozen=True, slots=True)
class Windows:
    """What pooling does: `kernel` and `padding` of each of three axes, `stride` of all.

    adaptive: `kernel` is how many windows cover each axis.
    """

    kernel: tuple[int, ...]
    padding: tuple[int, ...]
    stride: int
    adaptive: bool


def refuses_pooling(ir: BlueprintIR, node: Node) -> str | None:
    """Why a pooling, or its gradient, has no kernel for this node, or None."""
    channels = node.type.shape[1]
    if not isinstance(channels, int):
        return f"its channels, {channels}, are not fixed"
    windows = windows_of(node)
    if node.op.startswith("max_pool") and math.prod(windows.kernel) > MOST_READS:
        return f"{math.prod(windows.kernel)} elements in a window, above {MOST_READS}"
    if node.op == "adaptive_max_pool_backward":
        return "the gradient would compare all elements of a window, whose number is not fixed"
    if node.op == "max_pool_backward":
        reads = math.prod(-(-side // windows.stride) * side for side in windows.kernel)
        if reads > MOST_READS:
            return f"the gradient would compare {reads} elements for each, above {MOST_READS}"
    return _unread(ir, node)


def windows_of(node: Node) -> Windows:
    """The windows of a pooling or of its gradient."""
    axes = node.type.rank - 2
    if "size" in node.attrs:
        return Windows(_three([attribute_integer(node.attrs, "size")] * axes, 1), (0,) * AXES, 1, True)
    kernel = attribute_integer(node.attrs, "kernel")
    padding = attribute_integer(node.attrs, "padding")
    stride = attribute_integer(node.attrs, "stride") or kernel
    return Windows(_three([kernel] * axes, 1), _three([padding] * axes, 0), stride, False)


def _weight_shape(ir: BlueprintIR, node: Node) -> tuple[object, ...]:
    if "weight_grad" in node.op:
        return node.type.shape
    weight = node.operands[1]
    assert weight is not None
    return ir.type(weight).shape


def _unread(ir: BlueprintIR, node: Node) -> str | None:
    """Why a kernel cannot read an operand, or None."""
    for operand in node.operands:
        assert operand is not None
        read = access(ir, operand)
        assert read is not None
        if ir.node(read.base.node).op == "constant":
            return "an operand is a constant, which lies in no buffer"
    return None


def _layouts(*names: str) -> tuple[str, ...]:
    return tuple(name + layout for name in names for layout in ("", CHANNELS_LAST))


def _three(sides: list[int], absent: int) -> tuple[int, ...]:
    return (*[absent] * (AXES - len(sides)), *sides)


CONVOLUTIONS = _layouts("convolution", "convolution_input_grad")
WEIGHT_GRADIENTS = _layouts("convolution_weight_grad")
"""Operators whose kernels write partial sums, which a `finish` group adds up."""

POOLINGS = tuple(
    name + direction
    for name in ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")
    for direction in ("", "_backward")
)

WINDOW_USES: Mapping[str, Callable[[BlueprintIR, Node], str | None]] = {
    **dict.fromkeys(CONVOLUTIONS + WEIGHT_GRADIENTS, refuses_convolution),
    **dict.fromkeys(POOLINGS, refuses_pooling),
}
"""The operators whose uses are judged here."""

MOST_PARTS = 32
PARTIAL_SUMS = 1 << 15


def weight_grad_parts(weights: int) -> int:
    """How many programs share a weight's gradient: many where weights are few, so that the GPU is full."""
    return max(1, min(MOST_PARTS, PARTIAL_SUMS // weights))
