"""The governor: what it takes for a divergence, what it takes back, and why that never pays for a policy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.errors import LossExploded, StillEmbargoed
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.training.governor import Governor, GovernorParameters, LossWatch
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.actions import Action, AdvanceStage, Cull
from esper.leyline.events import GovernorActed, SeedCulled
from esper.leyline.signals import TrainingSignals
from tests.kasmina.networks import Recorder, Waiting, equal_states, fingerprint

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 4
AGES_ALONE = GateParameters(training_steps=1, shadow_steps=1, probation_steps=1, loss_rise=1e9)


def losses_of(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X), Y, reduction="none")


def loss_on(model: nn.Module, batch: None) -> Tensor:
    return losses_of(model).mean()


class Run:
    """A host of two layers with a slot between them, whose losses the test makes up."""

    def __init__(self, governor: GovernorParameters | None = None) -> None:
        torch.manual_seed(0)
        self.model = attach(
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)), "1", X, incubation="none"
        )
        self.optimizer = GrowthOptimizer(torch.optim.AdamW(self.model.parameters(), lr=0.01))
        self.output = Recorder()
        self.growth = Growth(
            self.model,
            self.optimizer,
            Waiting(),
            loss=loss_on,
            evaluate=losses_of,
            gates=AGES_ALONE,
            blend=AlphaSchedule("linear", 2),
            governor=governor,
            output=self.output,
        )
        self.slot = slots(self.model)["1"]

    def train(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            torch.autograd.backward(loss_on(self.model, None))
            self.optimizer.step()

    def observe(self, losses: Sequence[float]) -> None:
        for loss in losses:
            self.growth.observe(loss, None)

    def put_in_place(self) -> None:
        self.slot.plant(nn.Linear(4, 4), blueprint_id="linear")
        self.slot.advance()
        self.train()
        self.slot.advance()


def actions(run: Run) -> list[str]:
    return [event.action for event in run.output.events if isinstance(event, GovernorActed)]


# Training losses


@given(
    st.lists(st.floats(0.1, 10.0), min_size=30, max_size=80),
    st.lists(st.floats(1e4, 1e9), min_size=1, max_size=20),
)
def test_a_divergence_is_as_many_exploded_losses_in_a_row_as_the_parameters_say(
    usual: list[float], exploded: list[float]
) -> None:
    watch = LossWatch(GovernorParameters())
    assert not any(watch.observe(loss) for loss in usual)
    needed = watch.parameters.explosion_steps
    assert [watch.observe(loss) for loss in exploded] == [n >= needed for n in range(1, len(exploded) + 1)]


@given(st.lists(st.sampled_from([1.0, 1e6, 1e6, 1e6]), max_size=60), st.floats(0.5, 2.0))
def test_bad_batches_that_do_not_follow_each_other_are_no_divergence(bad: list[float], usual: float) -> None:
    watch = LossWatch(GovernorParameters())
    for loss in [1.0] * 20:
        watch.observe(loss)
    for loss, index in zip(bad, itertools.count()):
        assert not watch.observe(usual if index % 4 == 3 else loss)


@given(st.floats(1e-6, 1e6), st.integers(20, 200), st.floats(0.9, 1.0))
def test_a_loss_that_falls_or_stays_never_explodes(start: float, steps: int, factor: float) -> None:
    watch = LossWatch(GovernorParameters())
    assert not any(watch.observe(start * factor**step) for step in range(steps))


def test_too_few_losses_judge_nothing() -> None:
    watch = LossWatch(GovernorParameters(explosion_least=10))
    assert not any(watch.observe(loss) for loss in [1.0] * 9 + [1e9] * 1)
    assert watch.exploded == 0


def test_an_explosion_with_a_seed_in_place_takes_everything_back_and_goes_on() -> None:
    run = Run()
    run.observe([2.0] * 25)
    run.put_in_place()
    before = fingerprint(run.model)
    run.train(3)
    run.observe([50.0] * 4)
    assert run.slot.stage.name == "BLENDING"
    assert not equal_states(before, fingerprint(run.model))
    run.observe([50.0])
    assert run.slot.stage.name == "CULLED"
    assert equal_states(before, fingerprint(run.model))
    assert actions(run) == ["rolled_back"]
    (culled,) = [event for event in run.output.events if isinstance(event, SeedCulled)]
    assert (culled.rolled_back, culled.lost_steps) == (True, 3)
    run.observe([50.0] * 19)


def test_an_explosion_without_a_seed_stops_the_run_with_its_figures() -> None:
    run = Run()
    run.observe([2.0] * 25)
    with pytest.raises(
        LossExploded, match=r"the loss is 50 at step 0, far above its recent median 2 for 5 steps"
    ):
        run.observe([50.0] * 5)
    assert actions(run) == ["stopped"]


def test_a_spike_below_where_the_run_began_does_not_stop_it() -> None:
    run = Run()
    run.observe([2.0] * 20)
    run.observe([1e-3] * 60)
    run.observe([0.5] * 30)
    assert actions(run) == []
    with pytest.raises(LossExploded):
        run.observe([2.5])


def test_the_governors_memory_survives_being_written_down() -> None:
    governor = Governor(GovernorParameters())
    for loss in [2.0] * 30 + [50.0] * 3:
        governor.watch.observe(loss)
    governor.regresses(is_too_high=True)
    other = Governor(GovernorParameters())
    other.load_state_dict(governor.state_dict())
    assert other.state_dict() == governor.state_dict()
    for one in (governor, other):
        assert [one.watch.observe(50.0) for _ in range(2)] == [False, True]
        assert one.regresses(is_too_high=True)


def test_regressions_of_one_seed_do_not_count_against_the_next() -> None:
    run = Run(GovernorParameters(patience=2))
    run.growth.step(val_loss=1.0)
    for _ in range(2):
        run.put_in_place()
        run.train(2)
        run.slot.advance()
        assert run.slot.stage.name == "SHADOWING"
        run.growth.step(val_loss=9.0)
        assert run.slot.stage.name == "SHADOWING"
        run.slot.cull("asked for")
        while run.slot.stage.name != "DORMANT":
            run.growth.step(val_loss=1.0)
    assert actions(run) == []


# The cool-down


def closed_for(run: Run) -> int:
    """Growth steps until the slot is open again."""
    for count in itertools.count():
        if run.slot.stage.name == "DORMANT":
            return count
        run.growth.step(val_loss=1.0)
    raise AssertionError


def test_a_slot_stays_closed_twice_as_long_after_each_rollback() -> None:
    run = Run(GovernorParameters(embargo=3))
    closed = []
    for _ in range(4):
        run.put_in_place()
        run.observe([math.nan])
        closed.append(closed_for(run))
    assert closed == [2 + 3 * factor for factor in (1, 2, 4, 8)]


def test_a_seed_that_was_never_in_place_costs_the_plain_embargo() -> None:
    run = Run(GovernorParameters(embargo=3))
    for _ in range(3):
        run.slot.plant(nn.Linear(4, 4), blueprint_id="linear")
        run.slot.cull("asked for")
        assert closed_for(run) == 5
    assert run.slot.rollbacks == 0


def test_no_advance_shortens_the_embargo() -> None:
    run = Run(GovernorParameters(embargo=3))
    run.put_in_place()
    run.observe([math.nan])
    run.slot.advance()
    with pytest.raises(StillEmbargoed, match="EMBARGOED until growth step 4, and this is growth step 0"):
        run.slot.advance()
    run.growth.policy = Stubborn()
    assert closed_for(run) == 4


class Stubborn:
    """Asks to advance whatever the slot is in."""

    def decide(self, signals: TrainingSignals) -> Sequence[Action]:
        return [AdvanceStage("1")]


# Rollback is never profitable


FIGURES = st.tuples(st.floats(0.01, 100.0), st.floats(0.0, 1.0))


@settings(max_examples=40)
@given(
    st.lists(FIGURES, min_size=1, max_size=4),
    st.lists(FIGURES, max_size=5),
    st.lists(FIGURES, min_size=1, max_size=5),
    st.booleans(),
)
def test_a_rolled_back_policy_ends_with_no_more_than_one_that_waited(
    before: list[tuple[float, float]],
    meanwhile: list[tuple[float, float]],
    after: list[tuple[float, float]],
    by_policy: bool,
) -> None:
    """Whatever a host with the seed in place was measured at, nothing of it is credited once it is gone.

    What a policy could gain: best figures that the host no longer reaches, a credit for the recovery, an
    end of the plateau that earns it another seed, an open slot, parameters, or weights from steps that the
    one that waited did not take.
    """
    waited, grew = Run(), Run()

    def step(run: Run, figures: tuple[float, float]) -> TrainingSignals:
        return run.growth.step(val_loss=figures[0], val_accuracy=figures[1])

    for figures in before:
        for run in (waited, grew):
            run.train()
            step(run, figures)
    grew.put_in_place()
    waited.train()
    start = fingerprint(waited.model)
    credit = {"waited": [0.0, 0.0], "grew": [0.0, 0.0]}

    def count(name: str, signals: TrainingSignals) -> None:
        credit[name][0] -= signals.val_loss_delta
        credit[name][1] += signals.val_accuracy_delta

    for figures in meanwhile:
        count("grew", step(grew, figures))
    grew.train(2)
    if by_policy:
        grew.growth._try(Cull("1", "the policy's own wish"))
    else:
        grew.observe([math.nan])
    assert equal_states(start, fingerprint(grew.model))
    for figures in after:
        one, other = step(grew, figures), step(waited, figures)
        count("grew", one)
        count("waited", other)
        assert one.best_val_loss == other.best_val_loss
        assert one.best_val_accuracy == other.best_val_accuracy
        assert one.plateau_epochs == other.plateau_epochs
        assert one.val_loss_history == other.val_loss_history
        assert not one.slots[0].is_available or other.slots[0].is_available
        assert (one.slots[0].params, one.slots[0].improvement) == (0, None)
        for mine, its in zip(credit["grew"], credit["waited"], strict=True):
            assert mine <= its + 1e-9


def test_the_loss_of_a_host_that_is_no_more_is_nobodys_figure() -> None:
    run = Run(GovernorParameters(patience=2))
    run.growth.step(val_loss=1.0)
    run.put_in_place()
    run.train(2)
    run.slot.advance()
    assert run.growth.step(val_loss=0.001).best_val_loss == 0.001
    run.growth.step(val_loss=9.0)
    signals = run.growth.step(val_loss=9.0)
    assert math.isnan(signals.val_loss)
    assert (signals.best_val_loss, signals.val_loss_delta) == (1.0, 0.0)
    assert run.growth.step(val_loss=1.0).val_loss_delta == 0.0


def test_the_next_seed_is_held_against_the_loss_of_the_host_that_is_back() -> None:
    run = Run(GovernorParameters(patience=2))
    run.growth.step(val_loss=1.0)
    run.put_in_place()
    run.train(2)
    run.slot.advance()
    for _ in range(2):
        run.growth.step(val_loss=9.0)
    assert run.slot.stage.name == "EMBARGOED"
    assert run.growth.slots.ground.val_loss == 1.0


def test_what_a_host_lost_again_by_being_taken_back_is_repaid() -> None:
    run = Run()
    run.growth.step(val_loss=1.0)
    run.put_in_place()
    run.train(2)
    assert run.growth.step(val_loss=0.25).val_loss_delta == -0.75
    run.observe([math.nan])
    assert run.growth.step(val_loss=1.0).val_loss_delta == 0.75
