"""Takes host, seed and optimizers back, bit for bit, to the moment before a seed was blended in.

Data, schedulers and random generators are not rewound: the run goes on, from older weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from esper.kasmina.host.isolation import shares_memory


class Snapshot:
    """The parameters and buffers of some modules, and the state of some optimizers, at one moment.

    Values go back into the live tensors, so whoever holds a parameter sees it restored. Hyperparameters
    of the optimizers (learning rates) stay as their schedulers left them.
    """

    def __init__(self, modules: Sequence[nn.Module], optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = tuple(optimizers)
        owned = [p for module in modules for p in module.parameters()]
        self.stepped = [_parameters(optimizer) for optimizer in optimizers]
        stepped = [p for parameters in self.stepped for p in parameters]
        self.parameters = [(p, p.detach().clone()) for p in {id(p): p for p in owned + stepped}.values()]
        self.buffers = [
            (part, name, buffer.clone())
            for module in modules
            for part in module.modules()
            for name, buffer in part.named_buffers(recurse=False)
        ]
        self.states: list[list[dict[str, Any] | None]] = [
            [copy.deepcopy(optimizer.state.get(p)) for p in parameters]
            for optimizer, parameters in zip(optimizers, self.stepped, strict=True)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Writes everything back, and drops gradients, which belong to the abandoned weights."""
        for parameter, value in self.parameters:
            parameter.copy_(value)
            parameter.grad = None
        for part, name, value in self.buffers:
            held = part._buffers.get(name)
            fits = held is not None and held.shape == value.shape and held.dtype == value.dtype
            if held is not None and fits and not shares_memory(held):
                held.copy_(value)
            else:  # the module has put another one in its place, or it cannot be written to
                part._buffers[name] = value.clone()
        for optimizer, parameters, states in zip(self.optimizers, self.stepped, self.states, strict=True):
            for parameter in _parameters(optimizer):  # those of a group that came later had none
                optimizer.state.pop(parameter, None)
            for parameter, state in zip(parameters, states, strict=True):
                if state is not None:
                    optimizer.state[parameter] = copy.deepcopy(state)

    def state_dict(self) -> dict[str, Any]:
        """The values, in the order of the tensors they belong to."""
        return {
            "parameters": [value for _, value in self.parameters],
            "buffers": [value for _, _, value in self.buffers],
            "states": self.states,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave for the same modules and optimizers."""
        for (_, value), saved in zip(self.parameters, state["parameters"], strict=True):
            value.copy_(saved)
        self.buffers = [  # a buffer may have had another shape then
            (part, name, saved.to(value.device, copy=True))
            for (part, name, value), saved in zip(self.buffers, state["buffers"], strict=True)
        ]
        self.states = copy.deepcopy(state["states"])


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
