"""A seed in training leaves no trace in the host: 50 optimizer steps are bit-equal to those without it.

The judge compares weights, buffers, optimizer state, losses and the random generator. It is itself
tested: leaks planted on purpose are caught.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.bank import slots
from esper.kasmina.control import Trial
from esper.kasmina.growth import Growth
from esper.kasmina.hook import Phase, SlotHook
from esper.kasmina.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import (
    NoisyNaN,
    PlantOnce,
    batches,
    conv_host,
    equal_states,
    fingerprint,
    loss_on,
    residual,
    without_host_randomness,
)

STEPS = 50
ACCUMULATED = 2


@dataclass(frozen=True)
class Trace:
    """All that a training run leaves behind in the host."""

    state: dict[str, Tensor]
    momenta: list[Tensor]
    losses: list[float]
    random: Tensor

    def equals(self, other: Trace) -> bool:
        return (
            equal_states(self.state, other.state)
            and len(self.momenta) == len(other.momenta)
            and all(torch.equal(a, b) for a, b in zip(self.momenta, other.momenta, strict=True))
            and self.losses == other.losses
            and torch.equal(self.random, other.random)
        )


def train(prepare: Callable[[nn.Module], nn.Module], *, observed: bool = False) -> Trace:
    """50 steps with clipping, accumulation and a GradScaler, after `prepare`, which may plant a seed."""
    model = prepare(conv_host())
    inner = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=20)
    optimizer = GrowthOptimizer(inner, scaler=scaler)
    growth = None
    if observed:
        policy = PlantOnce(model, "norm1", residual(), epoch=-1)
        held_out = lambda m: loss_on(m, batches(1)[0]).expand(60)  # noqa: E731
        growth = Growth(model, optimizer, policy, loss=loss_on, evaluate=held_out)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses = []
    for index, batch in enumerate(batches(STEPS * ACCUMULATED)):
        loss = loss_on(model, batch) / ACCUMULATED
        scaler.scale(loss).backward()
        losses.append(loss.item())
        if index % ACCUMULATED == ACCUMULATED - 1:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            optimizer.zero_grad()
        if growth is not None:
            growth.observe(loss, batch)
    momenta = [value for state in inner.state.values() for value in state.values()]
    return Trace(fingerprint(model), momenta, losses, torch.get_rng_state())


def planted(
    make: Callable[[], nn.Module], slot: str = "norm1", incubation: str = "straight_through"
) -> Callable[[nn.Module], nn.Module]:
    """Attaches, and puts a seed into TRAINING, which the optimizer made later finds."""

    def prepare(model: nn.Module) -> nn.Module:
        attach(model, slot, batches(1)[0][0], incubation=incubation)
        place = slots(model)[slot]
        place.plant(without_host_randomness(make), blueprint_id="planted")
        place.advance()
        assert place.stage is SeedStage.TRAINING
        return model

    return prepare


@pytest.fixture(scope="module")
def alone() -> Trace:
    return train(lambda model: model)


def test_two_runs_without_a_seed_are_equal(alone: Trace) -> None:
    assert train(lambda model: model).equals(alone)


@pytest.mark.parametrize("slot", ["norm1", "conv2", "act1"])
@pytest.mark.parametrize("make", [NoisyNaN, residual], ids=["dropout and NaN", "residual"])
def test_a_training_seed_leaves_the_host_bit_equal(
    alone: Trace, make: Callable[[], nn.Module], slot: str
) -> None:
    assert train(planted(make, slot)).equals(alone)


def test_two_training_seeds_in_a_row_leave_the_host_bit_equal(alone: Trace) -> None:
    def prepare(model: nn.Module) -> nn.Module:
        attach(model, ["norm1", "norm2"], batches(1)[0][0])
        for place in slots(model).values():
            place.plant(without_host_randomness(NoisyNaN), blueprint_id="planted")
            place.advance()
        return model

    assert train(prepare).equals(alone)


def test_counterfactual_incubation_leaves_the_host_bit_equal(alone: Trace) -> None:
    assert train(planted(NoisyNaN, incubation="counterfactual"), observed=True).equals(alone)


def test_dormant_and_unincubated_slots_leave_the_host_bit_equal(alone: Trace) -> None:
    dormant = lambda model: attach(model, r"norm\d|conv2", batches(1)[0][0])  # noqa: E731
    assert train(dormant).equals(alone)
    assert train(planted(NoisyNaN, incubation="none")).equals(alone)


def test_the_seed_learns_meanwhile_and_skips_its_nan_steps() -> None:
    models: list[nn.Module] = []

    def prepare(model: nn.Module) -> nn.Module:
        models.append(planted(NoisyNaN)(model))
        return model

    train(prepare)
    slot = slots(models[0])["norm1"]
    before = without_host_randomness(NoisyNaN).state_dict()["conv.weight"]
    assert slot.seed is not None
    after = slot.seed.state_dict()["conv.weight"]
    assert not torch.equal(before, after)
    assert torch.isfinite(after).all()
    assert slot.age_steps == STEPS
    assert 0 < slot.skipped_steps < STEPS


def leaking(
    leak: Callable[[nn.Module, nn.Module, Tensor], Tensor | None],
) -> Callable[[nn.Module], nn.Module]:
    """A host with a seed whose isolation is broken: `leak(host, seed, tensor)` runs after the slot's hook."""

    def prepare(model: nn.Module) -> nn.Module:
        host = model.get_submodule("norm1")
        seed = without_host_randomness(lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.Dropout(0.5)))
        host.register_forward_hook(lambda module, arguments, tensor: leak(model, seed, tensor))
        return model

    return prepare


