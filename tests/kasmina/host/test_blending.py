"""The blend is exact at both ends by each mode; alpha goes up, holds and comes down on every schedule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from esper.kasmina.attach import attach
from esper.kasmina.errors import ActionOutOfStage, GateRefused, UnknownChoice
from esper.kasmina.exports.export import export
from esper.kasmina.host.blending import ALPHA_SHAPES, MODES, AlphaSchedule, Blend, blend
from esper.kasmina.host.hook import Phase, SlotHook
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import Waiting, equal_states, fingerprint, without_host_randomness

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_ends_are_exact(dtype: torch.dtype) -> None:
    host, seed = (torch.randn(1000, dtype=torch.float64) * 100).to(dtype), torch.randn(1000).to(dtype)
    assert torch.equal(blend(host, seed, torch.tensor(0.0)), host)
    assert torch.equal(blend(host, seed, torch.tensor(1.0)), seed)


def test_half_precision_is_blended_in_float32_and_rounded_once() -> None:
    host, seed, alpha = (
        torch.ones(1, dtype=torch.bfloat16),
        torch.full((1,), 3.0).bfloat16(),
        torch.tensor(0.3),
    )
    exact = torch.lerp(host.float(), seed.float(), alpha).bfloat16()
    assert torch.equal(blend(host, seed, alpha), exact)


def test_alpha_may_move_between_forward_and_backward() -> None:
    host, seed, alpha = (
        torch.ones(3, requires_grad=True),
        torch.zeros(3, requires_grad=True),
        torch.tensor(0.25),
    )
    blended = blend(host, seed, alpha)
    alpha.fill_(1.0)
    blended.sum().backward()
    assert host.grad is not None and seed.grad is not None
    assert (host.grad[0].item(), seed.grad[0].item()) == (0.75, 0.25)


@given(st.sampled_from(sorted(ALPHA_SHAPES)), st.integers(1, 400))
def test_a_schedule_rises_from_exactly_0_to_exactly_1(shape: str, steps: int) -> None:
    schedule = AlphaSchedule(shape, steps)
    values = [schedule.at(step) for step in range(-1, steps + 2)]
    assert values[:2] == [0.0, 0.0]
    assert values[-2:] == [1.0, 1.0]
    assert values == sorted(values)


@pytest.mark.parametrize("shape", sorted(ALPHA_SHAPES))
def test_a_schedule_is_half_way_in_the_middle(shape: str) -> None:
    assert AlphaSchedule(shape, 100).at(50) == pytest.approx(0.5)


def test_an_unknown_shape_or_an_empty_schedule_is_refused() -> None:
    with pytest.raises(UnknownChoice, match="`square`"):
        AlphaSchedule("square")
    with pytest.raises(UnknownChoice, match="length"):
        AlphaSchedule(steps=0)
    with pytest.raises(UnknownChoice, match="hold"):
        AlphaSchedule(hold=-1)
    with pytest.raises(UnknownChoice, match="way down"):
        AlphaSchedule(down=0)


def test_at_alpha_0_the_seed_is_bypassed_so_that_its_nan_stays_inside() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.nan

    hook = SlotHook(None, 0)
    hook.put(Broken())
    hook.phase = Phase.IN_PLACE
    tensor = torch.ones(3)
    assert hook(nn.Identity(), (), tensor) is None
    hook.set_alpha(0.5)
    assert hook(nn.Identity(), (), tensor).isnan().all()


SCHEDULES = st.builds(
    AlphaSchedule,
    st.sampled_from(sorted(ALPHA_SHAPES)),
    st.integers(1, 40),
    st.integers(0, 10),
    st.none() | st.integers(1, 40),
)


@given(SCHEDULES)
def test_a_blend_rises_holds_and_is_complete_after_exactly_the_steps_it_says(schedule: AlphaSchedule) -> None:
    blend = Blend(schedule)
    for step in range(schedule.steps + schedule.hold):
        assert blend.steps_left == schedule.steps + schedule.hold - step
        assert blend.alpha == schedule.at(step)
        blend.step()
    assert (blend.steps_left, blend.alpha) == (0, 1.0)
    assert (blend.step(), blend.steps_left) == (1.0, 0)


@given(SCHEDULES)
def test_the_way_down_is_the_curve_backwards_and_ends_at_exactly_0(schedule: AlphaSchedule) -> None:
    blend = Blend(schedule, position=schedule.steps * schedule.steps_down, is_rising=False)
    backwards = AlphaSchedule(schedule.shape, schedule.steps_down)
    for step in range(schedule.steps_down):
        assert blend.alpha == pytest.approx(backwards.at(schedule.steps_down - step))
        assert blend.steps_left is None
        blend.step()
    assert blend.alpha == blend.step() == 0.0


@given(SCHEDULES, st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=6))
def test_alpha_stays_between_0_and_1_and_is_a_function_of_the_position(
    schedule: AlphaSchedule, turns: list[tuple[bool, int]]
) -> None:
    blend = Blend(schedule)
    for blend.is_rising, steps in turns:
        for _ in range(steps):
            before = blend.alpha
            after = blend.step()
            assert 0.0 <= after <= 1.0
            assert after >= before if blend.is_rising else after <= before
            assert after == schedule.level(blend.position, blend.whole)
            assert 0 <= blend.held <= schedule.hold


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_adding_is_exact_at_both_ends(dtype: torch.dtype) -> None:
    host, seed = (torch.randn(1000, dtype=torch.float64) * 100).to(dtype), torch.randn(1000).to(dtype)
    assert torch.equal(blend(host, seed, torch.tensor(0.0), "add"), host)
    assert torch.equal(blend(host, seed, torch.tensor(1.0), "add"), host + seed)


# In a slot


X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


class Run:
    """A host of two layers, whose slot's seed learns by the targets X after a rotation of its axes."""

    def __init__(self, schedule: AlphaSchedule, mode: str = "lerp") -> None:
        torch.manual_seed(0)
        self.model = attach(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "0", X, incubation="none")
        self.optimizer = GrowthOptimizer(torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9))
        self.growth = Growth(
            self.model,
            self.optimizer,
            Waiting(),
            loss=lambda model, batch: self.losses(model).mean(),
            evaluate=self.losses,
            gates=GateParameters(permissive=True, training_steps=1),
            blend=schedule,
            mode=mode,
        )
        self.slot: SeedSlot = slots(self.model)["0"]
        self.slot.plant(without_host_randomness(lambda: nn.Linear(4, 4)), blueprint_id="linear")
        self.slot.advance()
        self.train(2)
        self.before = fingerprint(self.model)
        self.slot.advance()
        assert self.slot.stage is SeedStage.BLENDING

    @staticmethod
    def losses(model: nn.Module) -> torch.Tensor:
        wrong: torch.Tensor = (model(X) - X.roll(1, -1)).square().mean(-1)
        return wrong

    def train(self, steps: int) -> list[float]:
        alphas = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self.losses(self.model).mean()
            loss.backward()
            self.optimizer.step()
            self.growth.observe(loss, None)
            alphas.append(self.slot.alpha)
        return alphas


