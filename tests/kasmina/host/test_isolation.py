"""A seed in training leaves no trace in the host: 50 optimizer steps are bit-equal to those without it.

The judge compares weights, buffers, optimizer state, losses and the random generator. It is itself
tested: leaks planted on purpose are caught.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.host.hook import Phase, SlotHook
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Trial
from tests.kasmina.host.isolation_judge import (
    CNN,
    MLP,
    STEPS,
    TRANSFORMER,
    Court,
    Trace,
    is_isolated,
    planted,
    train,
)
from tests.kasmina.networks import (
    NoisyNaN,
    batches,
    conv_host,
    equal_states,
    fingerprint,
    loss_on,
    residual,
    without_host_randomness,
)

COURTS = {
    "CNN": CNN,
    "CNN, channels last": replace(CNN, channels_last=True),
    "CNN, channels last, bfloat16": replace(CNN, channels_last=True, autocast=True),
    "CNN, bfloat16": replace(CNN, autocast=True),
    "MLP": MLP,
    "MLP, bfloat16": replace(MLP, autocast=True),
    "transformer": TRANSFORMER,
    "transformer, bfloat16": replace(TRANSFORMER, autocast=True),
}
INCUBATIONS = ["straight_through", "counterfactual", "none"]


@cache
def trace_alone(court: Court) -> Trace:
    return train(lambda model: model, court=court)


@pytest.mark.parametrize("incubation", INCUBATIONS)
@pytest.mark.parametrize("court", COURTS.values(), ids=COURTS)
def test_a_seed_with_dropout_and_nan_leaves_every_host_bit_equal(court: Court, incubation: str) -> None:
    prepare = planted(court.make_seed, court.slot, incubation, court=court)
    observed = incubation == "counterfactual"
    assert is_isolated(prepare, court=court, alone=trace_alone(court), observed=observed)


@pytest.mark.parametrize("court", [MLP, TRANSFORMER], ids=["MLP", "transformer"])
def test_the_judge_catches_a_leak_in_every_host(court: Court) -> None:
    def prepare(model: nn.Module) -> nn.Module:
        seed = without_host_randomness(court.make_seed)
        host = model.get_submodule(court.slot)
        host.register_forward_hook(lambda module, arguments, x: x + 1e-6 * seed(x.detach()).nan_to_num(0.0))
        return model

    assert not is_isolated(prepare, court=court, alone=trace_alone(court))


Deed = Callable[[nn.Module, Tensor], Tensor]


class Inconsiderate(nn.Module):
    """A seed that keeps G0's rules where G0 looks, and in training does to its surroundings what it can."""

    def __init__(self, deed: Deed) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)
        self.deed = deed

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = self.deed(self.conv, x) if self.training else self.conv(x)
        return grown


def write_into_the_input(conv: nn.Module, x: Tensor) -> Tensor:
    grown: Tensor = conv(x.detach().mul_(2.0))
    return grown


def reseed_the_generators(conv: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(1)
    grown: Tensor = conv(x + torch.randn(1))
    return grown


class DrawingBackward(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.rand(1)


def draw_in_the_backward_pass(conv: nn.Module, x: Tensor) -> Tensor:
    grown: Tensor = DrawingBackward.apply(conv(x))  # type: ignore[no-untyped-call]
    return grown


@pytest.mark.parametrize("incubation", ["straight_through", "counterfactual"])
@pytest.mark.parametrize("deed", [write_into_the_input, reseed_the_generators, draw_in_the_backward_pass])
def test_what_a_seed_does_to_its_input_and_to_generators_stays_inside(deed: Deed, incubation: str) -> None:
    prepare = planted(lambda: Inconsiderate(deed), incubation=incubation)
    observed = incubation == "counterfactual"
    assert is_isolated(prepare, court=CNN, alone=trace_alone(CNN), observed=observed)


@pytest.fixture
def alone() -> Trace:
    return trace_alone(CNN)


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
