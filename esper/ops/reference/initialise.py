"""First values of parameters and buffers, by the initialiser that their node names."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Node
from esper.ir.operator import Attrs
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.ops.rules import attribute_number


def initial_values(
    ir: BlueprintIR, generator: torch.Generator | None = None, sizes: Mapping[str, int] | None = None
) -> dict[str, torch.Tensor]:
    """A CPU tensor for each `param` and `buffer`, by name, in the node's dtype.

    generator: where random values come from; torch's global one if None. sizes: values of size symbols that
    appear in their shapes. Raises `UnboundSize`.
    """
    return {node.name: _initial(node, generator, sizes or {}) for node in (*ir.params, *ir.buffers)}


def _initial(node: Node, generator: torch.Generator | None, sizes: Mapping[str, int]) -> torch.Tensor:
    shape = node.type.concrete_shape(sizes)
    values = torch.empty(shape)
    match node.attrs["init"]:
        case "zeros":
            values.zero_()
        case "ones":
            values.fill_(1.0)
        case "normal":
            values.normal_(0.0, attribute_number(node.attrs, "gain"), generator=generator)
        case "kaiming_normal":
            values.normal_(0.0, _scale(node.attrs, sizes) * math.sqrt(2.0), generator=generator)
        case "kaiming_uniform":
            bound = _scale(node.attrs, sizes) * math.sqrt(6.0)
            values.uniform_(-bound, bound, generator=generator)
        case _:
            bound = _scale(node.attrs, sizes)
            values.uniform_(-bound, bound, generator=generator)
    return values.to(TORCH_DTYPES[node.type.dtype])


def _scale(attrs: Attrs, sizes: Mapping[str, int]) -> float:
    """`gain / sqrt(fan_in)`."""
    fan_in = attrs["fan_in"]
    assert not isinstance(fan_in, bool | float | str | tuple)
    return attribute_number(attrs, "gain") / math.sqrt(evaluate_size(fan_in, sizes))  # type: ignore[arg-type]
