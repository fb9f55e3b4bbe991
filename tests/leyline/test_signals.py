"""The signals' feature vector has one schema, whatever was measured."""

import math

import pytest

from esper.leyline.errors import MalformedSignals
from esper.leyline.signals import FEATURES, SlotSignals, TrainingSignals
from esper.leyline.stages import SeedStage


def test_the_schema_has_at_least_27_distinct_features() -> None:
    assert len(FEATURES) >= 27
    assert len(set(FEATURES)) == len(FEATURES)


def test_features_follow_the_schema_for_any_number_of_slots() -> None:
    for count in (0, 1, 7):
        slots = tuple(SlotSignals(f"slot{i}", SeedStage.DORMANT, is_available=True) for i in range(count))
        signals = TrainingSignals(epoch=3, global_step=90, train_loss=1.0, val_loss=2.0, slots=slots)
        features = dict(zip(FEATURES, signals.features(), strict=True))
        assert features["epoch"] == 3.0
        assert features["val_loss"] == 2.0
        assert features["slots_total"] == features["slots_available"] == count


def test_an_unmeasured_figure_is_zero_in_the_vector_and_nan_in_the_signals() -> None:
    signals = TrainingSignals(epoch=0, global_step=0, train_loss=1.0, val_loss=math.inf)
    assert math.isnan(signals.val_accuracy)
    assert all(math.isfinite(value) for value in signals.features())


def test_the_vector_tells_stages_alphas_and_improvements() -> None:
    slots = (
        SlotSignals("a", SeedStage.BLENDING, False, alpha=0.5, stage_steps=7, params=30, improvement=0.1),
        SlotSignals("b", SeedStage.EMBARGOED, False),
    )
    signals = TrainingSignals(1, 1, 1.0, 1.0, host_params=70, slots=slots)
    features = dict(zip(FEATURES, signals.features(), strict=True))
    assert features["slots_blending"] == features["slots_closed"] == 1.0
    assert (features["alpha_max"], features["stage_steps_max"]) == (0.5, 7.0)
    assert (features["improvement_max"], features["seed_params_share"]) == (0.1, 0.3)


def test_a_history_of_another_length_is_refused() -> None:
    with pytest.raises(MalformedSignals, match="`val_loss_history` holds 2 values"):
        TrainingSignals(epoch=0, global_step=0, train_loss=1.0, val_loss=1.0, val_loss_history=(1.0, 2.0))
