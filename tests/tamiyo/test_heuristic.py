"""The rule-based policy, rule by rule."""

import pytest

from esper.leyline.actions import AdvanceStage, Cull, Germinate
from esper.leyline.signals import SlotSignals, TrainingSignals
from esper.leyline.stages import SeedStage
from esper.tamiyo import HeuristicParameters, HeuristicTamiyo

RULES = HeuristicParameters(warmup_epochs=3, plateau_epochs=2, wait_epochs=6, patience=4)


def dormant(name: str = "a", culled: tuple[str, ...] = ()) -> SlotSignals:
    return SlotSignals(name, SeedStage.DORMANT, is_available=True, culled_blueprints=culled)


def live(name: str = "a", stage: SeedStage = SeedStage.TRAINING, refusals: int = 0) -> SlotSignals:
    return SlotSignals(name, stage, is_available=False, blueprint_id="norm", refusals=refusals)


def signals(*slots: SlotSignals, epoch: int = 10, plateau: int = 5) -> TrainingSignals:
    return TrainingSignals(
        epoch=epoch, global_step=40 * epoch, train_loss=1.0, val_loss=1.0, plateau_epochs=plateau, slots=slots
    )


def policy(*blueprints: str, rules: HeuristicParameters = RULES) -> HeuristicTamiyo:
    return HeuristicTamiyo(blueprints or ("norm", "mlp_block"), rules)


def test_plateau_after_the_warm_up_germinates() -> None:
    assert policy().decide(signals(dormant(), epoch=3, plateau=2)) == [Germinate("norm", "a")]


@pytest.mark.parametrize(("epoch", "plateau"), [(2, 5), (5, 1)])
def test_neither_warm_up_nor_progress_germinates(epoch: int, plateau: int) -> None:
    assert policy().decide(signals(dormant(), epoch=epoch, plateau=plateau)) == []


def test_waiting_long_enough_germinates_without_a_plateau() -> None:
    assert policy().decide(signals(dormant(), epoch=6, plateau=0)) == [Germinate("norm", "a")]


def test_nothing_is_germinated_after_the_last_epoch() -> None:
    rules = HeuristicParameters(last_epoch=20)
    assert policy(rules=rules).decide(signals(dormant(), epoch=21)) == []


def test_ties_go_to_the_first_slot_then_the_first_blueprint() -> None:
    assert policy().decide(signals(dormant("b"), dormant("a"))) == [Germinate("norm", "b")]


def test_blueprint_has_one_chance_in_a_slot() -> None:
    tamiyo = policy()
    tamiyo.decide(signals(dormant()))
    assert tamiyo.decide(signals(dormant())) == [Germinate("mlp_block", "a")]
    assert tamiyo.decide(signals(dormant())) == []


def test_blueprints_take_turns_over_all_slots() -> None:
    rules = HeuristicParameters(takes_turns=True, max_active=4)
    tamiyo = policy("norm", "mlp_block", rules=rules)
    planted = [tamiyo.decide(signals(dormant("a"), dormant("b"))) for _ in range(2)]
    assert planted == [[Germinate("norm", "a")], [Germinate("mlp_block", "a")]]
    assert tamiyo.decide(signals(dormant("b"))) == [Germinate("norm", "b")]
    tamiyo = policy("norm", "mlp_block", rules=rules)
    assert tamiyo.decide(signals(dormant("a"))) == [Germinate("norm", "a")]
    assert tamiyo.decide(signals(dormant("b"))) == [Germinate("mlp_block", "b")]


def test_blueprint_that_was_culled_in_a_slot_is_not_planted_there_again() -> None:
    assert policy().decide(signals(dormant(culled=("norm",)))) == [Germinate("mlp_block", "a")]


def test_one_live_seed_keeps_others_waiting() -> None:
    assert policy().decide(signals(live("a"), dormant("b"))) == [AdvanceStage("a")]


def test_live_seed_is_put_forward() -> None:
    assert policy().decide(signals(live(refusals=3))) == [AdvanceStage("a")]


def test_patience_ends_in_a_cull() -> None:
    (action,) = policy().decide(signals(live(refusals=4)))
    assert action == Cull("a", "refused 4 times in TRAINING")


def test_one_refusal_on_probation_is_a_verdict() -> None:
    (action,) = policy().decide(signals(live(stage=SeedStage.PROBATIONARY, refusals=1)))
    assert isinstance(action, Cull)


def test_wait_is_counted_from_the_last_decision() -> None:
    tamiyo = policy()
    tamiyo.decide(signals(dormant("a"), dormant("b"), epoch=6, plateau=0))
    tamiyo.decide(signals(live("a"), dormant("b"), epoch=7, plateau=0))
    kept = SlotSignals("a", SeedStage.FOSSILIZED, is_available=False)
    assert tamiyo.decide(signals(kept, dormant("b"), epoch=12, plateau=0)) == []
    assert tamiyo.decide(signals(kept, dormant("b"), epoch=17, plateau=0)) == []
    assert tamiyo.decide(signals(kept, dormant("b"), epoch=18, plateau=0)) == [Germinate("norm", "b")]
