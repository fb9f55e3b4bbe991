"""Turns a run's observations, one an epoch, into the signals that a policy sees.

The tracker remembers what a single observation cannot tell: deltas, a short history, the best values,
and for how long nothing has improved. Its memory does not grow with the run.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from esper.leyline.signals import HISTORY, SlotSignals, TrainingSignals

DELTAS: Mapping[str, int] = MappingProxyType(
    {"train_loss": -1, "train_accuracy": 1, "val_loss": -1, "val_accuracy": 1}
)
"""The figures whose deltas a policy may be rewarded for, each with the sign of an improvement."""


@dataclass(frozen=True)
class TrackerMark:
    """A tracker's whole memory at one moment."""

    previous: TrainingSignals | None
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    reference_loss: float
    best_loss: float
    best_accuracy: float
    plateau: int
    totals: tuple[float, ...]


class SignalTracker:
    """Keeps the memory behind `TrainingSignals`.

    A plateau lasts for as many observations as the validation loss has failed to fall below the value
    it had when the plateau began by more than `tolerance`, a share of that value. A loss that is not a
    number is never an improvement and enters no best value.
    """

    def __init__(self, tolerance: float = 0.01) -> None:
        self.tolerance = tolerance
        self._previous: TrainingSignals | None = None
        self._losses: deque[float] = deque(maxlen=HISTORY)
        self._accuracies: deque[float] = deque(maxlen=HISTORY)
        self._reference_loss = math.inf
        self._best_loss = math.nan
        self._best_accuracy = math.nan
        self._plateau = 0
        self._totals = (0.0,) * len(DELTAS)

    def mark(self) -> TrackerMark:
        """The memory as it stands, for `rewind`."""
        return TrackerMark(
            self._previous,
            tuple(self._losses),
            tuple(self._accuracies),
            self._reference_loss,
            self._best_loss,
            self._best_accuracy,
            self._plateau,
            self._totals,
        )

    def rewind(self, mark: TrackerMark) -> None:
        """Remembers what it remembered at `mark`, and nothing since."""
        self._previous = mark.previous
        self._losses = deque(mark.losses, maxlen=HISTORY)
        self._accuracies = deque(mark.accuracies, maxlen=HISTORY)
        self._reference_loss = mark.reference_loss
        self._best_loss = mark.best_loss
        self._best_accuracy = mark.best_accuracy
        self._plateau = mark.plateau
        self._totals = mark.totals

    def take_back(self, mark: TrackerMark) -> None:
        """Goes back to `mark` with a host that was taken back, which earns nothing by it.

        Best values and the plateau are those of the mark. The next deltas are measured from the mark, so that
        recovering is no improvement, less what was credited since, so that what was lost again is repaid.
        """
        totals, present = self._totals, self._previous
        self.rewind(mark)
        self._totals = totals
        if mark.previous is None or present is None:
            self._previous = present
            return
        base: dict[str, Any] = {}
        for (name, sign), before, after in zip(DELTAS.items(), mark.totals, totals, strict=True):
            value = getattr(mark.previous, name)
            credit = max(0.0, sign * (after - before))
            base[name] = value + sign * credit if math.isfinite(value) else getattr(present, name)
        self._previous = replace(mark.previous, **base)

    def update(
        self,
        *,
        epoch: int,
        global_step: int,
        train_loss: float,
        val_loss: float,
        train_accuracy: float = math.nan,
        val_accuracy: float = math.nan,
        gradient_norm: float = math.nan,
        class_accuracy: Sequence[float] = (),
        host_params: int = 0,
        slots: Sequence[SlotSignals] = (),
    ) -> TrainingSignals:
        """The signals after one more observation. Accuracies are in 0..1; NaN stands for not measured."""
        if val_loss < self._reference_loss * (1.0 - self.tolerance):
            self._reference_loss = val_loss
            self._plateau = 0
        else:
            self._plateau += 1
        self._best_loss = _fold(min, self._best_loss, val_loss)
        self._best_accuracy = _fold(max, self._best_accuracy, val_accuracy)
        self._losses.append(val_loss)
        self._accuracies.append(val_accuracy)
        before = self._previous
        signals = TrainingSignals(
            epoch=epoch,
            global_step=global_step,
            train_loss=train_loss,
            train_loss_delta=_delta(before.train_loss if before else math.nan, train_loss),
            val_loss=val_loss,
            val_loss_delta=_delta(before.val_loss if before else math.nan, val_loss),
            train_accuracy=train_accuracy,
            train_accuracy_delta=_delta(before.train_accuracy if before else math.nan, train_accuracy),
            val_accuracy=val_accuracy,
            val_accuracy_delta=_delta(before.val_accuracy if before else math.nan, val_accuracy),
            val_loss_history=_padded(self._losses),
            val_accuracy_history=_padded(self._accuracies),
            plateau_epochs=self._plateau,
            best_val_loss=self._best_loss,
            best_val_accuracy=self._best_accuracy,
            gradient_norm=gradient_norm,
            gradient_norm_delta=_delta(before.gradient_norm if before else math.nan, gradient_norm),
            class_accuracy=tuple(class_accuracy),
            host_params=host_params,
            slots=tuple(slots),
        )
        self._previous = signals
        self._totals = tuple(
            total + getattr(signals, f"{name}_delta")
            for name, total in zip(DELTAS, self._totals, strict=True)
        )
        return signals


def _delta(before: float, after: float) -> float:
    """`after - before`, and 0 where either was not measured."""
    return after - before if math.isfinite(before) and math.isfinite(after) else 0.0


def _fold(choose: Callable[[float, float], float], best: float, value: float) -> float:
    if not math.isfinite(value):
        return best
    return value if math.isnan(best) else choose(best, value)


def _padded(values: deque[float]) -> tuple[float, ...]:
    """The last `HISTORY` values, oldest first, the oldest end filled with the first value seen."""
    return (values[0],) * (HISTORY - len(values)) + tuple(values)
