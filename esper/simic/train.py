"""The training loop: a host, a task, and growth, put together as any user's script would.

Everything random comes from the configuration's seed, by generators of the loop's own: equal
configurations give equal event streams, but for times and the run's id.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from esper import lang
from esper.errors import EsperError
from esper.kasmina.attach import attach
from esper.kasmina.lifecycle.bank import MorphogeneticModel, slots
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.protocols import OutputBackend
from esper.leyline.run_events import EpochFinished, RunFinished, RunStarted, RunStopped
from esper.leyline.stages import SeedStage
from esper.simic.batches import ShuffledBatches
from esper.simic.checkpoints import Checkpoints
from esper.simic.config import TrainConfig
from esper.simic.errors import UnknownDevice
from esper.simic.evaluation import Score, example_losses, score
from esper.simic.hosts import build_host
from esper.simic.interrupt import StopRequest
from esper.simic.tasks import batch_size_of, task_named
from esper.tamiyo import policy_named
from esper.urza.run.seed import CompiledSeed


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

    def to_record(self) -> dict[str, Any]:
        """The result as JSON types; `from_record` reads it."""
        return {**asdict(self), "slots": {name: stage.name for name, stage in self.slots.items()}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TrainResult:
        """The result behind a record of `to_record`."""
        slots = {name: SeedStage[stage] for name, stage in record["slots"].items()}
        scores = {split: Score(**record[split]) for split in ("test", "held_out")}
        return cls(**{**record, **scores, "slots": slots})


def train(
    config: TrainConfig,
    output: OutputBackend,
    progress: Callable[[EpochFinished], None] = lambda epoch: None,
    checkpoints: Checkpoints | None = None,
) -> TrainResult:
    """Trains and grows. Every event goes to `output`, and each epoch's figures to `progress` besides.

    With `checkpoints` the run saves itself, and goes on from the one it is told to start from: bit-equal, on
    a CPU, to one that was never stopped.

    Raises `EsperError` for a configuration that cannot be run, and for a loss that is not finite, which
    ends the stream with `run_stopped`.
    """
    with _deterministic(config.threads):
        return _Run(config, output, progress, checkpoints).run()


@dataclass
class Position:
    """Where a run stands. The sums are over the epoch at hand, as far as it has gone."""

    step: int = 0
    """Optimizer steps taken."""
    epoch: int = 0
    """Epochs finished."""
    losses: float = 0.0
    hits: float = 0.0
    seen: int = 0
    result: dict[str, Any] | None = None
    """How the run ended, once it has, as `TrainResult.to_record` says it."""

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


class _Run:
    """One run's parts: they are made once, in the order in which they draw random numbers."""

    def __init__(
        self,
        config: TrainConfig,
        output: OutputBackend,
        progress: Callable[[EpochFinished], None],
        checkpoints: Checkpoints | None,
    ) -> None:
        self.config, self.output, self.progress, self.checkpoints = config, output, progress, checkpoints
        wanted = config.batch_size or batch_size_of(config.task)
        device = _device(config.device)
        for blueprint in config.blueprints or ():
            lang.signature(blueprint)
        data = None if config.data is None else Path(config.data)
        self.task = task_named(config.task, config.seed, data).to(device)
        self.batch_size = min(wanted, len(self.task.train))
        _seed_generators(config.seed)  # what a task imports may draw a number when it is first imported
        host = build_host(config.host, self.task).to(device)
        self.host_params = sum(parameter.numel() for parameter in host.parameters())
        self.batches = ShuffledBatches(self.task.train, self.batch_size, config.seed)
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
        self.at = Position()
        if checkpoints is not None:
            checkpoints.restore(self.growth, **self._saved_parts())

    def _saved_parts(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "batches": self.batches, "run": self.at}

    def _save(self) -> None:
        if self.checkpoints is not None:
            self.optimizer.zero_grad()
            self.checkpoints.save(self.at.step, self.growth, **self._saved_parts())

    def run(self) -> TrainResult:
        if self.checkpoints is None or self.checkpoints.start is None:
            self.output.emit(self._started())
        with StopRequest() as stop:
            try:
                while self.at.epoch < self.config.epochs:
                    train_score = self._epoch(stop)
                    if stop.received is not None:
                        break
                    self._finish_epoch(train_score)
            except EsperError as error:
                self.output.emit(
                    RunStopped(epoch=self.at.epoch + 1, step=self.at.step, code=error.code, reason=str(error))
                )
                raise
            return self._end(stop)

    def _epoch(self, stop: StopRequest) -> Score:
        """What is left of a pass over the training split, cut short after the step in which a signal came."""
        self.model.train()
        at = self.at
        for x, y in self.batches:
            self.optimizer.zero_grad()
            logits = self.model(x)
            loss = self.task.losses(logits, y).mean()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            at.step += 1
            self.growth.observe(loss, (x, y))
            at.losses += loss.item() * len(y)
            at.hits += self.task.hits(logits.detach(), y).sum().item()
            at.seen += len(y)
            if stop.received is not None:
                break
            if self.checkpoints is not None and self.checkpoints.is_due(at.step):
                self._save()
        return Score(at.losses / at.seen, at.hits / at.seen)

    def _finish_epoch(self, train_score: Score) -> None:
        at = self.at
        held_out = score(self.model, self.task, self.task.held_out)
        test = score(self.model, self.task, self.task.test)
        event = EpochFinished(
            epoch=at.epoch + 1,
            step=at.step,
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
        at.epoch, at.losses, at.hits, at.seen = at.epoch + 1, 0.0, 0.0, 0
        if self.checkpoints is not None and self.checkpoints.every == 0 and at.epoch < self.config.epochs:
            self._save()
        self.progress(event)

    def _end(self, stop: StopRequest) -> TrainResult:
        """The last event and the last checkpoint.

        A stop is told after the checkpoint, so that a resume sets it aside; a run's finish is part of it.
        """
        if stop.received is not None:
            self._save()
        result = self._result(stop)
        self.output.emit(self._ended(result, stop))
        if stop.received is None:
            self.at.result = result.to_record()
            self._save()
        return result

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero at the last step."""
        steps_per_epoch = len(self.batches)
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

    def _result(self, stop: StopRequest) -> TrainResult:
        kept = [slot.seed for slot in self.slots.values() if slot.stage is SeedStage.FOSSILIZED]
        return TrainResult(
            epochs=self.at.epoch + (stop.received is not None),
            test=score(self.model, self.task, self.task.test),
            held_out=score(self.model, self.task, self.task.held_out),
            slots={name: slot.stage for name, slot in self.slots.items()},
            host_params=self.host_params,
            grown_params=sum(p.numel() for seed in kept if seed is not None for p in seed.parameters()),
            interrupted=stop.received,
        )

    def _ended(self, result: TrainResult, stop: StopRequest) -> RunFinished | RunStopped:
        epoch, step = result.epochs, self.at.step
        if stop.received is not None:
            name = stop.received.name
            return RunStopped(epoch=epoch, step=step, code=name, reason=f"asked to stop by {name}")
        return RunFinished(
            epoch=epoch,
            step=step,
            test_loss=result.test.loss,
            test_accuracy=result.test.accuracy,
            slots={name: stage.name for name, stage in result.slots.items()},
            host_params=result.host_params,
            grown_params=result.grown_params,
        )


@contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    """Inside, torch refuses what gives other results on a second run."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads_before)


def _seed_generators(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnknownDevice(device=name, reason=str(error).splitlines()[0]) from error
    return device