def test_a_seed_is_blended_in_out_and_in_again() -> None:
    run = Run(AlphaSchedule("linear", 4, down=2))
    assert run.train(3) == [0.25, 0.5, 0.75]
    run.slot.blend_out()
    assert run.train(1) == [0.25]
    run.slot.blend_in()
    assert run.train(4) == [0.5, 0.75, 1.0, 1.0]


def test_the_gate_waits_until_the_blend_is_complete_and_held() -> None:
    run = Run(AlphaSchedule("linear", 2, hold=2))
    run.growth.slots.ground.gates = GateParameters()
    for _ in range(4):
        with pytest.raises(GateRefused, match="G3"):
            run.slot.advance()
        run.train(1)
    run.slot.advance()
    assert run.slot.stage is SeedStage.SHADOWING


def test_no_gate_opens_for_a_seed_on_its_way_out_however_permissive() -> None:
    run = Run(AlphaSchedule("linear", 2))
    run.train(2)
    run.slot.advance()
    run.slot.blend_out()
    run.train(1)
    with pytest.raises(GateRefused, match=r"alpha is 0\.5, expected >= 1"):
        run.slot.advance()


def test_a_seed_that_was_blended_out_goes_and_leaves_the_host_what_it_has_learned() -> None:
    run = Run(AlphaSchedule("linear", 2))
    run.train(2)
    run.slot.blend_out()
    assert run.train(3) == [0.5, 0.0, 0.0]
    host = fingerprint(run.model)
    run.slot.cull("not needed")
    assert equal_states(fingerprint(run.model), host)
    assert (run.slot.rollbacks, run.growth.slots.ground.in_place) == (0, set())


def test_a_seed_on_its_way_out_is_taken_back_like_any_other() -> None:
    run = Run(AlphaSchedule("linear", 2))
    run.train(2)
    run.slot.blend_out()
    run.train(1)
    run.slot.cull("not waited for")
    assert equal_states(fingerprint(run.model), run.before)
    assert run.slot.rollbacks == 1


def test_only_a_seed_in_place_can_be_blended_out() -> None:
    model = attach(nn.Sequential(nn.Linear(4, 4)), "0", X)
    with pytest.raises(ActionOutOfStage, match="BLENDING, SHADOWING, PROBATIONARY, and `0` is DORMANT"):
        slots(model)["0"].blend_out()


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_lives_and_is_exported_by_either_mode(mode: str) -> None:
    run = Run(AlphaSchedule("linear", 2), mode)
    run.train(3)
    h = run.model[0].forward(X)
    seed = run.slot.seed
    assert seed is not None
    grown = h + seed(h) if mode == "add" else seed(h)
    assert torch.equal(run.model(X), run.model[1](grown))
    while run.slot.stage is not SeedStage.FOSSILIZED:
        run.slot.advance()
        run.train(1)
    assert torch.equal(export(run.model)(X), run.model(X))


def test_an_unknown_mode_is_refused() -> None:
    model = attach(nn.Sequential(nn.Linear(4, 4)), "0", X)
    with pytest.raises(UnknownChoice, match="unknown blend mode `multiply`"):
        slots(model)["0"].plant(nn.Linear(4, 4), blueprint_id="linear", mode="multiply")
    assert slots(model)["0"].stage is SeedStage.DORMANT
