"""Random tensors that kernels are judged on: plain ones, ones with outliers, ones with NaN and infinities,
and ones of few values.

Outliers show what cancels, special values where a comparison or an order of operations is not torch's, few
values what happens at zeros of either sign and among equals. Of integers that are no places in a tensor, half
are past 2^24, where float32 no longer has each of them; few values are negative too, and past 2^32 in i64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch

from esper.ir.graph import BlueprintIR, Node
from esper.ir.operator import OPERATORS, Pointwise, Reduction, View
from esper.ops.reference.evaluate import TORCH_DTYPES

Draw = Literal["normal", "outliers", "special", "ties"]
DRAWS: tuple[Draw, ...] = ("normal", "outliers", "special", "ties")

OUTLIER = 1e4
"""What an outlier is multiplied by."""

RARITY = 16
"""One element of so many is an outlier."""

SPECIALS = (math.nan, math.inf, -math.inf)
LARGE = 2**24

TIES = (-2.0, -1.0, -0.0, 0.0, 0.5, 1.0)
"""The values of inputs among which many are equal."""

TIED_INTEGERS = (-3, -1, 0, 2)
TIED_LONG_INTEGERS = (*TIED_INTEGERS, 2**33 + 5, -(2**40) - 3)


def tensor_for(
    node: Node, sizes: Mapping[str, int], generator: torch.Generator, draw: Draw, is_place: bool
) -> torch.Tensor:
    """Standard normal; weights of several axes scaled by their inputs; buffers between 0.5 and 1.5.

    Outliers and special values stand in inputs of RARITY elements or more, gradients among them: a weight of
    such a kind would make all results alike. With "ties" all inputs have few values, integers that are places
    excepted. is_place: whether integers are places in a tensor: below 4.
    """
    type = node.type
    shape, dtype = type.concrete_shape(sizes), TORCH_DTYPES[type.dtype]
    if not type.dtype.is_floating:
        small = torch.randint(0, 2 if dtype is torch.bool else 4, shape, generator=generator)
        plain = dtype is torch.bool or is_place or node.op == "seed"
        if draw == "ties" and not plain:
            values = TIED_LONG_INTEGERS if dtype is torch.int64 else TIED_INTEGERS
            return _among(values, shape, generator).to(dtype)
        return (small if plain else torch.where(small < 2, small, LARGE + 2 * small + 1)).to(dtype)
    if node.op == "buffer":
        return (torch.rand(shape, generator=generator) + 0.5).to(dtype)
    if draw == "ties" and node.op == "input":
        return _among(TIES, shape, generator).to(dtype)
    scale = math.prod(shape[1:]) ** -0.5 if node.op == "param" and len(shape) > 1 else 1.0
    found = torch.randn(shape, generator=generator) * scale
    if draw != "normal" and node.op == "input" and found.numel() >= RARITY:
        places = torch.randperm(found.numel(), generator=generator)
        if draw == "outliers":
            found.view(-1)[places[: found.numel() // RARITY]] *= OUTLIER
        elif draw == "special":
            found.view(-1)[places[: len(SPECIALS)]] = torch.tensor(SPECIALS)
    return found.to(dtype)


def _among(values: Sequence[float], shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A tensor of `values`, each as likely as the others."""
    return torch.tensor(values)[torch.randint(0, len(values), shape, generator=generator)]


def places_among(graphs: Iterable[BlueprintIR]) -> frozenset[str]:
    """The integer inputs that some of `graphs` may read as places: by more than pointwise operators, views,
    reductions and joins."""
    found: set[str] = set()
    for ir in graphs:
        read_as_places: set[str] = set()
        for node in reversed(ir.nodes):
            plain = isinstance(OPERATORS[node.op].lowering, Pointwise | View | Reduction)
            if (plain or node.op == "concat") and node.name not in read_as_places:
                continue
            for operand in node.operands:
                if operand is not None and not ir.type(operand).dtype.is_floating:
                    read_as_places.add(operand.node)
        found |= {node.name for node in ir.inputs} & read_as_places
    return frozenset(found)
