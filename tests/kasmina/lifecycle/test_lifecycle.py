"""Any sequence of what can happen to several slots keeps slots, host and optimizer in a valid state.

A twin that never had slots trains beside the host for as long as no seed is in place, and again once the host
was taken back: weights, buffers, optimizer state and random numbers are the twin's.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor, nn

from esper import lang
from esper.errors import EsperError
from esper.kasmina.attach import attach, disabled
from esper.kasmina.errors import (
    ActionOutOfStage,
    GateRefused,
    LiveSeeds,
    LossExploded,
    LossNotFinite,
    NothingToAdvance,
    StillEmbargoed,
)
from esper.kasmina.exports.export import export
from esper.kasmina.host.blending import MODES, AlphaSchedule
from esper.kasmina.host.hook import Phase
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.lifecycle.slot_state import APART, ON_TRIAL
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.errors import InvalidTransition
from esper.leyline.stages import (
    ACTIVE_STAGES,
    SeedStage,
    is_active_stage,
    is_in_place_stage,
    is_valid_transition,
)
from tests.kasmina.networks import Recorder, Waiting, ages_alone, equal_states, fingerprint

IS_SOAKING = settings.get_current_profile_name() == "soak"
PARTS = range(20 if IS_SOAKING else 1)
"""A long run is cut into parts, so that it goes on where it was killed."""
EXAMPLES = 600 if IS_SOAKING else 100

EASY = ages_alone(1, heldout_examples=4)
"""Gates that ask for ages alone, so that random walks reach every stage. Every figure must be measured."""

NAMES = st.sampled_from(["a", "c"])
X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 4
IR = lang.lower("norm", features=4)


class Host(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.BatchNorm1d(4)
        self.c = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.c(F.dropout(torch.relu_(self.b(self.a(x))), 0.2, self.training))
        return logits


def losses_of(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X), Y, reduction="none")


def loss_on(model: nn.Module, batch: None) -> Tensor:
    return losses_of(model).mean()


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Parameters, buffers, and the momenta there are."""
    parameters = list(model.parameters())
    states = [optimizer.state.get(p, {}) for p in parameters]
    return [*parameters, *model.buffers(), *(s["momentum_buffer"] for s in states if "momentum_buffer" in s)]