def write_nothing(model: nn.Module, seed: nn.Module, tensor: Tensor) -> Tensor | None:
    with torch.random.fork_rng(devices=[]):
        seed(tensor.detach().clone())
    return None


def draw_from_the_host(model: nn.Module, seed: nn.Module, tensor: Tensor) -> Tensor | None:
    seed(tensor.detach().clone())
    return None


def pass_gradient_back(model: nn.Module, seed: nn.Module, tensor: Tensor) -> Tensor | None:
    return tensor + 1e-6 * seed[0](tensor) if isinstance(seed, nn.Sequential) else None


def add_a_nan_times_zero(model: nn.Module, seed: nn.Module, tensor: Tensor) -> Tensor | None:
    late = model.get_buffer("norm1.num_batches_tracked") > 10
    return tensor + 0.0 * torch.full_like(tensor, torch.nan) if late else None


def touch_a_statistic(model: nn.Module, seed: nn.Module, tensor: Tensor) -> Tensor | None:
    model.get_buffer("norm2.running_mean").add_(1e-7)
    return None


def write_into_the_tensor(model: nn.Module, seed: nn.Module, tensor: Tensor) -> Tensor | None:
    with torch.no_grad():
        tensor.mul_(1 + 1e-6)
    return None


def test_the_leaking_frame_itself_does_not_leak(alone: Trace) -> None:
    assert train(leaking(write_nothing)).equals(alone)


@pytest.mark.parametrize(
    "leak",
    [draw_from_the_host, pass_gradient_back, add_a_nan_times_zero, touch_a_statistic, write_into_the_tensor],
)
def test_a_planted_leak_is_caught(
    alone: Trace, leak: Callable[[nn.Module, nn.Module, Tensor], Tensor | None]
) -> None:
    assert not train(leaking(leak)).equals(alone)


def test_a_seed_registered_in_the_host_is_caught_by_clipping(alone: Trace) -> None:
    def prepare(model: nn.Module) -> nn.Module:
        planted(residual)(model)
        model.add_module("leak", slots(model)["norm1"].seed)
        return model

    assert not train(prepare).equals(alone)


def test_a_slot_whose_seed_draws_without_its_own_stream_is_caught(alone: Trace) -> None:
    def prepare(model: nn.Module) -> nn.Module:
        planted(NoisyNaN)(model)
        slots(model)["norm1"].hook.draws_from_torch = False
        return model

    assert not train(prepare).equals(alone)


def test_a_view_of_the_hosts_tensor_is_not_the_hosts_tensor() -> None:
    """What the hook returns in TRAINING is nothing, so that the in-place ReLU after it works."""
    model = planted(residual)(conv_host())
    hook = slots(model)["norm1"].hook
    assert isinstance(hook, SlotHook)
    tensor = torch.zeros(2, 6, 8, 8, requires_grad=True) * 1.0
    assert hook(model.get_submodule("norm1"), (), tensor) is None


def test_evaluation_on_held_out_data_leaves_the_host_as_it_was() -> None:
    model = conv_host().train()
    before, random = fingerprint(model), torch.get_rng_state()

    def careless(model: nn.Module) -> Tensor:
        return torch.stack([loss_on(model, batch) for batch in batches(3)])

    losses = Trial(loss_on, careless).held_out_losses(model)
    assert losses.shape == (3,)
    assert equal_states(before, fingerprint(model))
    assert torch.equal(random, torch.get_rng_state())
    assert model.training


def test_evaluation_leaves_the_statistics_of_a_seed_in_place_as_they_were() -> None:
    model = planted(NoisyNaN, incubation="none")(conv_host())
    slot = slots(model)["norm1"]
    slot.hook.phase = Phase.IN_PLACE
    slot.hook.set_alpha(0.5)
    assert slot.seed is not None
    before = fingerprint(slot.seed)
    careless = Trial(loss_on, lambda m: torch.stack([loss_on(m, batch) for batch in batches(3)]))
    careless.held_out_losses(model.train())
    assert equal_states(before, fingerprint(slot.seed))
    loss_on(model, batches(1)[0])
    assert not equal_states(before, fingerprint(slot.seed))
