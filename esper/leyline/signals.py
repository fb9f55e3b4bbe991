"""What a policy sees: one frozen type with a fixed schema of features.

`TrainingSignals.features()` is a vector of `len(FEATURES)` numbers, built in time that depends
neither on the length of the run nor, beyond one pass, on the number of slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from esper.leyline.errors import MalformedSignals
from esper.leyline.stages import SeedStage, is_active_stage

HISTORY = 5

FEATURES: tuple[str, ...] = (
    "epoch",
    "global_step",
    "train_loss",
    "train_loss_delta",
    "train_accuracy",
    "train_accuracy_delta",
    "val_loss",
    "val_loss_delta",
    "val_accuracy",
    "val_accuracy_delta",
    *(f"val_loss_history_{index}" for index in range(HISTORY)),
    *(f"val_accuracy_history_{index}" for index in range(HISTORY)),
    "plateau_epochs",
    "best_val_loss",
    "best_val_accuracy",
    "gradient_norm",
    "gradient_norm_delta",
    "class_accuracy_min",
    "class_accuracy_spread",
    "slots_total",
    "slots_available",
    "slots_germinated",
    "slots_training",
    "slots_blending",
    "slots_shadowing",
    "slots_probationary",
    "slots_fossilized",
    "slots_closed",
    "alpha_max",
    "stage_steps_max",
    "improvement_max",
    "seed_params_share",
)
"""Names of the entries of `TrainingSignals.features()`, in order."""


@dataclass(frozen=True, slots=True)
class SlotSignals:
    """One slot as a policy sees it; figures that were not measured are None."""

    name: str
    stage: SeedStage
    is_available: bool
    """DORMANT and not cooling down: a seed may be germinated here."""
    alpha: float = 0.0
    age_steps: int = 0
    stage_steps: int = 0
    improvement: float | None = None
    refusals: int = 0
    """Refusals by the present stage's gate, counted once its least age was reached."""
    params: int = 0
    seed_id: str | None = None
    blueprint_id: str | None = None
    dimensions: int = 0
    """Axes of the tensor at the slot, the batch included."""
    culled_blueprints: tuple[str, ...] = ()
    """Blueprints that failed here, oldest first."""


@dataclass(frozen=True, slots=True)
class TrainingSignals:
    """The run at one moment. Accuracies are in 0..1; deltas are against the previous observation.

    Histories hold the last `HISTORY` values, oldest first. A number nobody measured is NaN, and
    enters `features()` as 0.
    """

    epoch: int
    global_step: int
    train_loss: float
    val_loss: float
    train_loss_delta: float = 0.0
    train_accuracy: float = math.nan
    train_accuracy_delta: float = 0.0
    val_loss_delta: float = 0.0
    val_accuracy: float = math.nan
    val_accuracy_delta: float = 0.0
    val_loss_history: tuple[float, ...] = (math.nan,) * HISTORY
    val_accuracy_history: tuple[float, ...] = (math.nan,) * HISTORY
    plateau_epochs: int = 0
    best_val_loss: float = math.nan
    best_val_accuracy: float = math.nan
    gradient_norm: float = math.nan
    gradient_norm_delta: float = 0.0
    class_accuracy: tuple[float, ...] = ()
    host_params: int = 0
    slots: tuple[SlotSignals, ...] = ()

    def __post_init__(self) -> None:
        for field in ("val_loss_history", "val_accuracy_history"):
            found = len(getattr(self, field))
            if found != HISTORY:
                raise MalformedSignals(field=field, found=found, expected=HISTORY)

    def slot(self, name: str) -> SlotSignals:
        """The slot called `name`; KeyError if there is none."""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(name)

    def features(self) -> tuple[float, ...]:
        """The numbers named by `FEATURES`, every one finite."""
        slots = self.slots
        stages = [slot.stage for slot in slots]
        improvements = [slot.improvement for slot in slots if slot.improvement is not None]
        seed_params = sum(slot.params for slot in slots)
        values = (
            float(self.epoch),
            float(self.global_step),
            self.train_loss,
            self.train_loss_delta,
            self.train_accuracy,
            self.train_accuracy_delta,
            self.val_loss,
            self.val_loss_delta,
            self.val_accuracy,
            self.val_accuracy_delta,
            *self.val_loss_history,
            *self.val_accuracy_history,
            float(self.plateau_epochs),
            self.best_val_loss,
            self.best_val_accuracy,
            self.gradient_norm,
            self.gradient_norm_delta,
            min(self.class_accuracy, default=0.0),
            max(self.class_accuracy, default=0.0) - min(self.class_accuracy, default=0.0),
            float(len(slots)),
            float(sum(slot.is_available for slot in slots)),
            float(stages.count(SeedStage.GERMINATED)),
            float(stages.count(SeedStage.TRAINING)),
            float(stages.count(SeedStage.BLENDING)),
            float(stages.count(SeedStage.SHADOWING)),
            float(stages.count(SeedStage.PROBATIONARY)),
            float(stages.count(SeedStage.FOSSILIZED)),
            float(sum(slot.stage > SeedStage.FOSSILIZED for slot in slots)),
            max((slot.alpha for slot in slots if is_active_stage(slot.stage)), default=0.0),
            float(max((slot.stage_steps for slot in slots if is_active_stage(slot.stage)), default=0)),
            max(improvements, default=0.0),
            seed_params / (seed_params + self.host_params) if seed_params else 0.0,
        )
        return tuple(value if math.isfinite(value) else 0.0 for value in values)
