"""All that a module holds: its state, the buffers that its state leaves out, and waiting gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def module_values(module: nn.Module) -> dict[str, Any]:
    """What `load_module_values` takes: `state` (the module's state dict), `buffers` that are not persistent,
    and `gradients` by the names of their parameters. Tensors are not copied."""
    state = module.state_dict()
    return {
        "state": state,
        "buffers": {name: buffer for name, buffer in module.named_buffers() if name not in state},
        "gradients": {name: p.grad for name, p in module.named_parameters() if p.grad is not None},
    }


@torch.no_grad()
def load_module_values(module: nn.Module, values: Mapping[str, Any]) -> None:
    """Writes the values into the module's own tensors; a parameter without a saved gradient gets none."""
    module.load_state_dict(values["state"])
    for name, buffer in module.named_buffers():
        if name in values["buffers"]:
            buffer.copy_(values["buffers"][name])
    for name, parameter in module.named_parameters():
        gradient = values["gradients"].get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter.device)


def value_types(module: nn.Module) -> dict[str, str]:
    """The dtypes of the module's parameters and buffers by name."""
    return {
        name: str(value.dtype).removeprefix("torch.")
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }
