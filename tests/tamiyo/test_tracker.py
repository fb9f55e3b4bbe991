"""The tracker's memory: deltas, history, best values, the length of a plateau."""

import math

from hypothesis import given
from hypothesis import strategies as st

from esper.leyline.signals import HISTORY, TrainingSignals
from esper.tamiyo import SignalTracker


def follow(losses: list[float]) -> list[TrainingSignals]:
    tracker = SignalTracker()
    return [
        tracker.update(epoch=e, global_step=10 * e, train_loss=loss, val_loss=loss)
        for e, loss in enumerate(losses, start=1)
    ]


def test_first_observation_has_no_deltas_and_fills_its_history() -> None:
    (signals,) = follow([2.0])
    assert signals.val_loss_delta == 0.0
    assert signals.val_loss_history == (2.0,) * HISTORY


def test_delta_is_against_the_previous_observation() -> None:
    assert follow([2.0, 1.5])[-1].val_loss_delta == -0.5


def test_history_holds_the_last_values_oldest_first() -> None:
    assert follow([7.0, 6.0, 5.0, 4.0, 3.0, 2.0])[-1].val_loss_history == (6.0, 5.0, 4.0, 3.0, 2.0)


def test_plateau_counts_observations_without_a_real_improvement() -> None:
    assert [s.plateau_epochs for s in follow([2.0, 1.0, 0.999, 1.2, 0.5])] == [0, 0, 1, 2, 0]


def test_slow_progress_ends_a_plateau_once_it_adds_up() -> None:
    assert follow([1.0, 0.994, 0.988])[-1].plateau_epochs == 0


def test_loss_that_is_not_a_number_is_no_improvement_and_no_best() -> None:
    signals = follow([1.0, math.nan, 0.9])
    assert signals[1].plateau_epochs == 1
    assert signals[1].val_loss_delta == 0.0
    assert signals[2].best_val_loss == 0.9


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30))
def test_every_feature_is_finite_whatever_the_losses(losses: list[float]) -> None:
    for signals in follow(losses):
        assert all(math.isfinite(value) for value in signals.features())


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=30))
def test_best_is_the_least_loss_so_far(losses: list[float]) -> None:
    for count, signals in enumerate(follow(losses), start=1):
        assert signals.best_val_loss == min(losses[:count])
