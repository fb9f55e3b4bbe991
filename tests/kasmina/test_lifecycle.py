"""Any sequence of germinations, steps, advances and culls keeps slots and host in a valid state."""

from __future__ import annotations

import contextlib
import itertools

import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn

from esper.kasmina.attach import attach, disabled
from esper.kasmina.bank import slots
from esper.kasmina.blending import AlphaSchedule
from esper.kasmina.errors import GateRefused, NothingToAdvance, StillEmbargoed
from esper.kasmina.gates import GateParameters
from esper.kasmina.growth import Growth
from esper.kasmina.optimizer import GrowthOptimizer
from esper.leyline.errors import InvalidTransition
from esper.leyline.stages import SeedStage, is_active_stage, is_in_place_stage, is_valid_transition
from tests.kasmina.networks import Recorder, Waiting, equal_states, fingerprint

EASY = GateParameters(
    training_steps=2,
    gradient_ratio=0.0,
    descent_errors=-1e9,
    shadow_steps=1,
    loss_rise=1e9,
    probation_steps=1,
    gain=-1e9,
    gain_errors=-1e9,
    gain_over_progress=-1e9,
    heldout_examples=4,
)
"""Gates that ask for ages alone, so that random walks reach every stage. Every figure must be measured."""

NAMES = st.sampled_from(["a", "c"])
X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 3


class Host(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.BatchNorm1d(4)
        self.c = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.c(F.gelu(self.b(self.a(x))))
        return logits


def loss_on(model: nn.Module, batch: None) -> Tensor:
    return F.cross_entropy(model(X), Y)


class Lifecycle(RuleBasedStateMachine):
    @initialize(incubation=st.sampled_from(["straight_through", "counterfactual"]))
    def begin(self, incubation: str) -> None:
        torch.manual_seed(0)
        self.model = attach(Host(), ["a", "c"], X, incubation=incubation)
        self.host_keys = list(self.model.state_dict())
        self.slots = slots(self.model)
        self.optimizer = GrowthOptimizer(torch.optim.AdamW(self.model.parameters(), lr=0.01))
        self.output = Recorder()
        self.growth = Growth(
            self.model,
            self.optimizer,
            Waiting(),
            loss=loss_on,
            evaluate=lambda model: F.cross_entropy(model(X), Y, reduction="none"),
            gates=EASY,
            blend=AlphaSchedule("linear", 2),
            output=self.output,
        )
        self.before_blending: dict[str, Tensor] = {}

    @rule(name=NAMES, dropout=st.booleans())
    def germinate(self, name: str, dropout: bool) -> None:
        slot = self.slots[name]
        size = slot.probe.shape[-1]
        seed = nn.Sequential(nn.Linear(size, size), nn.Dropout(0.5 if dropout else 0.0))
        stage = slot.stage
        try:
            slot.plant(seed, blueprint_id="linear")
        except InvalidTransition:
            assert stage is not SeedStage.DORMANT
        else:
            assert stage is SeedStage.DORMANT

    @rule(count=st.integers(1, 3))
    def train(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.zero_grad()
            loss = loss_on(self.model, None)
            torch.autograd.backward(loss)
            self.optimizer.step()
            self.growth.observe(loss, None)

    @rule()
    def epoch(self) -> None:
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
        else:
            assert is_valid_transition(stage, slot.stage)
            if slot.stage is SeedStage.BLENDING:
                self.before_blending = host

    @rule(name=NAMES, times=st.integers(1, 6))
    def nurture(self, name: str, times: int) -> None:
        """Goes far down the forward path, which single steps rarely do."""
        if self.slots[name].stage is SeedStage.DORMANT:
            self.germinate(name, dropout=True)
        for _ in range(times):
            self.advance(name)
            self.train(3)
            self.epoch()

    @rule(name=NAMES)
    def cull(self, name: str) -> None:
        slot = self.slots[name]
        stage, host = slot.stage, fingerprint(self.model)
        try:
            slot.cull("asked for")
        except InvalidTransition:
            assert not is_active_stage(stage)
            assert equal_states(host, fingerprint(self.model))
        else:
            expected = self.before_blending if is_in_place_stage(stage) else host
            assert equal_states(expected, fingerprint(self.model))

    @rule(name=NAMES)
    def fail_while_disabled(self, name: str) -> None:
        with contextlib.suppress(ZeroDivisionError), disabled(self.model, name):
            raise ZeroDivisionError

    @rule()
    def fail_in_the_forward_pass(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.model(torch.zeros(2, 5))

    @precondition(lambda self: any(slot.stage is SeedStage.TRAINING for slot in self.slots.values()))
    @rule()
    def discard_a_backward_pass(self) -> None:
        torch.autograd.backward(loss_on(self.model, None))
        self.optimizer.zero_grad()

    @invariant()
    def stages_and_seeds_agree(self) -> None:
        for slot in self.slots.values():
            alive = is_active_stage(slot.stage) or slot.stage is SeedStage.FOSSILIZED
            assert (slot.seed is not None) == alive
            assert 0.0 <= slot.alpha <= 1.0
            assert slot.hook.alpha.item() == slot.alpha or abs(slot.hook.alpha.item() - slot.alpha) < 1e-6
            assert slot.alpha == 0.0 or is_in_place_stage(slot.stage)
            assert slot.alpha == 1.0 or slot.stage < SeedStage.SHADOWING or slot.stage > SeedStage.FOSSILIZED
            undecided = is_in_place_stage(slot.stage) and slot.stage is not SeedStage.FOSSILIZED
            assert (slot.snapshot is not None) == (slot.control is not None) == undecided
            assert not slot.hook.is_disabled

    @invariant()
    def at_most_one_seed_is_being_judged(self) -> None:
        judged = [s for s in self.slots.values() if is_in_place_stage(s.stage) and s.snapshot is not None]
        assert len(judged) <= 1
        assert self.slots.ground.in_place == {slot.name for slot in judged}

    @invariant()
    def the_history_is_a_walk_through_valid_transitions(self) -> None:
        for slot in self.slots.values():
            moves = [record for record in slot.history if record.source is not record.target]
            stages = [SeedStage.DORMANT, *(move.target for move in moves)]
            assert [move.source for move in moves] == stages[:-1]
            assert all(is_valid_transition(a, b) for a, b in itertools.pairwise(stages))
            assert stages[-1] is slot.stage

    @invariant()
    def the_host_shows_itself_and_fossilized_seeds_alone(self) -> None:
        keys = list(self.model.state_dict())
        assert [key for key in keys if not key.startswith("_esper.")] == self.host_keys
        kept = {s.name for s in self.slots.values() if s.stage is SeedStage.FOSSILIZED}
        assert {key.split(".")[1] for key in keys if key.startswith("_esper.")} == kept
        held = [id(p) for group in self.optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in self.model.parameters())
        assert all(len(slot.host._forward_hooks) == 1 for slot in self.slots.values())


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=40, stateful_step_count=40)
