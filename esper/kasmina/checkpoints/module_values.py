"""All that a module holds: its state, the buffers that its state leaves out, and waiting gradients."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from esper.kasmina.host.isolation import shares_memory


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
    """Writes the values into the module's own tensors; a parameter without a saved gradient gets none.

    A buffer that is not persistent may have another shape than the saved one, or be missing, as a cache that
    is made or grows when it is needed: the saved one then takes its place.
    """
    module.load_state_dict(values["state"])
    device = next((tensor.device for tensor in chain(module.parameters(), module.buffers())), None)
    for name, saved in values["buffers"].items():
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        held = owner._buffers.get(leaf)
        if held is not None and held.shape == saved.shape and not shares_memory(held):
            held.copy_(saved)
        elif leaf in owner._buffers:
            owner._buffers[leaf] = saved.to(device if held is None else held.device, copy=True)
        else:
            owner.register_buffer(leaf, saved.to(device, copy=True), persistent=False)
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
