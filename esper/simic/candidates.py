"""How well a host learns its task with a candidate blueprint in one slot, built in from the first step.

A search asks this of one candidate after another, so all that chance decides comes from a seed: candidates
with the same seed have the same host weights and the same order of batches, and differ in the seed's part
alone. Weights learn from `train`, accuracy is that on `held_out`; test data is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from esper.ir.graph import BlueprintIR
from esper.kasmina.host.probe import Probe, try_on
from esper.kasmina.lifecycle.germination import build_seed, fitted
from esper.lang import ParameterValue, SizeValue
from esper.simic.hosts import build_host
from esper.simic.study.sizes import probes_of, put_behind
from esper.simic.study.training import Objective, Recipe, fit, meter_for
from esper.simic.study.training import batches as drawn_batches
from esper.simic.tasks import Task, batch_size_of, task_named

STREAMS = 3
"""Of random numbers, from one seed: the host's weights, the candidate's, and the order of batches."""


@dataclass(frozen=True)
class Trained:
    """accuracy: the share of held-out examples that are classified rightly, 0..1. loss: their mean cross
    entropy in nats, NaN where training diverged. flops: operations of training and of scoring, host and
    candidate, counted as the study counts them."""

    accuracy: float
    loss: float
    flops: int


@dataclass(frozen=True)
class SlotTask:
    """A slot of a host, on a task whose data is drawn or dealt by `data_seed`.

    host: the name of a host of ours, or `package.module:function`. lr: AdamW's peak. batch_size: the task's
    usual one if None. data: the folder of a task that reads files. Everything is made when first needed, and
    once; it can be pickled, for process pools, and is then made anew over there.
    Any use may raise `UnknownTask`, `UnknownHost`, `HostDoesNotFit`, `HostNotImported`, `HostFails`,
    `MissingPackage`, `DataMissing`, `DataUnreadable`, and what `esper.kasmina.attach` raises of slots.
    """

    task: str
    host: str
    slot: str
    data_seed: int = 0
    lr: float = 0.01
    batch_size: int | None = None
    data: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SlotTask, tuple(getattr(self, own.name) for own in fields(self))

    @cached_property
    def splits(self) -> Task:
        """The data."""
        return task_named(self.task, self.data_seed, self.data)

    @cached_property
    def probe(self) -> Probe:
        """What the slot's tensor is like, with as many examples as a step has."""
        with torch.random.fork_rng(devices=()):
            host = build_host(self.host, self.splits)
            return probes_of(host, self.splits, [self.slot], self._batch)[self.slot]

    @property
    def _batch(self) -> int:
        wanted = self.batch_size or batch_size_of(self.task)
        return min(wanted, len(self.splits.train))

    def fitted(
        self,
        blueprint: str | Path,
        values: Mapping[str, ParameterValue] | None = None,
        name: str | None = None,
    ) -> tuple[dict[str, ParameterValue], dict[str, SizeValue]]:
        """The parameters and sizes that the slot's tensor gives `blueprint`, beside `values`.

        name: which of the file's several blueprints. Raises `DoesNotFit`, `SeedDoesNotFit`, and what
        `esper.lang.load` raises.
        """
        return fitted(blueprint, self.probe, self.slot, values or {}, name)

    def accuracy(
        self,
        blueprint: BlueprintIR | str | Path | None,
        steps: int,
        seed: int,
        values: Mapping[str, ParameterValue] | None = None,
    ) -> Trained:
        """Trains host and candidate together for `steps` steps: equal on one machine for equal arguments.

        blueprint: a graph that takes and returns the slot's tensor, or a blueprint's name or file with
        `values` for its parameters; None for the host alone. The learning rate warms up and then decays to
        zero within these steps. Raises `SeedDoesNotFit`, and for a name or file what `fitted` raises.
        """
        weights, _, order = _streams(seed)
        with torch.random.fork_rng(devices=()), torch.enable_grad():
            model = self.network(blueprint, seed, values)
            torch.manual_seed(weights)  # of what draws while it trains, such as a host's dropout
            objective = Objective(self.splits, meter_for(self.splits))
            fit(model, objective, Recipe(steps, self.lr, self._batch), order)
            found = objective.score("evaluation", model, self.splits.held_out)
        return Trained(found.accuracy, found.loss, objective.meter.total)

    def network(
        self,
        blueprint: BlueprintIR | str | Path | None,
        seed: int,
        values: Mapping[str, ParameterValue] | None = None,
    ) -> nn.Module:
        """Host and candidate as they are before their first step, in training mode. See `accuracy`."""
        weights, own, _ = _streams(seed)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(weights)
            model = build_host(self.host, self.splits)
            if blueprint is not None:
                generator = torch.Generator().manual_seed(own)
                candidate, title, _ = build_seed(blueprint, self.probe, self.slot, generator, values or {})
                try_on(candidate, self.probe, self.slot, title)
                put_behind(model, self.slot, candidate)
        return model

    def gradients(
        self, blueprint: BlueprintIR | str | Path | None, seed: int, batches: int
    ) -> list[list[Tensor]]:
        """Of the mean loss on each of so many batches, at the weights before the first step, in float64.

        One tensor for each weight with two axes or more, host's and candidate's. See `accuracy`.
        """
        model = self.network(blueprint, seed).double()
        weights = [weight for weight in model.parameters() if weight.dim() > 1]
        order, every = _streams(seed)[-1], []
        with torch.random.fork_rng(devices=()), torch.enable_grad():
            torch.manual_seed(order)
            for x, y in drawn_batches(self.splits.train, Recipe(batches, self.lr, self._batch), order):
                seen = x.double() if x.is_floating_point() else x
                loss = self.splits.losses(model(seen), y).mean()
                found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
                every.append(list(found))
        return every


def _streams(seed: int) -> tuple[int, ...]:
    """`STREAMS` seeds out of one."""
    return tuple(map(int, np.random.SeedSequence(seed).generate_state(STREAMS)))
