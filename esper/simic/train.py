"""The training loop: a host, a task, and growth, put together as any user's script would.

Everything random comes from the configuration's seed, by generators of the loop's own: equal
configurations give equal event streams, but for times and the run's id.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from esper import lang
from esper.errors import EsperError
from esper.kasmina.attach import attach
from esper.kasmina.bank import MorphogeneticModel, slots
from esper.kasmina.growth import Growth
from esper.kasmina.optimizer import GrowthOptimizer
from esper.leyline.protocols import OutputBackend
from esper.leyline.run_events import EpochFinished, RunFinished, RunStarted, RunStopped
from esper.leyline.stages import SeedStage
from esper.simic.config import TrainConfig
from esper.simic.errors import UnknownDevice
from esper.simic.evaluation import Score, example_losses, score
from esper.simic.hosts import build_host
from esper.simic.interrupt import StopRequest
from esper.simic.tasks import Split, batch_size_of, task_named
from esper.tamiyo import policy_named
from esper.urza.run.seed import CompiledSeed

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `interrupted` is the signal's number if one ended it."""

    epochs: int
    test: Score
    held_out: Score
    slots: dict[str, SeedStage]
    host_params: int
    grown_params: int
    interrupted: int | None


def train(
    config: TrainConfig, output: OutputBackend, progress: Callable[[EpochFinished], None] = lambda epoch: None
) -> TrainResult:
    """Trains and grows. Every event goes to `output`, and each epoch's figures to `progress` besides.

    Raises `EsperError` for a configuration that cannot be run, and for a loss that is not finite, which
    ends the stream with `run_stopped`.
    """
    with _deterministic(config.seed, config.threads):
        return _Run(config, output, progress).run()


class _Run:
    """One run's parts: they are made once, in the order in which they draw random numbers."""

    def __init__(
        self, config: TrainConfig, output: OutputBackend, progress: Callable[[EpochFinished], None]
    ) -> None:
        self.config, self.output, self.progress = config, output, progress
        wanted = config.batch_size or batch_size_of(config.task)
        device = _device(config.device)
        for blueprint in config.blueprints or ():
            lang.signature(blueprint)
        data = None if config.data is None else Path(config.data)
        self.task = task_named(config.task, config.seed, data).to(device)
        self.batch_size = min(wanted, len(self.task.train))
        host = build_host(config.host, self.task).to(device)
        self.host_params = sum(parameter.numel() for parameter in host.parameters())
        self.order = torch.Generator().manual_seed(config.seed)
        self.model = attach(
            host,
            slots=config.slots or (),
            example=self.task.train.x[: self.batch_size],
            incubation=config.incubation,
        )
        self.slots: MorphogeneticModel = slots(self.model)
        self.optimizer = GrowthOptimizer(
            torch.optim.AdamW(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate_factor)
        self.growth = Growth(
            self.model,
            self.optimizer,
            policy=policy_named(
                config.policy, config.blueprints or [], seed=config.seed, **config.policy_options
            ),
            blueprints=config.blueprints or [],
            loss=lambda model, batch: self.task.losses(model(batch[0]), batch[1]).mean(),
            evaluate=lambda model: example_losses(model, self.task, self.task.held_out),
            output=output,
            clip_norm=config.clip_norm,
        )
        self.step = 0

    def run(self) -> TrainResult:
        self.output.emit(self._started())
        epoch = 0
        with StopRequest() as stop:
            try:
                for epoch in range(1, self.config.epochs + 1):
                    train_score = self._epoch(stop)
                    if stop.received is not None:
                        break
                    self._finish_epoch(epoch, train_score)
            except EsperError as error:
                self.output.emit(RunStopped(epoch=epoch, step=self.step, code=error.code, reason=str(error)))
                raise
            result = self._result(epoch, stop)
            self.output.emit(self._ended(epoch, result, stop))
        return result

    def _epoch(self, stop: StopRequest) -> Score:
        """One pass over the training split, cut short after the step in which a signal came."""
        self.model.train()
        losses, hits, seen = 0.0, 0.0, 0
        for x, y in self._batches(self.task.train):
            self.optimizer.zero_grad()
            logits = self.model(x)
            loss = self.task.losses(logits, y).mean()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            self.growth.observe(loss, (x, y))
            losses += loss.item() * len(y)
            hits += self.task.hits(logits.detach(), y).sum().item()
            seen += len(y)
            if stop.received is not None:
                break
        return Score(losses / seen, hits / seen)

    def _finish_epoch(self, epoch: int, train_score: Score) -> None:
        held_out = score(self.model, self.task, self.task.held_out)
        test = score(self.model, self.task, self.task.test)
        event = EpochFinished(
            epoch=epoch,
            step=self.step,
            learning_rate=float(self.schedule.get_last_lr()[0]),
            train_loss=train_score.loss,
            train_accuracy=train_score.accuracy,
            held_out_loss=held_out.loss,
            held_out_accuracy=held_out.accuracy,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            tiers=self._tiers(),
        )
        self.output.emit(event)
        self.growth.step(
            val_loss=held_out.loss, val_accuracy=held_out.accuracy, train_accuracy=train_score.accuracy
        )
        self.progress(event)

    def _batches(self, split: Split) -> Iterator[Batch]:
        """Whole batches in an order drawn anew for each epoch; what is left over waits for another one."""
        order = torch.randperm(len(split), generator=self.order).to(split.y.device)
        for start in range(0, len(split) - self.batch_size + 1, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield split.x[chosen], split.y[chosen]

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero at the last step."""
        steps_per_epoch = len(self.task.train) // self.batch_size
        warmup, total = self.config.warmup_epochs * steps_per_epoch, self.config.epochs * steps_per_epoch
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(total - warmup, 1)
        return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))

    def _tiers(self) -> dict[str, str]:
        return {
            name: slot.seed.status().tier
            for name, slot in self.slots.items()
            if isinstance(slot.seed, CompiledSeed)
        }

    def _started(self) -> RunStarted:
        return RunStarted(
            epoch=0,
            step=0,
            task=self.config.task,
            host=self.config.host,
            host_params=self.host_params,
            policy=self.config.policy,
            slots=list(self.slots),
            blueprints=list(self.config.blueprints or []),
            epochs=self.config.epochs,
            seed=self.config.seed,
        )

    def _result(self, epoch: int, stop: StopRequest) -> TrainResult:
        kept = [slot.seed for slot in self.slots.values() if slot.stage is SeedStage.FOSSILIZED]
        return TrainResult(
            epochs=epoch,
            test=score(self.model, self.task, self.task.test),
            held_out=score(self.model, self.task, self.task.held_out),
            slots={name: slot.stage for name, slot in self.slots.items()},
            host_params=self.host_params,
            grown_params=sum(p.numel() for seed in kept if seed is not None for p in seed.parameters()),
            interrupted=stop.received,
        )

    def _ended(self, epoch: int, result: TrainResult, stop: StopRequest) -> RunFinished | RunStopped:
        if stop.received is not None:
            name = stop.received.name
            return RunStopped(epoch=epoch, step=self.step, code=name, reason=f"asked to stop by {name}")
        return RunFinished(
            epoch=epoch,
            step=self.step,
            test_loss=result.test.loss,
            test_accuracy=result.test.accuracy,
            slots={name: stage.name for name, stage in result.slots.items()},
            host_params=result.host_params,
            grown_params=result.grown_params,
        )


@contextmanager
def _deterministic(seed: int, threads: int) -> Iterator[None]:
    """Seeds every generator, and inside has torch refuse what gives other results on a second run."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads_before)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnknownDevice(device=name, reason=str(error).splitlines()[0]) from error
    return device
