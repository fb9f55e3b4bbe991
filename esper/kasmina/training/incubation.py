"""Counterfactual incubation: a second pass over the host's batch with the training seeds in place.

Host parameters are frozen for it, not detached: two seeds in a row both get their gradient. Host
statistics, random numbers and gradients are those of a run without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from esper.kasmina.host.isolation import undisturbed
from esper.kasmina.lifecycle.bank import MorphogeneticModel
from esper.kasmina.lifecycle.control import Trial
from esper.kasmina.lifecycle.slot import SeedSlot


def incubate(
    bank: MorphogeneticModel, seeds: Sequence[SeedSlot], trial: Trial, batch: Any, loss: float
) -> None:
    """Stashes the gradient that each seed would get in place, and how far below `loss` the loss would be."""
    growing = {slot.name for slot in seeds}
    others = [slot.hook for slot in bank.values() if slot.name not in growing]
    with ExitStack() as stack:
        stack.enter_context(undisturbed(bank.model, *others))
        stack.enter_context(_frozen(bank.model, *others))
        stack.enter_context(torch.enable_grad())
        for slot in seeds:
            stack.enter_context(slot.hook.tried_in_place())
        tried = trial.loss(bank.model, batch)
        wanted = [p for slot in seeds for p in slot.hook.trainable()]
        gradients = list(torch.autograd.grad(tried, wanted, allow_unused=True)) if wanted else []
    promise = loss - tried.detach()
    for slot in seeds:
        count = len(slot.hook.trainable())
        slot.hook.stash(gradients[:count])
        del gradients[:count]
        slot.hook.descents.append(promise)
        slot.incubation_passes += 1


@contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    learning = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
