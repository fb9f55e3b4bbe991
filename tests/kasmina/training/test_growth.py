"""A seed's whole life in a training loop, under the default gates; what becomes of bad losses and actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.errors import GateRefused, LossNotFinite, MalformedEvaluation, UnusableOptimizer
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.lang.errors import UnknownBlueprint
from esper.leyline.actions import Action, AdvanceStage, ChangeBlueprint, Cull, Germinate
from esper.leyline.events import ActionRefused, GateEvaluated, GovernorActed, SeedFossilized, StageChanged
from esper.leyline.signals import TrainingSignals
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import (
    NarrowHost,
    PlantOnce,
    Recorder,
    Waiting,
    equal_states,
    fingerprint,
    motif_signals,
    residual,
    without_host_randomness,
)

TRAIN, HELD_OUT, TEST = motif_signals(1000, 1), motif_signals(1000, 2), motif_signals(1000, 3)

Batch = tuple[Tensor, Tensor]


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


class Run:
    """A host that trains on motifs, with growth in its loop; 20 batches of 50 are an epoch."""

    def __init__(
        self, seed: nn.Module | None, *, epoch: int = 1, incubation: str = "straight_through"
    ) -> None:
        torch.manual_seed(0)
        self.model = attach(NarrowHost(), "stem", TRAIN.x[:4], incubation=incubation)
        self.optimizer = GrowthOptimizer(torch.optim.AdamW(self.model.parameters(), lr=5e-3))
        self.output = Recorder()
        policy = Waiting() if seed is None else PlantOnce(self.model, "stem", seed, epoch)
        self.growth = Growth(
            self.model, self.optimizer, policy, loss=mean_loss, evaluate=HELD_OUT.losses, output=self.output
        )
        self.slot = slots(self.model)["stem"]

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        loss = mean_loss(self.model, batch)
        loss.backward()
        self.optimizer.step()
        self.growth.observe(loss, batch)

    def epoch(self, steps: int = 20) -> None:
        self.model.train()
        for rows in torch.randperm(1000)[: steps * 50].split(50):
            self.step((TRAIN.x[rows], TRAIN.y[rows]))
        self.growth.step(val_loss=self.loss_on_held_out())

    def until(self, stage: SeedStage, epochs: int = 40) -> None:
        for _ in range(epochs):
            if self.slot.stage is stage:
                return
            self.epoch()
        raise AssertionError(f"{stage.name} not reached, but {self.slot.stage.name}: {self.slot.history}")

    def loss_on_held_out(self) -> float:
        with torch.no_grad():
            return HELD_OUT.losses(self.model).mean().item()

    def accuracy(self) -> float:
        with torch.no_grad():
            hits: Tensor = self.model.eval()(TEST.x).argmax(1) == TEST.y
        return hits.float().mean().item()


def widening() -> nn.Module:
    return residual(rank=1)


def linear() -> nn.Module:
    """A 1x1 convolution, the identity at first: with the convolution after it, it adds nothing."""

    def make() -> nn.Module:
        conv = nn.Conv1d(6, 6, 1)
        nn.init.dirac_(conv.weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        return conv

    return without_host_randomness(make)


@pytest.fixture(scope="module")
def grown() -> Run:
    run = Run(widening())
    run.until(SeedStage.FOSSILIZED)
    return run


def test_a_useful_seed_fossilizes_through_every_stage_under_the_default_gates(grown: Run) -> None:
    changes = [event for event in grown.output.events if isinstance(event, StageChanged)]
    stages = ["DORMANT", "GERMINATED", "TRAINING", "BLENDING", "SHADOWING", "PROBATIONARY", "FOSSILIZED"]
    assert [change.source for change in changes] == stages[:-1]
    assert [change.target for change in changes] == stages[1:]


def test_its_gain_over_the_control_is_recorded_in_history_events_and_report(grown: Run) -> None:
    (event,) = [event for event in grown.output.events if isinstance(event, SeedFossilized)]
    assert event.improvement is not None and event.standard_error is not None
    assert event.grown_loss is not None and event.control_loss is not None
    assert event.improvement >= GateParameters().gain
    assert event.improvement > 2 * event.standard_error > 0
    assert event.grown_loss < event.control_loss
    assert event.control_passes == sum(
        event.step - change.step
        for change in grown.output.events
        if isinstance(change, StageChanged) and change.target == "BLENDING"
    )
    last = grown.slot.history[-1]
    assert last.gate is not None and last.gate.figures["gain"] == event.improvement
    (report,) = grown.growth.reports
    assert report.outcome is SeedStage.FOSSILIZED
    assert report.metrics.improvement == event.improvement
    assert report.gates[-1] is last.gate


def test_every_gate_on_the_way_left_its_figures(grown: Run) -> None:
    passed = [e for e in grown.output.events if isinstance(e, GateEvaluated) and e.passed]
    assert [gate.level for gate in passed] == ["G1", "G2", "G3", "G4", "G5"]
    assert all(figure is not None for gate in passed for figure in gate.figures.values())


def test_a_fossilized_seed_is_the_hosts_and_goes_on_learning(grown: Run) -> None:
    assert any(name.startswith("_esper.stem.") for name, _ in grown.model.named_parameters())
    held = {id(p) for group in grown.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in grown.model.parameters()} == held
    assert len(grown.optimizer.param_groups) == 1
    seed = grown.slot.seed
    assert seed is not None
    before = fingerprint(seed)
    grown.epoch()
    assert not equal_states(before, fingerprint(seed))
    assert grown.accuracy() > 0.5


def test_a_useless_seed_is_refused_before_it_is_blended_in() -> None:
    run = Run(linear(), epoch=6)
    run.until(SeedStage.CULLED)
    assert run.growth.reports[0].gates[-1].level.name == "G2"


@pytest.mark.parametrize("epoch", [1, 6])
def test_a_useless_seed_that_gets_in_place_is_refused_by_the_control(epoch: int) -> None:
    run = Run(linear(), epoch=epoch, incubation="none")
    run.until(SeedStage.CULLED)
    (report,) = run.growth.reports
    assert report.gates[-1].level.name == "G5"
    assert not report.gates[-1].passed
    assert run.slot.seed is None
    assert run.slot.culled_blueprints == ("planted",)


def test_a_culled_slot_cools_down_and_opens_again() -> None:
    run = Run(widening())
    run.until(SeedStage.TRAINING)
    run.slot.cull("asked for")
    stages = []
    run.growth.policy = Waiting()
    for _ in range(6):
        run.growth.step(val_loss=1.0)
        stages.append(run.slot.stage.name)
    assert stages == ["EMBARGOED", "EMBARGOED", "EMBARGOED", "RESETTING", "DORMANT", "DORMANT"]


def test_counterfactual_incubation_learns_and_passes_its_gate() -> None:
    run = Run(widening(), incubation="counterfactual")
    run.until(SeedStage.BLENDING)
    gate = run.slot.history[-1].gate
    assert gate is not None
    ratio = gate.figures["descent_over_error"]
    assert ratio is not None and ratio > 2
    assert run.slot.incubation_passes == 100


def test_without_incubation_the_seed_waits_unchanged_for_its_age_alone() -> None:
    seed = widening()
    before = fingerprint(seed)
    run = Run(seed, incubation="none")
    run.until(SeedStage.BLENDING)
    assert equal_states(before, fingerprint(seed))
    gate = run.slot.history[-1].gate
    assert gate is not None and list(gate.figures) == ["stage_steps", "others_in_place"]


def test_a_nan_loss_without_a_seed_in_place_stops_the_run() -> None:
    run = Run(widening())
    run.until(SeedStage.TRAINING)
    with pytest.raises(LossNotFinite, match="the loss is nan at step 20"):
        run.growth.observe(math.nan, None)
    event = run.output.events[-1]
    assert isinstance(event, GovernorActed)
    assert (event.action, event.loss) == ("stopped", None)


def test_a_nan_loss_with_a_seed_in_place_rolls_back_and_goes_on() -> None:
    run = Run(widening())
    run.until(SeedStage.BLENDING)
    before = fingerprint(run.model)
    run.epoch(steps=5)
    assert not equal_states(before, fingerprint(run.model))
    run.growth.observe(torch.tensor(math.inf), None)
    assert equal_states(before, fingerprint(run.model))
    assert run.slot.stage is SeedStage.CULLED
    run.growth.policy = Waiting()
    run.epoch()
    assert math.isfinite(run.loss_on_held_out())


def test_a_loss_that_rises_without_the_seed_as_well_is_not_its_doing() -> None:
    run = Run(widening())
    run.until(SeedStage.SHADOWING)
    run.growth.policy = Waiting()
    for _ in range(4):
        run.growth.step(val_loss=50.0)
    assert run.slot.stage.name == "SHADOWING"


@torch.no_grad()
def spoil(slot: SeedSlot) -> None:
    """Has the seed do harm, and its host's averages know it."""
    assert slot.seed is not None and slot.control is not None
    for parameter in slot.seed.parameters():
        parameter.add_(10.0)
    slot.control.grown_average.update(1)


