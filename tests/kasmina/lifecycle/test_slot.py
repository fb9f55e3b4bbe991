"""What a slot allows in which stage, permissive gates, the starvation figure, and how seeds begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper import lang
from esper.errors import EsperError
from esper.kasmina.attach import attach
from esper.kasmina.errors import ActionOutOfStage, GateRefused, NothingToAdvance, SeedDoesNotFit
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.host.hook import SlotHook
from esper.kasmina.host.probe import Probe
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.lifecycle.ground import Ground
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.actions import AdvanceStage, ChangeBlueprint
from esper.leyline.errors import InvalidTransition
from esper.leyline.events import (
    ActionRefused,
    GateEvaluated,
    GrowthStepped,
    SeedFossilized,
    event_from_record,
)
from esper.leyline.stages import TRANSITIONS, SeedStage
from tests.kasmina.networks import Recorder, Waiting, without_host_randomness

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 4
PERMISSIVE = GateParameters(permissive=True)
FORWARD = [SeedStage(number) for number in range(SeedStage.DORMANT, SeedStage.FOSSILIZED + 1)]


class Run:
    """A host of two layers with two slots, in a loop with growth."""

    def __init__(
        self, gates: GateParameters = PERMISSIVE, *, incubation: str = "straight_through", judged: bool = True
    ) -> None:
        torch.manual_seed(0)
        self.model = attach(
            nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), ["0", "2"], X, incubation=incubation
        )
        self.optimizer = GrowthOptimizer(torch.optim.AdamW(self.model.parameters(), lr=0.01))
        self.output = Recorder()
        self.growth = Growth(
            self.model,
            self.optimizer,
            Waiting(),
            loss=(lambda model, batch: self.losses(model).mean()) if judged else None,
            evaluate=self.losses if judged else None,
            gates=gates,
            blend=AlphaSchedule("linear", 2),
            output=self.output,
        )
        self.slot, self.other = slots(self.model)["0"], slots(self.model)["2"]

    @staticmethod
    def losses(model: nn.Module) -> Tensor:
        return F.cross_entropy(model(X), Y, reduction="none")

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self.losses(self.model).mean()
            loss.backward()
            self.optimizer.step()
            self.growth.observe(loss, None)

    def plant(self, slot: SeedSlot, make: Callable[[], nn.Module] = lambda: nn.Linear(4, 4)) -> None:
        slot.plant(without_host_randomness(make), blueprint_id="planted")

    def go_to(self, stage: SeedStage) -> None:
        """Two steps in each stage on the way."""
        self.growth.step(val_loss=1.0)
        if stage > SeedStage.DORMANT:
            self.plant(self.slot)
        while self.slot.stage < stage:
            self.slot.advance()
            self.train(2)


# Stages


def test_a_slot_is_unknown_until_attach_has_finished() -> None:
    host = nn.Sequential(nn.Linear(4, 4))
    probe = Probe((60, 4), torch.float32, torch.device("cpu"))
    slot = SeedSlot("0", host[0], SlotHook(None, 0), probe, Ground(host, 0), "none")
    assert slot.stage.name == "UNKNOWN"
    with pytest.raises(InvalidTransition, match="from UNKNOWN to GERMINATED") as raised:
        slot.plant(nn.Linear(4, 4), blueprint_id="early")
    assert "it can go to DORMANT" in raised.value.help_text
    with pytest.raises(NothingToAdvance, match="is UNKNOWN"):
        slot.advance()
    slot.open()
    assert slot.stage.name == "DORMANT"
    with pytest.raises(InvalidTransition, match="from DORMANT to DORMANT"):
        slot.open()


def act_on(slot: SeedSlot, action: str) -> None:
    match action:
        case "plant":
            slot.plant(nn.Linear(4, 4), blueprint_id="late")
        case "cull":
            slot.cull("late")
        case "advance":
            slot.advance()
        case "replace":
            slot.replace("norm")
        case "blend out":
            slot.blend_out()
        case "blend in":
            slot.blend_in()


ALLOWED: dict[str, set[str]] = {
    "plant": {"DORMANT"},
    "cull": {"GERMINATED", "TRAINING", "BLENDING", "SHADOWING", "PROBATIONARY"},
    "advance": {"GERMINATED", "TRAINING", "BLENDING", "SHADOWING", "PROBATIONARY"},
    "replace": {"GERMINATED", "TRAINING"},
    "blend out": {"BLENDING", "SHADOWING", "PROBATIONARY"},
    "blend in": {"BLENDING", "SHADOWING", "PROBATIONARY"},
}


@pytest.mark.parametrize("stage", FORWARD)
@pytest.mark.parametrize("action", ALLOWED)
def test_an_action_in_the_wrong_stage_names_the_stage_and_the_valid_ones(
    action: str, stage: SeedStage
) -> None:
    run = Run()
    run.go_to(stage)
    seed = run.slot.seed
    if stage.name in ALLOWED[action]:
        act_on(run.slot, action)
        return
    with pytest.raises(EsperError) as raised:
        act_on(run.slot, action)
    said = f"{raised.value} {raised.value.help_text}"
    assert stage.name in said
    valid = ALLOWED[action] if isinstance(raised.value, ActionOutOfStage) else set()
    assert all(name in said for name in valid)
    if isinstance(raised.value, InvalidTransition | NothingToAdvance):
        assert all(follower.name in said for follower in TRANSITIONS[stage])
    assert run.slot.stage is stage
    assert run.slot.seed is seed


def test_a_seed_in_place_is_not_exchanged_for_another() -> None:
    run = Run()
    run.go_to(SeedStage.SHADOWING)
    run.growth._try(ChangeBlueprint("0", "norm"))
    (refused,) = [event for event in run.output.events if isinstance(event, ActionRefused)]
    assert (refused.code, refused.action) == ("E0860", "CHANGE_BLUEPRINT")
    assert run.slot.stage is SeedStage.SHADOWING


def test_changing_the_blueprint_plants_the_other_at_once_without_a_cool_down() -> None:
    run = Run()
    run.go_to(SeedStage.TRAINING)
    run.growth._try(ChangeBlueprint("0", "norm"))
    assert (run.slot.stage, run.slot.blueprint_id) == (SeedStage.GERMINATED, "norm")
    assert [report.outcome for report in run.growth.reports] == [SeedStage.CULLED]


def test_a_blueprint_that_does_not_fit_leaves_the_seed_it_should_replace() -> None:
    run = Run()
    run.go_to(SeedStage.TRAINING)
    with pytest.raises(SeedDoesNotFit):
        run.slot.replace(lang.lower("norm", features=6))
    assert (run.slot.stage, run.slot.blueprint_id) == (SeedStage.TRAINING, "planted")


# Permissive gates


def test_permissive_gates_are_tried_and_recorded_and_let_a_seed_pass_that_fails() -> None:
    run = Run(judged=False)
    run.go_to(SeedStage.FOSSILIZED)
    gates = [event for event in run.output.events if isinstance(event, GateEvaluated)]
    assert [gate.level for gate in gates] == ["G1", "G2", "G3", "G4", "G5"]
    assert [gate.waived for gate in gates] == [False, True, False, True, True]
    assert all(gate.passed != gate.waived for gate in gates)
    assert all(bool(gate.failures) == gate.waived for gate in gates)
    assert f"gain is not measured, expected >= {GateParameters().gain}" in gates[-1].failures
    assert run.slot.history[-1].reason == "G5 waived"
    (event,) = [event for event in run.output.events if isinstance(event, SeedFossilized)]
    assert (event.improvement, event.control_loss) == (None, None)
    assert event_from_record(event.to_record()) == event


def test_gates_are_strict_unless_asked_otherwise() -> None:
    run = Run(GateParameters())
    run.plant(run.slot)
    run.slot.advance()
    run.train(2)
    with pytest.raises(GateRefused, match="stage_steps is 2, expected >= 100"):
        run.slot.advance()
    assert not any(event.waived for event in run.output.events if isinstance(event, GateEvaluated))


def test_permissive_gates_wait_for_the_blend_and_for_other_seeds_all_the_same() -> None:
    run = Run()
    for slot in (run.slot, run.other):
        run.plant(slot)
        slot.advance()
    run.slot.advance()
    with pytest.raises(GateRefused, match="others_in_place is 1, expected <= 0"):
        run.other.advance()
    run.train(1)
    with pytest.raises(GateRefused, match=r"alpha is 0\.5, expected >= 1"):
        run.slot.advance()


# Starvation


@pytest.mark.parametrize(("scale", "starves"), [(1.0, False), (1e-8, True)])
def test_the_gradient_ratio_tells_a_seed_that_starves_in_events_and_at_its_gate(
    scale: float, starves: bool
) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + scale * torch.tanh(self.inner(x))

    run = Run(GateParameters(training_steps=20))
    run.plant(run.slot, Scaled)
    run.slot.advance()
    run.train(20)
    run.growth.step(val_loss=1.0)
    (event,) = [event for event in run.output.events if isinstance(event, GrowthStepped)]
    ratio = event.slots[0]["gradient_ratio"]
    assert (ratio < GateParameters().gradient_ratio) == starves
    run.growth._try(AdvanceStage("0"))
    (gate,) = [e for e in run.output.events if isinstance(e, GateEvaluated) and e.level == "G2"]
    assert gate.figures["gradient_ratio"] == pytest.approx(ratio)
    assert any("gradient_ratio" in failure for failure in gate.failures) == starves


# How seeds begin

NOT_THE_IDENTITY = {
    "conv_block": "has no skip",
    "highway": "opens its gate a little, or nothing would reach its body",
    "transformer_post_norm": "normalises after the skip",
}


def test_library_seeds_begin_as_the_identity_but_for_three() -> None:
    """Last layers, or last normalisation gains, begin at zero: blending begins where the host was."""
    shape = (2, 16, 12)
    model = attach(nn.Sequential(nn.ReLU()), "0", torch.randn(shape), incubation="none")
    slot, x = slots(model)["0"], torch.rand(shape)
    changing, count = set(), 0
    for file in sorted((Path(__file__).parents[3] / "blueprints").glob("*.esp")):
        try:
            seed = slot.germinate(file.stem)
        except EsperError:
            continue
        count += 1
        with torch.no_grad():
            if not torch.equal(seed.eval()(x), x):
                changing.add(file.stem)
        slot.cull("seen")
        while slot.stage is not SeedStage.DORMANT:
            slot.advance()
    assert count > 25
    assert changing == set(NOT_THE_IDENTITY)
