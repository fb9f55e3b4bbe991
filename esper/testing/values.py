"""Values to run a graph on: a tensor for each input, parameter and buffer, from one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from esper.ir.graph import BlueprintIR, Node
from esper.ops.reference.evaluate import TORCH_DTYPES


@dataclass(frozen=True)
class GraphValues:
    """Tensors by name, in the declared dtypes; `seed` for the random operators."""

    sizes: Mapping[str, int]
    inputs: Mapping[str, torch.Tensor]
    weights: Mapping[str, torch.Tensor]
    seed: int

    def inputs_of(self, ir: BlueprintIR) -> dict[str, torch.Tensor]:
        """The inputs that `ir` has, which a pass may have made of the graph that these values are for."""
        return {node.name: self.inputs[node.name] for node in ir.inputs if node.name in self.inputs}

    def weights_of(self, ir: BlueprintIR) -> dict[str, torch.Tensor]:
        """The parameters and buffers that `ir` has."""
        leaves = (*ir.params, *ir.buffers)
        return {node.name: self.weights[node.name] for node in leaves if node.name in self.weights}


def random_values(ir: BlueprintIR, sizes: Mapping[str, int] | None = None, seed: int = 0) -> GraphValues:
    """Standard normal inputs and params, buffers between 0.5 and 1.5, integers from 0 to 3, random booleans.

    sizes: values of size symbols; those not given are 2, 3, 4, 2, … in order of use.
    """
    complete = {name: 2 + index % 3 for index, name in enumerate(ir.symbols)} | dict(sizes or {})
    generator = torch.Generator().manual_seed(seed)
    inputs = {node.name: _tensor(node, complete, generator) for node in ir.inputs}
    weights = {node.name: _tensor(node, complete, generator) for node in (*ir.params, *ir.buffers)}
    return GraphValues(complete, inputs, weights, seed)


def _tensor(node: Node, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
    shape = node.type.concrete_shape(sizes)
    dtype = TORCH_DTYPES[node.type.dtype]
    if node.type.dtype.is_floating:
        if node.op == "buffer":
            return (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(0, 2 if dtype is torch.bool else 4, shape, generator=generator).to(dtype)
