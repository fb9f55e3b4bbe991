"""Policies by name, and the baselines."""

from typing import Any

import pytest

from esper.leyline.actions import AdvanceStage, Cull, Germinate
from esper.leyline.protocols import TamiyoPolicy
from esper.leyline.signals import SlotSignals, TrainingSignals
from esper.leyline.stages import SeedStage
from esper.tamiyo import POLICIES, HeuristicTamiyo, policy_named
from esper.tamiyo.errors import InvalidPolicyOption, NoBlueprints, UnknownPolicy


def at(epoch: int, *slots: SlotSignals) -> TrainingSignals:
    return TrainingSignals(epoch=epoch, global_step=epoch, train_loss=1.0, val_loss=1.0, slots=slots)


EMPTY = SlotSignals("a", SeedStage.DORMANT, is_available=True)
OTHER = SlotSignals("b", SeedStage.DORMANT, is_available=True)
LIVE = SlotSignals("a", SeedStage.BLENDING, is_available=False)


@pytest.mark.parametrize("name", POLICIES)
def test_every_named_policy_decides(name: str) -> None:
    policy = policy_named(name, ["norm"], seed=1)
    assert isinstance(policy, TamiyoPolicy)
    assert list(policy.decide(at(1, EMPTY))) in ([], [Germinate("norm", "a")])


def test_options_reach_the_policy() -> None:
    policy = policy_named("heuristic", ["norm"], patience=9)
    assert isinstance(policy, HeuristicTamiyo)
    assert policy.parameters.patience == 9


def test_unknown_policy_names_the_choices() -> None:
    with pytest.raises(UnknownPolicy) as caught:
        policy_named("oracle", ["norm"])
    assert "heuristic, never, random, schedule" in caught.value.help_text


@pytest.mark.parametrize("options", [{"haste": 1}, {"patience": "much"}])
def test_wrong_option_is_refused_with_the_list(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicyOption) as caught:
        policy_named("heuristic", ["norm"], **options)
    assert "plateau_epochs" in caught.value.help_text


def test_policy_that_plants_needs_a_blueprint() -> None:
    with pytest.raises(NoBlueprints):
        policy_named("random", [])
    assert policy_named("never", []).decide(at(9, EMPTY)) == ()


def test_random_policy_repeats_itself_for_equal_seeds() -> None:
    runs = []
    for _ in range(2):
        policy = policy_named("random", ["norm", "depthwise"], seed=3)
        runs.append([list(policy.decide(at(epoch, EMPTY, LIVE))) for epoch in range(50)])
    assert runs[0] == runs[1]
    assert any(runs[0])


def test_schedule_plants_at_its_epochs_and_slots_in_turn() -> None:
    policy = policy_named("schedule", ["norm", "depthwise"], first_epoch=5, every=10)
    planned = {epoch: list(policy.decide(at(epoch, EMPTY, OTHER))) for epoch in range(1, 26)}
    acted = {epoch: actions for epoch, actions in planned.items() if actions}
    assert acted == {
        5: [Germinate("norm", "a")],
        15: [Germinate("depthwise", "b")],
        25: [Germinate("norm", "a")],
    }


def test_schedule_puts_live_seeds_forward() -> None:
    policy = policy_named("schedule", ["norm"])
    assert list(policy.decide(at(7, LIVE))) == [AdvanceStage("a")]


@pytest.mark.parametrize(("stage", "borne"), [(SeedStage.TRAINING, 3), (SeedStage.PROBATIONARY, 0)])
def test_schedule_gives_up_what_its_gate_refuses(stage: SeedStage, borne: int) -> None:
    policy = policy_named("schedule", ["norm"])
    for refusals, expected in ((borne, AdvanceStage), (borne + 1, Cull)):
        slot = SlotSignals("a", stage, is_available=False, refusals=refusals)
        assert [type(action) for action in policy.decide(at(7, slot))] == [expected]