class Lifecycle(RuleBasedStateMachine):
    events = 0
    """After each of which everything was looked at."""

    @initialize(
        incubation=st.sampled_from(["straight_through", "counterfactual", "none"]),
        blend=st.builds(
            AlphaSchedule, st.sampled_from(["linear", "cosine"]), st.just(2), st.integers(0, 1), st.just(1)
        ),
        mode=st.sampled_from(MODES),
    )
    def begin(self, incubation: str, blend: AlphaSchedule, mode: str) -> None:
        torch.manual_seed(0)
        host = Host()
        self.twin: Host | None = copy.deepcopy(host)
        self.twin_optimizer = torch.optim.SGD(self.twin.parameters(), lr=0.05, momentum=0.9)
        self.is_twin_paused = False
        self.model = attach(host, ["a", "c"], X, incubation=incubation)
        self.host_keys = list(self.model.state_dict())
        self.slots = slots(self.model)
        self.inner = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.optimizer = GrowthOptimizer(self.inner)
        self.growth = Growth(
            self.model,
            self.optimizer,
            Waiting(),
            loss=loss_on,
            evaluate=losses_of,
            gates=EASY,
            blend=blend,
            mode=mode,
            output=Recorder(),
        )
        self.before_blending: dict[str, Tensor] = {}

    # What can happen

    @rule(name=NAMES, dropout=st.booleans())
    def germinate(self, name: str, dropout: bool) -> None:
        slot, stage = self.slots[name], self.slots[name].stage
        seed = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)) if dropout else nn.Linear(4, 4)
        try:
            slot.plant(seed, blueprint_id="linear")
        except InvalidTransition:
            assert stage is not SeedStage.DORMANT
        else:
            assert stage is SeedStage.DORMANT

    @rule(count=st.integers(1, 2))
    def train(self, count: int) -> None:
        for _ in range(count):
            random = torch.get_rng_state()
            self.optimizer.zero_grad()
            loss = loss_on(self.model, None)
            torch.autograd.backward(loss)
            self.optimizer.step()
            is_twin_paused, blamed = self.is_twin_paused, self.slots.in_stages(ON_TRIAL)
            try:
                self.growth.observe(loss, None)
            except LossExploded:
                assert not blamed and self.twin is None
            if SeedStage.CULLED in [slot.stage for slot in blamed]:
                self.taken_back()
            if self.twin is not None and not is_twin_paused:
                after = torch.get_rng_state()
                torch.set_rng_state(random)
                self.twin_optimizer.zero_grad()
                torch.autograd.backward(loss_on(self.twin, None))
                self.twin_optimizer.step()
                assert torch.equal(after, torch.get_rng_state())

    @rule(count=st.integers(1, 3))
    def epoch(self, count: int) -> None:
        for _ in range(count):
            self.growth.step(val_loss=1.0)

    @rule(name=NAMES)
    def advance(self, name: str) -> None:
        slot = self.slots[name]
        stage, host = slot.stage, fingerprint(self.model)
        try:
            slot.advance()
        except (GateRefused, NothingToAdvance, StillEmbargoed):
            assert slot.stage is stage
            assert equal_states(host, fingerprint(self.model))
            return
        assert is_valid_transition(stage, slot.stage)
        if slot.stage is SeedStage.BLENDING:
            self.before_blending, self.is_twin_paused = host, True
        elif slot.stage is SeedStage.FOSSILIZED:
            self.twin = None

    @rule(name=NAMES, stage=st.sampled_from(sorted(ACTIVE_STAGES | {SeedStage.FOSSILIZED})))
    def grow(self, name: str, stage: SeedStage) -> None:
        """Goes down the forward path as far as `stage`, event by event, as rules drawn singly rarely do."""
        slot = self.slots[name]
        for _ in range(20):
            if slot.stage is stage:
                return
            self.everything_is_valid()
            if slot.stage > SeedStage.FOSSILIZED:
                self.epoch(1)
            elif slot.stage is SeedStage.DORMANT:
                self.germinate(name, dropout=True)
            elif slot.stage is not SeedStage.FOSSILIZED:
                self.train(1)
                self.everything_is_valid()
                self.advance(name)

    def taken_back(self) -> None:
        assert equal_states(self.before_blending, fingerprint(self.model))
        self.is_twin_paused = False

    @rule(name=NAMES)
    def cull(self, name: str) -> None:
        slot = self.slots[name]
        stage, host = slot.stage, fingerprint(self.model)
        is_out = slot.blend is not None and not slot.blend.is_rising and slot.alpha == 0.0
        rollbacks = slot.rollbacks
        try:
            slot.cull("asked for")
        except InvalidTransition:
            assert not is_active_stage(stage)
            assert equal_states(host, fingerprint(self.model))
            return
        if stage in ON_TRIAL and not is_out:
            self.taken_back()
            assert slot.rollbacks == rollbacks + 1
        else:
            assert equal_states(host, fingerprint(self.model))
            assert slot.rollbacks == rollbacks
            if is_out:
                self.twin = None

    @rule(loss=st.sampled_from([math.nan, math.inf]))
    def lose_without_bound(self, loss: float) -> None:
        host, blamed = fingerprint(self.model), self.slots.in_stages(ON_TRIAL)
        try:
            self.growth.observe(loss, None)
        except LossNotFinite:
            assert not blamed
            assert equal_states(host, fingerprint(self.model))
        else:
            assert [slot.stage for slot in blamed] == [SeedStage.CULLED]
            self.taken_back()

    @rule(name=NAMES, rises=st.booleans())
    def turn_the_blend(self, name: str, rises: bool) -> None:
        slot, alpha = self.slots[name], self.slots[name].alpha
        try:
            slot.blend_in() if rises else slot.blend_out()
        except ActionOutOfStage:
            assert slot.stage not in ON_TRIAL
        assert slot.alpha == alpha

    @rule(name=NAMES)
    def change_the_blueprint(self, name: str) -> None:
        slot = self.slots[name]
        stage, planted = slot.stage, slot.counters["planted"]
        try:
            slot.replace(IR)
        except EsperError:
            assert slot.stage is stage
            assert stage not in APART
            assert slot.counters["planted"] == planted
        else:
            assert stage in APART
            assert slot.stage is SeedStage.GERMINATED
            assert (slot.blueprint_id, slot.counters["planted"]) == ("norm", planted + 1)

    @rule(name=NAMES, look=st.sampled_from(["evaluate", "copy", "export", "disable", "misuse"]))
    def look(self, name: str, look: str) -> None:
        """Does what should leave no trace."""
        host, random = fingerprint(self.model), torch.get_rng_state()
        match look:
            case "evaluate":
                losses_of(self.model.eval())
            case "copy":
                self.copy_the_host()
            case "export":
                self.try_to_export()
            case "disable":
                with contextlib.suppress(ZeroDivisionError), disabled(self.model, name):
                    raise ZeroDivisionError
            case "misuse":
                with contextlib.suppress(RuntimeError):
                    self.model(torch.zeros(2, 5))
        self.model.train()
        assert equal_states(host, fingerprint(self.model))
        assert torch.equal(random, torch.get_rng_state())

    def copy_the_host(self) -> None:
        """A copy computes the same, and nothing that becomes of it is seen here."""
        other = copy.deepcopy(self.model)
        with torch.no_grad():
            assert torch.equal(losses_of(other.eval()), losses_of(self.model.eval()))
        for name, slot in slots(other).items():
            assert slot.stage is self.slots[name].stage
            assert slot.hook is not self.slots[name].hook
            if is_active_stage(slot.stage):
                slot.cull("only in the copy")
                assert slot.stage is not self.slots[name].stage

    def try_to_export(self) -> None:
        try:
            plain = export(self.model)
        except LiveSeeds:
            assert self.slots.in_stages(ON_TRIAL)
            return
        assert not self.slots.in_stages(ON_TRIAL)
        with torch.no_grad():
            assert torch.equal(losses_of(plain.eval()), losses_of(self.model.eval()))

    @precondition(lambda self: any(slot.stage is SeedStage.TRAINING for slot in self.slots.values()))
    @rule()
    def discard_a_backward_pass(self) -> None:
        self.model.eval()
        torch.autograd.backward(loss_on(self.model, None))
        self.model.train()
        self.optimizer.zero_grad()

    # What always holds

    @invariant()
    def everything_is_valid(self) -> None:
        type(self).events += 1
        self.stages_and_seeds_agree()
        self.at_most_one_seed_is_being_judged()
        self.the_host_is_its_twin_unless_a_seed_is_in_place()
        self.the_history_is_a_walk_through_valid_transitions()
        self.counters_make_sense()
        self.the_host_shows_itself_and_fossilized_seeds_alone()

    def stages_and_seeds_agree(self) -> None:
        for slot in self.slots.values():
            stage, alive = slot.stage, is_active_stage(slot.stage) or slot.stage is SeedStage.FOSSILIZED
            assert stage is not SeedStage.UNKNOWN
            assert (slot.seed is not None) == alive
            assert (slot.seed_id is not None) == alive
            assert 0.0 <= slot.alpha <= 1.0
            assert abs(slot.hook.alpha.item() - slot.alpha) < 1e-6
            assert slot.alpha == 0.0 or is_in_place_stage(stage)
            assert slot.alpha == 1.0 or stage is not SeedStage.FOSSILIZED
            parts = (slot.snapshot, slot.control, slot.blend, slot.mark)
            assert [part is not None for part in parts] == [stage in ON_TRIAL] * 4
            assert not slot.hook.is_disabled
            assert slot.hook.phase is self.phase_of(slot)

    def phase_of(self, slot: SeedSlot) -> Phase:
        if is_in_place_stage(slot.stage):
            return Phase.IN_PLACE
        listens = slot.stage is SeedStage.TRAINING and slot.incubation == "straight_through"
        return Phase.LISTENING if listens else Phase.IDLE

    def at_most_one_seed_is_being_judged(self) -> None:
        judged = self.slots.in_stages(ON_TRIAL)
        assert len(judged) <= 1
        assert self.slots.ground.in_place == {slot.name for slot in judged}

    def the_host_is_its_twin_unless_a_seed_is_in_place(self) -> None:
        if self.twin is None or self.is_twin_paused:
            return
        mine, its = tensors_of(self.model, self.inner), tensors_of(self.twin, self.twin_optimizer)
        assert len(mine) == len(its)
        assert all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))

    def the_history_is_a_walk_through_valid_transitions(self) -> None:
        for slot in self.slots.values():
            moves = [record for record in slot.history if record.source is not record.target]
            stages = [SeedStage.DORMANT, *(move.target for move in moves)]
            assert [move.source for move in moves] == stages[:-1]
            assert all(is_valid_transition(a, b) for a, b in itertools.pairwise(stages))
            assert stages[-1] is slot.stage

    def counters_make_sense(self) -> None:
        for slot in self.slots.values():
            counters = slot.counters
            assert min(counters.values()) >= 0
            assert counters["stage_steps"] <= counters["age_steps"] <= self.optimizer.steps
            assert counters["rollbacks"] <= counters["planted"]
            assert counters["skipped_steps"] == 0
            assert len(slot.reports) == counters["planted"] - is_active_stage(slot.stage)

    def the_host_shows_itself_and_fossilized_seeds_alone(self) -> None:
        keys = list(self.model.state_dict())
        assert [key for key in keys if not key.startswith("_esper.")] == self.host_keys
        kept = {s.name for s in self.slots.values() if s.stage is SeedStage.FOSSILIZED}
        assert {key.split(".")[1] for key in keys if key.startswith("_esper.")} == kept
        held = {id(p) for group in self.inner.param_groups for p in group["params"]}
        assert held == {id(p) for p in self.model.parameters()}
        assert {id(p) for p in self.inner.state} <= held
        assert all(len(slot.host._forward_hooks) == 1 for slot in self.slots.values())
        assert all(p.requires_grad for p in self.model.parameters())
        assert all(module.training for module in self.model.modules())


@pytest.mark.hypothesis
@pytest.mark.parametrize("part", PARTS)
def test_no_sequence_of_events_leads_to_an_invalid_state(part: int) -> None:
    """10,000 events; with the profile `soak` 50,000 in each of 20 parts."""

    class Part(Lifecycle):
        events = 0

    run_state_machine_as_test(Part, settings=settings(max_examples=EXAMPLES, stateful_step_count=50))
    assert Part.events >= (50_000 if IS_SOAKING else 10_000)
