"""What Kasmina measures of a seed while it lives, and the report that it leaves when it is decided."""

from __future__ import annotations

from dataclasses import dataclass

from esper.leyline.gates import GateResult
from esper.leyline.stages import SeedStage


@dataclass(frozen=True)
class SeedMetrics:
    """A seed's figures at one moment. Ages are in optimizer steps; None means not measured."""

    age_steps: int
    """Since germination."""
    stage_steps: int
    """Since the last transition."""
    alpha: float
    params: int
    gradient_ratio: float | None
    """Root mean square of the seed's gradient over the host's: near 0, the seed starves."""
    descent: float | None
    """First-order decrease of the training loss per unit of alpha, at alpha = 0; TRAINING only."""
    descent_error: float | None
    """The standard error of `descent`."""
    improvement: float | None
    """Relative gain in held-out loss over the control, as the last gate measured it."""
    skipped_steps: int
    """Steps of the seed left out because its gradient was not finite."""
    refusals: int
    """How often the gate of the present stage was tried with its age reached, and refused."""


@dataclass(frozen=True)
class StageRecord:
    """One line of a slot's history. Where a gate refused, `target` is `source`."""

    seed_id: str
    epoch: int
    step: int
    source: SeedStage
    target: SeedStage
    reason: str
    gate: GateResult | None


@dataclass(frozen=True)
class FieldReport:
    """How one seed fared, from germination to FOSSILIZED or CULLED."""

    slot: str
    seed_id: str
    blueprint_id: str
    outcome: SeedStage
    reason: str
    metrics: SeedMetrics
    gates: tuple[GateResult, ...]
    """Every gate result of its life, in order, refusals included."""
    control_passes: int
    """Forward-and-backward passes spent on its control."""
    incubation_passes: int
    """Extra forward-and-backward passes through the host spent on its incubation."""
