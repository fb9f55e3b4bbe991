"""Masks of dropout that a seed on the CPU draws ahead: those of several calls at once.

An operator on a small tensor costs its host as much as it would on one that is a hundred times as large, and
a mask is twenty operators. Which masks a call needs follows from the graph and from the shapes of its inputs,
and what is in them from the random seed, which counts calls; so the masks of the calls that come are drawn
in one pass over the elements of all. Every number is the one that the operator itself would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch

from esper.ir.dims import Size, evaluate_size
from esper.ir.graph import BlueprintIR, Node
from esper.ops.reference.evaluate import bind_sizes
from esper.ops.reference.random import Drawn, Mask, Masks
from esper.passes import run_passes
from esper.urza.eager import recomputation

MOST_ELEMENTS = 1 << 14
"""Of what is drawn at once, in all: from there on the elements themselves take time."""

MOST_CALLS = 16
MOST_SHAPES = 16
"""For so many is it remembered which masks a graph needs."""

Shapes = tuple[torch.Size, ...]


def _of_result(ir: BlueprintIR, node: Node) -> tuple[float, tuple[Size, ...]]:
    return float(str(node.attrs["p"])), node.type.shape


def _of_weights(ir: BlueprintIR, node: Node) -> tuple[float, tuple[Size, ...]]:
    """Examples and heads are one axis, as `dropped_attention` has them."""
    q, k = (ir.type(operand).shape for operand in node.operands[:2] if operand is not None)
    return float(str(node.attrs["dropout"])), (q[0] * q[1], q[2], k[2])


_DRAWS: Mapping[str, Callable[[BlueprintIR, Node], tuple[float, tuple[Size, ...]]]] = {
    "dropout": _of_result,
    "scaled_dot_product_attention": _of_weights,
}
"""Of an operator that draws a mask: the probability and the mask's shape."""


class Streams:
    """The masks that calls of a graph need, by the shapes of its inputs."""

    def __init__(self, ir: BlueprintIR) -> None:
        self._ir = run_passes(ir, "expand")
        self._wanted = [
            (int(str(node.attrs["offset"])), p, shape)
            for node in self._ir.nodes
            if node.op in _DRAWS
            for p, shape in [_DRAWS[node.op](self._ir, node)]
            if p
        ]
        self.masks = lru_cache(maxsize=MOST_SHAPES)(self._masks)

    def _masks(self, shapes: Shapes) -> Masks | None:
        """None where a call draws nothing, or so much that nothing is gained."""
        given = {node.name: tuple(shape) for node, shape in zip(self._ir.inputs, shapes, strict=True)}
        sizes = bind_sizes(self._ir, given)
        masks = [
            Mask(offset, p, tuple(evaluate_size(size, sizes) for size in shape))
            for offset, p, shape in self._wanted
        ]
        elements = sum(math.prod(mask.shape) for mask in masks)
        if not 0 < elements <= MOST_ELEMENTS:
            return None
        return Masks(masks, min(MOST_CALLS, MOST_ELEMENTS // elements))


class Ahead:
    """What one seed has drawn ahead, for calls with the shapes of its last one."""

    def __init__(self) -> None:
        self._shapes: Shapes | None = None
        self._drawn: Mapping[int, Drawn] = {}

    def __call__(self, streams: Streams, seed: int, inputs: Sequence[torch.Tensor]) -> int | Drawn:
        """`seed` with the masks of its call, if shapes come again, or else alone."""
        if not _is_plain() or not all(tensor.is_cpu for tensor in inputs):
            return seed
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes != self._shapes:
            self._shapes, self._drawn = shapes, {}
            return seed
        found = self._drawn.get(seed)
        if found is None:
            masks = streams.masks(shapes)
            if masks is None:
                return seed
            self._drawn = masks.drawn(seed)
            found = self._drawn[seed]
        return found


def _is_plain() -> bool:
    """Whether tensors that are made in this call may be used in another: no mode or transform sees them.

    Nor may the call be one that is computed again: it has to save the tensors that it saved before.
    """
    return (
        not recomputation.may_be_checkpointed()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.is_inference_mode_enabled()
    )