def test_a_lasting_regression_in_shadow_rolls_back() -> None:
    run = Run(widening())
    run.until(SeedStage.SHADOWING)
    run.growth.policy = Waiting()
    spoil(run.slot)
    run.growth.step(val_loss=50.0)
    assert run.slot.stage.name == "SHADOWING"
    run.growth.step(val_loss=50.0)
    assert run.slot.stage.name == "EMBARGOED"
    assert [e.action for e in run.output.events if isinstance(e, GovernorActed)] == ["rolled_back"]
    assert "the validation loss rose" in run.growth.reports[-1].reason


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Cull("stem", "nothing there"), "E0801"),
        (AdvanceStage("stem"), "E0833"),
        (AdvanceStage("stalk"), "E0820"),
        (ChangeBlueprint("stem", "norm"), "E0801"),
        (Germinate("no_such_blueprint", "stem"), None),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_a_bad_action_is_reported_and_the_run_goes_on(action: Action, code: str | None) -> None:
    class Acting:
        def decide(self, signals: TrainingSignals) -> Sequence[Action]:
            return (action,)

    run = Run(None)
    run.growth.policy = Acting()
    before = fingerprint(run.model)
    run.growth.step(val_loss=1.0)
    refused = [event for event in run.output.events if isinstance(event, ActionRefused)]
    assert [event.action for event in refused] == [action.kind]
    assert code in (None, refused[0].code)
    assert run.slot.stage is SeedStage.DORMANT
    assert equal_states(before, fingerprint(run.model))


