"""The gates G0 to G5 as a table: which transition each guards, and which figures it asks for.

A figure that was not measured is None and fails. The last gate asks for a *controlled* gain, because
switching off a seed that was blended in measures only how much the host has come to lean on it: a
useless seed shows a large drop too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from esper.leyline.gates import GateCheck, GateLevel, GateResult
from esper.leyline.stages import SeedStage


@dataclass(frozen=True)
class GateParameters:
    """The bounds of the gates. Ages are in optimizer steps within the present stage."""

    permissive: bool = False
    """Every gate is tried and recorded, and a seed that fails goes on all the same, but for what the
    mechanism relies on: that a seed fits and runs, is fully blended in, is the only one in place, and stays
    in reach of a rollback while the training loss is exploding."""

    training_steps: int = 100
    """G2: least age in TRAINING. Shorter, and the seed's first steps decide; longer costs incubation."""
    gradient_ratio: float = 1e-3
    """G2: least root mean square of the seed's gradient over the host's. Below it the seed starves."""
    descent_errors: float = 2.0
    """G2: least mean decrease in training loss that the seed promises, in its standard errors."""
    shadow_steps: int = 50
    """G4: least age in SHADOWING, at full alpha."""
    loss_rise: float = 0.05
    """G4: greatest relative rise of the held-out loss over the control's; without a control, of the
    validation loss since before blending."""
    probation_steps: int = 100
    """G5: least age in PROBATIONARY; its end is when the controlled gain is judged."""
    gain: float = 0.05
    """G5: least relative gain in mean held-out loss over the control. A seed that adds nothing but acts like
    a larger learning rate gains up to 3 %, and does so beyond all standard errors."""
    gain_errors: float = 2.0
    """G5: least gain in standard errors of the paired per-example difference."""
    gain_over_progress: float = 0.2
    """G5: least gain as a share of what the control itself has learned since blending. A useless seed
    that acts like a larger learning rate stays below, while the host still learns fast."""
    heldout_examples: int = 50
    """G5: fewest held-out examples; fewer make the standard error itself uncertain."""


@dataclass(frozen=True)
class Criterion:
    """`figure` `comparison` bound, where the bound is a number or a field of `GateParameters`."""

    figure: str
    comparison: str
    bound: str | float
    comes_first: bool = False
    """Whether it says if the seed's time has come: until then no attempt is counted, nothing measured."""
    of_learning: bool = False
    """Asked only of a seed that incubates."""
    is_waivable: bool = True
    """Whether permissive gates let a seed through that does not meet it."""


@dataclass(frozen=True)
class Gate:
    level: GateLevel
    source: SeedStage
    target: SeedStage
    criteria: tuple[Criterion, ...]


GATES: Mapping[SeedStage, Gate] = MappingProxyType(
    {
        gate.source: gate
        for gate in (
            Gate(
                GateLevel.G0,
                SeedStage.DORMANT,
                SeedStage.GERMINATED,
                (
                    Criterion("keeps_shape", ">=", 1.0, is_waivable=False),
                    Criterion("leaves_input_unchanged", ">=", 1.0, is_waivable=False),
                ),
            ),
            Gate(
                GateLevel.G1,
                SeedStage.GERMINATED,
                SeedStage.TRAINING,
                (Criterion("runs", ">=", 1.0, is_waivable=False),),
            ),
            Gate(
                GateLevel.G2,
                SeedStage.TRAINING,
                SeedStage.BLENDING,
                (
                    Criterion("stage_steps", ">=", "training_steps", comes_first=True),
                    Criterion("others_in_place", "<=", 0.0, comes_first=True, is_waivable=False),
                    Criterion("gradient_ratio", ">=", "gradient_ratio", of_learning=True),
                    Criterion("descent_over_error", ">=", "descent_errors", of_learning=True),
                ),
            ),
            Gate(
                GateLevel.G3,
                SeedStage.BLENDING,
                SeedStage.SHADOWING,
                (
                    Criterion("alpha", ">=", 1.0, comes_first=True, is_waivable=False),
                    Criterion("blend_steps_left", "<=", 0.0, comes_first=True),
                ),
            ),
            Gate(
                GateLevel.G4,
                SeedStage.SHADOWING,
                SeedStage.PROBATIONARY,
                (
                    Criterion("stage_steps", ">=", "shadow_steps", comes_first=True),
                    Criterion("alpha", ">=", 1.0, comes_first=True, is_waivable=False),
                    Criterion("loss_rise", "<=", "loss_rise"),
                ),
            ),
            Gate(
                GateLevel.G5,
                SeedStage.PROBATIONARY,
                SeedStage.FOSSILIZED,
                (
                    Criterion("stage_steps", ">=", "probation_steps", comes_first=True),
                    Criterion("alpha", ">=", 1.0, comes_first=True, is_waivable=False),
                    Criterion("exploded_steps", "<=", 0.0, comes_first=True, is_waivable=False),
                    Criterion("heldout_examples", ">=", "heldout_examples"),
                    Criterion("gain", ">=", "gain"),
                    Criterion("gain_over_error", ">=", "gain_errors"),
                    Criterion("gain_over_progress", ">=", "gain_over_progress"),
                ),
            ),
        )
    }
)
"""The gate in front of each forward transition, by the stage it leads out of."""


def check(
    gate: Gate,
    figures: Mapping[str, float | None],
    parameters: GateParameters,
    *,
    incubates: bool = True,
    is_due: bool = False,
) -> GateResult:
    """Holds `figures` against the gate's criteria; a figure that is None, absent or NaN fails.

    `incubates=False` leaves out what is asked of learning; `is_due` asks only for what comes first.
    Permissive parameters waive what fails, if all of it is waivable.
    """
    checks, is_waivable = [], parameters.permissive
    for criterion in gate.criteria:
        if (criterion.of_learning and not incubates) or (is_due and not criterion.comes_first):
            continue
        bound = criterion.bound
        limit = float(getattr(parameters, bound)) if isinstance(bound, str) else bound
        figure = figures.get(criterion.figure)
        holds = figure is not None and (figure >= limit if criterion.comparison == ">=" else figure <= limit)
        checks.append(GateCheck(criterion.figure, figure, criterion.comparison, limit, holds))
        is_waivable = is_waivable and (holds or criterion.is_waivable)
    passed = all(entry.passed for entry in checks)
    return GateResult(gate.level, tuple(checks), waived=is_waivable and not passed)
