"""Events of a whole run, which Simic emits and Nissa reads: its start, each epoch, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esper.leyline.events import Event


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run begins with what it was asked to do. `slots` and `blueprints` are in the policy's order."""

    kind: ClassVar[str] = "run_started"
    task: str
    host: str
    host_params: int
    policy: str
    slots: list[str]
    blueprints: list[str]
    epochs: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class EpochFinished(Event):
    """One pass over the training split, scored as the network stood at its end. Accuracies are in 0..1.

    The test figures are for the reader alone: no decision sees them.
    """

    kind: ClassVar[str] = "epoch_finished"
    learning_rate: float
    train_loss: float
    train_accuracy: float
    held_out_loss: float
    held_out_accuracy: float
    test_loss: float
    test_accuracy: float
    tiers: dict[str, str]
    """Which tier the seed of each occupied slot runs on."""


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The last epoch is over. `slots` maps each slot to the name of its stage."""

    kind: ClassVar[str] = "run_finished"
    test_loss: float
    test_accuracy: float
    slots: dict[str, str]
    host_params: int
    grown_params: int


@dataclass(frozen=True, kw_only=True)
class RunStopped(Event):
    """The run ended before its last epoch: an error's code and reason, or a signal's name."""

    kind: ClassVar[str] = "run_stopped"
    code: str
    reason: str
