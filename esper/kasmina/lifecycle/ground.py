"""What every slot of one host shares: the host, its optimizer, the gates' parameters, the run's clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle.control import Trial
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.lifecycle.ranks import is_first
from esper.leyline.events import Event
from esper.leyline.protocols import OutputBackend
from esper.tamiyo import SignalTracker

GRADIENT_PERIOD = 10


@dataclass
class Ground:
    """The host side of its slots. A deep copy keeps the host (copied) and leaves the run's loop behind."""

    model: nn.Module
    random_seed: int
    """Where the slots' own random streams start."""
    gates: GateParameters = field(default_factory=GateParameters)
    blend: AlphaSchedule = field(default_factory=AlphaSchedule)
    optimizer: Optimizer | None = None
    """The host's own optimizer, inside any GrowthOptimizer."""
    trial: Trial | None = None
    output: OutputBackend | None = None
    epoch: int = 0
    step: int = 0
    exploded_steps: int = 0
    """The latest in a row whose training loss is far above the recent ones: a divergence in the making."""
    val_loss: float | None = None
    """The latest, as the loop reported it."""
    gradient_square: Tensor | None = None
    """Mean square of the host's gradient at its last measured step, a float32 scalar."""
    gradient_norm: Tensor | None = None
    """Its Euclidean norm."""
    embargo: int = 0
    """Growth steps for which a culled seed's slot stays closed; doubled with each rollback in it."""
    mode: str = "lerp"
    """How seeds are blended in where `plant` is not told: one of `blending.MODES`."""
    tracker: SignalTracker | None = None
    """The memory behind a policy's signals, which is taken back with the host."""
    in_place: set[str] = field(default_factory=set)
    """Slots whose seed is between BLENDING and PROBATIONARY: at most one, or two would share a control."""

    @property
    def measures_gradients(self) -> bool:
        """Whether gradients are measured at this step: every tenth, to keep the cost small."""
        return self.step % GRADIENT_PERIOD == 0

    def emit(self, event: Event) -> None:
        """Hands an event to the run's output, if it has one; of several processes the first one tells."""
        if self.output is not None and is_first():
            self.output.emit(event)

    @property
    def device(self) -> torch.device:
        """Where the host's parameters are; the CPU if it has none."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "optimizer": None, "trial": None, "output": None, "tracker": None}
