"""Networks of a wanted size: hosts widened until their parameters match, adapters by their rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from esper.kasmina.attach import attach, detach
from esper.kasmina.exports.export import Grown
from esper.kasmina.host.probe import Probe
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.germination import build_seed
from esper.simic.hosts import Host
from esper.simic.study.records import SeedOutcome
from esper.simic.tasks import Task


def parameters(model: nn.Module) -> int:
    """How many parameters `model` has."""
    return sum(p.numel() for p in model.parameters())


def matched_width(host: Host, task: Task, depth: int, wanted: int) -> int:
    """The width at which a host of this depth comes nearest to so many parameters."""

    def count(width: int) -> int:
        with torch.device("meta"):
            return parameters(host.build(task, width, depth))

    return nearest(count, wanted)


def nearest(count: Callable[[int], int], wanted: int) -> int:
    """The number from 1 on for which `count`, which never falls, comes nearest to `wanted`.

    Of two, the smaller. Doubling, then halving the interval.
    """
    high = 1
    while count(high) < wanted:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if count(middle) < wanted:
            low = middle
        else:
            high = middle
    return min((n for n in (low, high) if n > 0), key=lambda n: abs(count(n) - wanted))


def with_seeds(model: nn.Module, task: Task, seeds: Sequence[SeedOutcome], seed: int) -> nn.Module:
    """`model` with such seeds built in from the start, their weights drawn by `seed`."""
    if not seeds:
        return model
    probes = probes_of(model, task, [grown.slot for grown in seeds])
    generator = torch.Generator().manual_seed(seed)
    for grown in seeds:
        module, _, _ = build_seed(grown.blueprint, probes[grown.slot], grown.slot, generator, {})
        put_behind(model, grown.slot, module)
    return model


def probes_of(model: nn.Module, task: Task, names: Sequence[str], examples: int = 2) -> dict[str, Probe]:
    """What the tensor is like behind each of the modules named, where so many examples pass."""
    bank = slots(attach(model, list(names), task.train.x[:examples]))
    probes = {name: bank[name].probe for name in names}
    detach(model)
    return probes


def put_behind(model: nn.Module, name: str, module: nn.Module) -> None:
    """Has `module` act on what the module called `name` returns."""
    parent, _, child = name.rpartition(".")
    owner = model.get_submodule(parent)
    setattr(owner, child, Grown(owner.get_submodule(child), module, None))


def freeze(model: nn.Module) -> None:
    """Stops every parameter of `model` from learning."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
