"""The governor's eye: when a run diverges, by its training losses or by its validation loss.

A training loss explodes where it stays far above the recent ones for several steps. Far is measured in median
absolute deviations from the median, which a few bad batches do not move.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

NORMAL_SPREAD = 1.4826
"""Times the median absolute deviation: the standard deviation of normal values."""


@dataclass(frozen=True)
class GovernorParameters:
    """When the governor steps in, and for how long a slot stays closed after a cull."""

    loss_rise: float = 0.25
    """A validation loss this much above the one before blending is a regression, unless the control's has
    risen too: then it is the run's doing, such as a learning rate that warms up, and not the seed's."""
    patience: int = 2
    """So many growth steps in a row with a regression roll the host back."""
    embargo: int = 3
    """Growth steps for which a culled seed's slot takes no other; twice as many after each rollback there."""
    explosion_window: int = 50
    """Recent training losses that the next is held against."""
    explosion_least: int = 20
    """Fewer losses than this judge nothing."""
    explosion_spread: float = 10.0
    """An exploded loss is so many robust standard deviations above the recent median ..."""
    explosion_rise: float = 1.0
    """... and by this share of it: where losses are alike, their spread says little."""
    explosion_steps: int = 5
    """So many exploded losses in a row are a divergence."""


class LossWatch:
    """Remembers recent training losses, and counts those in a row that are far above them."""

    def __init__(self, parameters: GovernorParameters) -> None:
        self.parameters = parameters
        self.losses: deque[float] = deque(maxlen=parameters.explosion_window)
        self.began_at: float | None = None
        """The median of the run's first losses: what a host that has learned nothing loses."""
        self.exploded = 0

    def observe(self, loss: float) -> bool:
        """Whether `loss`, a finite number, is one too many of those that exploded."""
        rules = self.parameters
        if len(self.losses) >= rules.explosion_least and loss > self._bound():
            self.exploded += 1
            return self.exploded >= rules.explosion_steps
        self.exploded = 0
        self.losses.append(loss)
        if self.began_at is None and len(self.losses) == rules.explosion_least:
            self.began_at = median(self.losses)
        return False

    def _bound(self) -> float:
        middle = median(self.losses)
        spread = NORMAL_SPREAD * median(abs(loss - middle) for loss in self.losses)
        rules = self.parameters
        return middle + max(rules.explosion_spread * spread, rules.explosion_rise * abs(middle))

    def is_worse_than_untrained(self, loss: float) -> bool:
        """Whether `loss` is above where the run began. A spike below that is one that runs recover from."""
        return self.began_at is not None and loss > self.began_at

    def restart(self) -> None:
        """Forgets the losses of a host that was taken back."""
        self.losses.clear()
        self.exploded = 0


class Governor:
    """Judges the losses of one run. It takes nothing back itself: that is `Growth`'s part."""

    def __init__(self, parameters: GovernorParameters) -> None:
        self.parameters = parameters
        self.watch = LossWatch(parameters)
        self.regressions = 0

    def is_too_high(self, loss: float, expected: float) -> bool:
        """Whether a validation loss is far above the `expected` one, or no number."""
        return not (math.isfinite(loss) and loss <= expected + self.parameters.loss_rise * abs(expected))

    def regresses(self, *, is_too_high: bool) -> bool:
        """Whether the validation loss has been too high for too long, this time included."""
        if not is_too_high:
            self.regressions = 0
            return False
        self.regressions += 1
        return self.regressions >= self.parameters.patience

    def restart(self) -> None:
        """Begins anew with a host that was taken back."""
        self.regressions = 0
        self.watch.restart()

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as JSON types."""
        watch = self.watch
        return {
            "losses": list(watch.losses),
            "began_at": watch.began_at,
            "exploded": watch.exploded,
            "regressions": self.regressions,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.watch.losses = deque(state["losses"], maxlen=self.parameters.explosion_window)
        self.watch.began_at, self.watch.exploded = state["began_at"], state["exploded"]
        self.regressions = state["regressions"]
