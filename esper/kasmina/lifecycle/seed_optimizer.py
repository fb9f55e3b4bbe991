"""A seed's own optimizer: the kind and settings of the host's, on a schedule by the seed's age.

Elementwise optimizers only: there each parameter's step depends on its own gradients alone, so a seed
can step beside the host, and later join it with its state, without changing the host's own steps.

The learning rate: a live seed has the rate that the host's group had before its schedule (the peak of a
OneCycleLR, the `initial_lr` of any other scheduler that notes it, else the rate at the seed's first step),
reached by a linear warm-up of its own and then kept: a seed that is born late is not born into a decayed
rate. From the step after it fossilizes, its parameters have the group's rate and settings, and decay with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from esper.kasmina.errors import UnsupportedOptimizer

ELEMENTWISE: tuple[type[Optimizer], ...] = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.Adagrad,
    optim.RMSprop,
    optim.Adadelta,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.ASGD,
    optim.Rprop,
)

WARMUP_STEPS = 20


def check_elementwise(optimizer: Optimizer) -> None:
    """Raises `UnsupportedOptimizer` for an optimizer whose steps mix parameters, or that is not known."""
    if type(optimizer) not in ELEMENTWISE:
        supported = ", ".join(kind.__name__ for kind in ELEMENTWISE)
        raise UnsupportedOptimizer(optimizer=type(optimizer).__name__, supported=supported)


def nearest_group(optimizer: Optimizer, host: nn.Module) -> int:
    """The index of the parameter group that trains `host`'s parameters, or 0 if none does."""
    owned = {id(p) for p in host.parameters()}
    for index, group in enumerate(optimizer.param_groups):
        if any(id(p) in owned for p in group["params"]):
            return index
    return 0


class SeedOptimizer:
    """Steps one seed. Its learning rate is the host group's before decay, after a linear warm-up."""

    def __init__(self, host_optimizer: Optimizer, group: int, parameters: Sequence[nn.Parameter]) -> None:
        source = host_optimizer.param_groups[group]
        options = {key: value for key, value in source.items() if key not in ("params", "param_names")}
        self.parameters = list(parameters)
        self.group = group
        self.rate = float(source.get("max_lr", source.get("initial_lr", source["lr"])))
        self.age = 0
        kind: Callable[[list[dict[str, Any]]], Optimizer] = type(host_optimizer)
        self.optimizer = kind([{**options, "params": self.parameters}])

    def step(self, gradients: Sequence[Tensor | None]) -> bool:
        """One step along `gradients`, one for each parameter; False, and no step, unless all are finite."""
        present = [gradient for gradient in gradients if gradient is not None]
        if not present or not all_finite(present):
            return False
        self.age += 1
        self.optimizer.param_groups[0]["lr"] = self.rate * min(1.0, self.age / WARMUP_STEPS)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        return True

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, the seed's age in steps, its full learning rate, and the host's group."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "age": self.age,
            "rate": self.rate,
            "group": self.group,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave for the same parameters."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.age, self.rate, self.group = state["age"], state["rate"], state["group"]

    def join(self, host_optimizer: Optimizer, model: nn.Module) -> None:
        """Moves the parameters, with their state, into the host's group, whose schedule they follow then.

        Where the host's optimizer was made of named parameters, they have the names that `model` gives them.
        """
        group = host_optimizer.param_groups[self.group]
        group["params"].extend(self.parameters)
        if "param_names" in group:
            names = {id(parameter): name for name, parameter in model.named_parameters()}
            group["param_names"].extend(names[id(parameter)] for parameter in self.parameters)
        for parameter in self.parameters:
            if parameter in self.optimizer.state:
                host_optimizer.state[parameter] = self.optimizer.state[parameter]


def leave(host_optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Takes out of the host's groups what `SeedOptimizer.join` moved into them, with its state."""
    gone = {id(parameter): parameter for parameter in parameters}
    for group in host_optimizer.param_groups:
        if "param_names" in group:
            named = zip(group["params"], group["param_names"], strict=True)
            group["param_names"] = [name for p, name in named if id(p) not in gone]
        group["params"] = [p for p in group["params"] if id(p) not in gone]
    for parameter in gone.values():
        host_optimizer.state.pop(parameter, None)


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no tensor holds an infinity or NaN; one synchronisation with the device."""
    return math.isfinite(torch.stack(torch._foreach_norm(list(tensors))).sum().item())


def mean_square(tensors: Sequence[Tensor]) -> Tensor:
    """The mean square over all elements: float32 scalar."""
    norms = torch.stack([norm.float() for norm in torch._foreach_norm(list(tensors))])
    return norms.square().sum() / sum(tensor.numel() for tensor in tensors)
