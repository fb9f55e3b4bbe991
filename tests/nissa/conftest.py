"""One short run as events: a seed that is kept in the first slot, one that is culled in the second."""

from __future__ import annotations

import math
from typing import Any

import pytest

from esper.leyline.events import (
    Event,
    GateEvaluated,
    GrowthStepped,
    SeedCulled,
    SeedFossilized,
    SeedGerminated,
    StageChanged,
)
from esper.leyline.run_events import EpochFinished, RunFinished, RunStarted

KEPT: dict[str, Any] = {
    "slot": "blocks.0",
    "seed_id": "seed-1",
    "blueprint_id": "conv_enhance",
    "params": 408,
}
GONE: dict[str, Any] = {"slot": "blocks.1", "seed_id": "seed-2", "blueprint_id": "depthwise", "params": 120}
PATHS: dict[str, dict[int, tuple[str, ...]]] = {
    "seed-1": {4: ("GERMINATED", "TRAINING"), 8: ("BLENDING",), 12: ("SHADOWING",), 14: ("PROBATIONARY",)},
    "seed-2": {18: ("GERMINATED", "TRAINING")},
}


def _stages(epoch: int, seed: dict[str, Any], came_from: dict[str, str]) -> list[Event]:
    events: list[Event] = []
    for target in PATHS[seed["seed_id"]].get(epoch, ()):
        source = came_from.get(seed["slot"], "DORMANT")
        alpha = 1.0 if target in ("SHADOWING", "PROBATIONARY") else 0.0
        events.append(
            StageChanged(
                epoch=epoch, step=40 * epoch, source=source, target=target, reason="gate", alpha=alpha, **seed
            )
        )
        came_from[seed["slot"]] = target
    return events


def _kept() -> list[Event]:
    at: dict[str, Any] = {"epoch": 17, "step": 680}
    figures: dict[str, float | None] = {"gain": 0.31, "standard_errors": 14.2}
    return [
        GateEvaluated(level="G5", passed=True, figures=figures, failures=[], **at, **KEPT),
        StageChanged(
            source="PROBATIONARY", target="FOSSILIZED", reason="gate G5 passed", alpha=1.0, **at, **KEPT
        ),
        SeedFossilized(
            params_added=408,
            improvement=0.31,
            standard_error=0.0218,
            grown_loss=0.412,
            control_loss=0.597,
            control_passes=360,
            incubation_passes=160,
            reason="gate G5 passed",
            **at,
            **KEPT,
        ),
    ]


def _gone() -> list[Event]:
    at: dict[str, Any] = {"epoch": 23, "step": 920}
    failure = "descent is -0.001, expected > 0"
    return [
        GateEvaluated(
            level="G2", passed=False, figures={"descent": -0.001}, failures=[failure], **at, **GONE
        ),
        StageChanged(
            source="TRAINING", target="CULLED", reason="refused 4 times in TRAINING", alpha=0.0, **at, **GONE
        ),
        SeedCulled(
            stage="TRAINING",
            reason="refused 4 times in TRAINING",
            rolled_back=False,
            improvement=None,
            control_passes=0,
            incubation_passes=200,
            **at,
            **GONE,
        ),
        StageChanged(source="CULLED", target="EMBARGOED", reason="cooling down", alpha=0.0, **at, **GONE),
    ]


def _epoch(epoch: int) -> EpochFinished:
    alone = 0.78 * (1.0 - math.exp(-epoch / 4))
    grown = 0.13 / (1.0 + math.exp(-(epoch - 11) / 1.5))
    accuracy = round(alone + grown, 4)
    return EpochFinished(
        epoch=epoch,
        step=40 * epoch,
        learning_rate=round(0.01 * (1 - epoch / 30), 5),
        train_loss=round(2.2 * (1.02 - accuracy), 4),
        train_accuracy=round(accuracy + 0.01, 4),
        held_out_loss=round(2.3 * (1.02 - accuracy), 4),
        held_out_accuracy=accuracy,
        test_loss=round(2.3 * (1.03 - accuracy), 4),
        test_accuracy=round(accuracy - 0.006, 4),
        tiers={"blocks.0": "torch"} if epoch > 4 else {},
    )


@pytest.fixture
def story() -> list[Event]:
    """Thirty epochs: planted at 4, blended from 8, kept at 17; a second planted at 18, culled at 23."""
    events: list[Event] = [
        RunStarted(
            epoch=0,
            step=0,
            task="mnist1d",
            host="cnn",
            host_params=338,
            policy="heuristic",
            slots=["blocks.0", "blocks.1"],
            blueprints=["conv_enhance", "depthwise"],
            epochs=30,
            seed=0,
        )
    ]
    came_from: dict[str, str] = {}
    for epoch in range(1, 31):
        at: dict[str, Any] = {"epoch": epoch, "step": 40 * epoch}
        finished = _epoch(epoch)
        events.append(finished)
        for planted, seed in ((4, KEPT), (18, GONE)):
            if epoch == planted:
                events.append(
                    SeedGerminated(blueprint_params={"channels": 8}, shape=[100, 8, 20], **at, **seed)
                )
            events.extend(_stages(epoch, seed, came_from))
        events.extend(_kept() if epoch == 17 else _gone() if epoch == 23 else ())
        alpha = min(max((epoch - 8) / 4, 0.0), 1.0)
        events.append(
            GrowthStepped(
                train_loss=finished.train_loss,
                val_loss=finished.held_out_loss,
                val_accuracy=finished.held_out_accuracy,
                gradient_norm=0.8,
                slots=[{"slot": "blocks.0", "alpha": alpha}, {"slot": "blocks.1", "alpha": 0.0}],
                **at,
            )
        )
    events.append(
        RunFinished(
            epoch=30,
            step=1200,
            test_loss=0.31,
            test_accuracy=0.9035,
            slots={"blocks.0": "FOSSILIZED", "blocks.1": "EMBARGOED"},
            host_params=338,
            grown_params=408,
        )
    )
    return events
