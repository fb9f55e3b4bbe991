"""One training run of any arm: the same optimizer, schedule, clipping and order of batches for all.

AdamW, linear warm-up, half a cosine down to zero at the run's last step. Every pass is metered. An arm that
grows hands in how; the loop is otherwise the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.events import Event, SeedGerminated
from esper.leyline.stages import SeedStage, is_in_place_stage
from esper.simic.evaluation import Score, example_losses, score
from esper.simic.flops import FlopMeter
from esper.simic.study.records import SeedOutcome
from esper.simic.tasks import Split, Task
from esper.tamiyo import policy_named

Batch = tuple[Tensor, Tensor]
WATCHED = 500
"""Held-out examples that a policy is shown the loss of each epoch; the last gate judges on all."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast. `lr` is the peak; `warmup` a share of `steps`."""

    steps: int
    lr: float
    batch_size: int
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def factor(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0, as a share of the peak."""
        warm = max(round(self.warmup * self.steps), 1)
        if step < warm:
            return (step + 1) / warm
        done = (step - warm) / max(self.steps - warm, 1)
        return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class Growing:
    """Who decides on seeds, which there are, and when the gates let them through."""

    policy: str
    blueprints: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    gates: GateParameters = field(default_factory=GateParameters)
    blend: AlphaSchedule = field(default_factory=AlphaSchedule)


class Objective:
    """A task's mean loss on a batch; each call counts its pass, forward and, with gradients, backward."""

    def __init__(self, task: Task, meter: FlopMeter) -> None:
        self.task = task
        self.meter = meter

    def __call__(self, purpose: str, model: nn.Module, batch: Batch) -> Tensor:
        self.meter.count(purpose, model, len(batch[1]), backward=torch.is_grad_enabled())
        return self.task.losses(model(batch[0]), batch[1]).mean()

    def score(self, purpose: str, model: nn.Module, split: Split) -> Score:
        """The model's score on a split, counted."""
        self.meter.count(purpose, model, len(split), backward=False)
        return score(model, self.task, split)

    def example_losses(self, purpose: str, model: nn.Module, split: Split) -> Tensor:
        """One loss for each example of a split, counted."""
        self.meter.count(purpose, model, len(split), backward=False)
        return example_losses(model, self.task, split)


def meter_for(task: Task) -> FlopMeter:
    """A meter of passes over the task's examples."""
    return FlopMeter(
        lambda model, batch: task.losses(model(batch[0]), batch[1]).mean(), (task.train.x, task.train.y)
    )


def fit(
    model: nn.Module,
    objective: Objective,
    recipe: Recipe,
    seed: int,
    *,
    growing: Growing | None = None,
    replay: Callable[[nn.Module], Tensor] | None = None,
) -> tuple[SeedOutcome, ...]:
    """Trains what requires a gradient in `model`, and grows it if `growing`; returns what became of seeds.

    seed: of the order of batches and of the policy. replay: a loss added to each step's, which counts its own
    passes.
    """
    task = objective.task
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(
        learning, lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    growth = None
    if growing is not None:
        optimizer = GrowthOptimizer(optimizer)
        growth = _Growth(model, optimizer, objective, recipe, growing, seed)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.factor)
    epoch = max(len(task.train) // recipe.batch_size, 1)
    for step, batch in enumerate(batches(task.train, recipe, seed), start=1):
        optimizer.zero_grad()
        loss = objective("training", model, batch)
        torch.autograd.backward(loss)
        if replay is not None:
            torch.autograd.backward(replay(model))
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], recipe.clip_norm)
        optimizer.step()
        schedule.step()
        if growth is not None:
            growth.after_step(loss, batch)
            if step % epoch == 0:
                growth.after_epoch()
    return () if growth is None else growth.seeds()


def batches(split: Split, recipe: Recipe, seed: int) -> Iterator[Batch]:
    """`recipe.steps` whole batches, in an order drawn anew by `seed` for each pass over the split."""
    order = torch.Generator().manual_seed(seed)
    size = min(recipe.batch_size, len(split))
    left = recipe.steps
    while left > 0:
        for rows in torch.randperm(len(split), generator=order).split(size)[: min(len(split) // size, left)]:
            yield split.x[rows], split.y[rows]
            left -= 1


class _Growth:
    """Growth in a run of `fit`, with every pass that it makes on its own account counted."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: GrowthOptimizer,
        objective: Objective,
        recipe: Recipe,
        growing: Growing,
        seed: int,
    ) -> None:
        self.model, self.objective = model, objective
        self.events: list[Event] = []
        self.bank = slots(model)
        held_out = objective.task.held_out
        self.watched = Split(held_out.x[:WATCHED], held_out.y[:WATCHED])
        objective.meter.watch(self.bank)
        self.growth = Growth(
            model,
            optimizer,
            policy_named(growing.policy, growing.blueprints, seed=seed, **growing.options),
            growing.blueprints,
            loss=self._loss,
            evaluate=lambda model: objective.example_losses("gates", model, held_out),
            gates=growing.gates,
            blend=growing.blend,
            clip_norm=recipe.clip_norm,
            output=self,
        )

    def _loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.objective("incubation" if model is self.model else "control", model, batch)

    def emit(self, event: Event) -> None:
        """Notes an event, and lets the meter count what it tells of."""
        self.events.append(event)
        self.objective.meter.emit(event)

    def after_step(self, loss: Tensor, batch: Batch) -> None:
        self.growth.observe(loss, batch)

    def after_epoch(self) -> None:
        found = self.objective.score("evaluation", self.model, self.watched)
        self.growth.step(val_loss=found.loss, val_accuracy=found.accuracy)

    def seeds(self) -> tuple[SeedOutcome, ...]:
        """Every seed planted, in order. One undecided at the end of the run keeps the stage it had."""
        decided = {report.seed_id: report for report in self.growth.reports}
        found = []
        for event in self.events:
            if not isinstance(event, SeedGerminated):
                continue
            report = decided.get(event.seed_id)
            metrics = report.metrics if report is not None else self.bank[event.slot].metrics
            stage = report.outcome if report is not None else self.bank[event.slot].stage
            found.append(
                SeedOutcome(
                    slot=event.slot,
                    blueprint=event.blueprint_id,
                    params=event.params,
                    stage=stage.name,
                    planted_at=event.epoch,
                    gain=metrics.improvement,
                    gradient_ratio=metrics.gradient_ratio,
                )
            )
        return tuple(found)


def in_place(seeds: tuple[SeedOutcome, ...]) -> list[SeedOutcome]:
    """The seeds that the network had at the end."""
    return [seed for seed in seeds if is_in_place_stage(SeedStage[seed.stage])]
