"""Where fossilized seeds live: registered in the host, under its root's `_esper`.

A host checkpoint made without them still loads strictly: seeds that it does not mention keep their
values. Inside a Sequential the container runs as a layer, and passes its input on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from esper.kasmina.lifecycle.ranks import AverageAfterBackward

ROOT_NAME = "_esper"


class FossilizedSeeds(nn.Module):
    """The fossilized seeds of one host, by slot."""

    def __init__(self) -> None:
        super().__init__()
        self.averaging = AverageAfterBackward(self)

    def forward(self, x: Any) -> Any:
        """Returns `x`: the seeds run at their slots."""
        return x

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, seed in self._modules.items():
            own = f"{prefix}{name}."
            if seed is not None and not any(key.startswith(own) for key in state_dict):
                state_dict.update(seed.state_dict(prefix=own))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def register(model: nn.Module, slot: str, seed: nn.Module) -> None:
    """Makes `seed` part of `model`: its parameters, state and modes follow the host's from here on."""
    seeds = model._modules.get(ROOT_NAME)
    if not isinstance(seeds, FossilizedSeeds):
        seeds = FossilizedSeeds()
        model.add_module(ROOT_NAME, seeds)
    seeds.add_module(_registered(seeds, slot), seed)
    seeds.averaging.watch(model)


def _registered(seeds: nn.Module, slot: str) -> str:
    """The name that a slot's seed has among the others: its dots, which no module's name may hold, as `__`.

    A name that could be another slot's then, or is an attribute's, begins with `__`, as no other does, and
    tells `_u` for an underscore from `_d` for a dot.
    """
    name = slot.replace(".", "__")
    if name.replace("__", ".") == slot and not hasattr(type(seeds), name) and name not in vars(seeds):
        return name
    return "__" + slot.replace("_", "_u").replace(".", "_d")


def unregister(model: nn.Module, slot: str) -> None:
    """Takes the seed of `slot` out of `model` again, and the container with the last one."""
    seeds = model._modules[ROOT_NAME]
    assert seeds is not None
    del seeds._modules[_registered(seeds, slot)]
    if not seeds._modules:
        remove(model)


def remove(model: nn.Module) -> None:
    """Takes all fossilized seeds out of `model`."""
    seeds = model._modules.pop(ROOT_NAME, None)
    if isinstance(seeds, FossilizedSeeds):
        seeds.averaging.stop()


def without_fossils(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a state dict that are the host's own."""
    return {key: value for key, value in state.items() if not key.startswith(f"{ROOT_NAME}.")}


def own_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The host's parameters without its fossilized seeds', each once."""
    seeds = model._modules.get(ROOT_NAME)
    grown = {id(p) for p in seeds.parameters()} if seeds is not None else set()
    return [p for p in model.parameters() if id(p) not in grown]