def test_a_refused_advance_raises_with_the_figures() -> None:
    run = Run(widening())
    run.until(SeedStage.TRAINING)
    with pytest.raises(GateRefused, match="G2 keeps `stem` in TRAINING: stage_steps is 0") as raised:
        run.slot.advance()
    assert raised.value.details["result"].figures["stage_steps"] == 0.0
    assert run.slot.refusals == 0


def test_growth_without_evaluate_never_fossilizes() -> None:
    run = Run(widening())
    run.growth.slots.ground.trial = None
    run.until(SeedStage.CULLED)
    gate = run.growth.reports[0].gates[-1]
    assert gate.level.name == "G5"
    assert gate.figures["gain"] is None


def test_an_optimizer_of_another_model_is_refused() -> None:
    model = attach(NarrowHost(), "stem", TRAIN.x[:4])
    other = GrowthOptimizer(torch.optim.SGD(NarrowHost().parameters(), lr=0.1))
    with pytest.raises(UnusableOptimizer, match="holds no parameter of the model"):
        Growth(model, other, Waiting())
    with pytest.raises(UnusableOptimizer, match="is SGD, which trains no seeds"):
        Growth(model, other.inner, Waiting())


@pytest.mark.parametrize("bad", [lambda m: torch.tensor(1.0), lambda m: 0.5, lambda m: torch.ones(3).long()])
def test_an_evaluation_that_is_not_per_example_is_refused(bad: Any) -> None:
    run = Run(widening())
    assert run.growth.slots.ground.trial is not None
    object.__setattr__(run.growth.slots.ground.trial, "evaluate", bad)
    with pytest.raises(MalformedEvaluation):
        run.growth.step()


def test_the_same_run_twice_gives_the_same_events() -> None:
    def records() -> list[dict[str, Any]]:
        run = Run(widening())
        run.until(SeedStage.SHADOWING)
        return [event.to_record() for event in run.output.events]

    assert records() == records()


def test_an_unknown_blueprint_is_refused_before_training() -> None:
    model = attach(NarrowHost(), "stem", TRAIN.x[:4])
    optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=5e-3))
    with pytest.raises(UnknownBlueprint, match="no blueprint `deepwise`"):
        Growth(model, optimizer, "heuristic", ["deepwise"])
