"""How a network scores on a split: per-example losses, and means over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esper.simic.tasks import Split, Task

CHUNK = 1000


@dataclass(frozen=True)
class Score:
    """Mean loss in the task's unit, and accuracy in 0..1."""

    loss: float
    accuracy: float


def score(model: nn.Module, task: Task, split: Split) -> Score:
    """The model's score on `split`, in evaluation mode."""
    losses, hits = _outcomes(model, task, split)
    return Score(losses.mean().item(), hits.mean().item())


def example_losses(model: nn.Module, task: Task, split: Split) -> Tensor:
    """One loss for each example of `split`, in evaluation mode: float32 [N]."""
    return _outcomes(model, task, split)[0]


def _outcomes(model: nn.Module, task: Task, split: Split) -> tuple[Tensor, Tensor]:
    losses, hits = [], []
    with _evaluating(model), torch.no_grad():
        for x, y in zip(torch.split(split.x, CHUNK), torch.split(split.y, CHUNK), strict=True):
            logits = model(x)
            losses.append(task.losses(logits, y))
            hits.append(task.hits(logits, y))
    return torch.cat(losses), torch.cat(hits)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
