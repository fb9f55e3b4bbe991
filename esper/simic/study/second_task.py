"""A second task after a first: the classes in two halves, one classifier for each, on one trunk.

The setting is split-class, task-incremental learning: which task an example belongs to is known when it is
classified (Zenke et al. 2017, arXiv:1703.04200; van de Ven and Tolias 2019, arXiv:1904.07734). Whatever was
added for the second task to a trunk that stayed as it was is left out for the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from esper.kasmina.attach import disabled
from esper.kasmina.lifecycle.bank import ATTRIBUTE, slots
from esper.simic.flops import FlopMeter
from esper.simic.study.adapters import without_adapters
from esper.simic.study.sizes import freeze, parameters
from esper.simic.tasks import Split, Task

HEADS = ("head", "first_head")
"""The classifiers of the second and of the first task."""
KEPT = 0.1
"""The share of the first task's training examples that replay has kept."""


def halves(task: Task) -> tuple[Task, Task]:
    """The first and the second half of the classes as tasks of their own, numbered from 0 each."""
    middle = task.classes // 2
    return _classes(task, 0, middle), _classes(task, middle, task.classes)


def _classes(task: Task, low: int, high: int) -> Task:
    def part(split: Split) -> Split:
        chosen = (split.y >= low) & (split.y < high)
        return Split(split.x[chosen], split.y[chosen] - low)

    return replace(
        task, classes=high - low, train=part(task.train), held_out=part(task.held_out), test=part(task.test)
    )


def add_head(model: nn.Module, task: Task) -> None:
    """Gives `model` a classifier for `task`, and keeps the one it had beside it."""
    head = model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    model.add_module("first_head", head)
    model.add_module("head", nn.Linear(head.in_features, task.classes))


def head_parameters(model: nn.Module) -> int:
    """Parameters of the classifier that `model` has."""
    return parameters(model.get_submodule("head"))


def rest(model: nn.Module) -> None:
    """Has nothing in `model` change: neither parameters nor the statistics of its normalisation.

    Only the normalisation is put into evaluation mode: what grows or is added in `model` goes on in training.
    """
    freeze(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@contextmanager
def first_head(model: nn.Module) -> Iterator[None]:
    """Inside, the classifier of the first task is in use."""
    first, second = model.get_submodule("first_head"), model.get_submodule("head")
    model.add_module("head", first)
    try:
        yield
    finally:
        model.add_module("head", second)


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is asked about the first task: its classifier, and nothing that grew or adapts."""
    with ExitStack() as stack:
        stack.enter_context(first_head(model))
        stack.enter_context(without_adapters(model))
        for name in slots(model) if ATTRIBUTE in model.__dict__ else ():
            stack.enter_context(disabled(model, name))
        yield


class Replay:
    """The loss on a batch of the first task's kept examples, drawn in an order of its own."""

    def __init__(self, first: Task, meter: FlopMeter, batch_size: int, seed: int) -> None:
        self.task, self.meter, self.batch_size = first, meter, batch_size
        self.order = torch.Generator().manual_seed(seed + 1)
        kept = torch.randperm(len(first.train), generator=self.order)[: round(KEPT * len(first.train))]
        self.x, self.y = first.train.x[kept], first.train.y[kept]

    def __call__(self, model: nn.Module) -> Tensor:
        rows = torch.randint(len(self.y), (self.batch_size,), generator=self.order)
        with first_head(model):
            self.meter.count("replay", model, len(rows), backward=True)
            return self.task.losses(model(self.x[rows]), self.y[rows]).mean()
