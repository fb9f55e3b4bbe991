"""Culling restores weights, buffers and optimizer state bit for bit, from every stage it is possible in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esper.kasmina.attach import attach
from esper.kasmina.errors import GateRefused
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Trial
from esper.kasmina.training.governor import GovernorParameters
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import (
    ConvHost,
    Waiting,
    ages_alone,
    batches,
    conv_host,
    equal_states,
    fingerprint,
    loss_on,
    residual,
)

OPTIMIZERS: list[Callable[[Any], Optimizer]] = [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: torch.optim.AdamW(p, lr=0.01),
    lambda p: torch.optim.Adagrad(p, lr=0.1),
    lambda p: torch.optim.RMSprop(p, lr=0.01),
]


def state_of(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    return copy.deepcopy(dict(optimizer.state_dict()["state"]))


def equal_optimizers(first: dict[int, dict[str, Any]], second: dict[int, dict[str, Any]]) -> bool:
    return first.keys() == second.keys() and all(
        state.keys() == second[key].keys()
        and all(
            torch.equal(a, second[key][name]) if isinstance(a, Tensor) else a == second[key][name]
            for name, a in state.items()
        )
        for key, state in first.items()
    )


class Ride:
    """A host under way, with a seed that can be put into any stage without waiting for its gates."""

    def __init__(self, make: Callable[[Any], Optimizer]) -> None:
        self.model: ConvHost = attach(conv_host(), "norm1", batches(1)[0][0])
        self.optimizer = GrowthOptimizer(make(self.model.parameters()))
        self.slot = slots(self.model)["norm1"]
        self.feed = iter(batches(100))
        self.train(3)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss_on(self.model, next(self.feed)).backward()
            self.optimizer.step()

    def go_to(self, stage: SeedStage) -> None:
        self.slot.plant(residual(), blueprint_id="residual")
        while self.slot.stage < stage:
            self.slot._enter(SeedStage(self.slot.stage + 1), "put there by the test", None)


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["SGD", "AdamW", "Adagrad", "RMSprop"])
@pytest.mark.parametrize("stage", [SeedStage.BLENDING, SeedStage.SHADOWING, SeedStage.PROBATIONARY])
def test_culling_a_seed_in_place_takes_host_and_optimizer_back(
    make: Callable[[Any], Optimizer], stage: SeedStage
) -> None:
    ride = Ride(make)
    ride.go_to(SeedStage.TRAINING)
    ride.train(3)
    ride.slot._enter(SeedStage.BLENDING, "put there by the test", None)
    host, state = fingerprint(ride.model), state_of(ride.optimizer.inner)
    for following in range(SeedStage.BLENDING, stage + 1):
        if following > SeedStage.BLENDING:
            ride.slot._enter(SeedStage(following), "put there by the test", None)
        ride.train(3)
    assert not equal_states(host, fingerprint(ride.model))
    ride.slot.cull("test")
    assert equal_states(host, fingerprint(ride.model))
    assert equal_optimizers(state, state_of(ride.optimizer.inner))
    assert ride.slot.stage is SeedStage.CULLED


@pytest.mark.parametrize("stage", [SeedStage.GERMINATED, SeedStage.TRAINING])
def test_culling_a_seed_that_is_not_in_place_changes_nothing(stage: SeedStage) -> None:
    ride = Ride(OPTIMIZERS[1])
    ride.go_to(stage)
    ride.train(3)
    host, state = fingerprint(ride.model), state_of(ride.optimizer.inner)
    ride.slot.cull("test")
    assert equal_states(host, fingerprint(ride.model))
    assert equal_optimizers(state, state_of(ride.optimizer.inner))


def test_rollback_takes_the_seed_and_its_optimizer_back_too() -> None:
    ride = Ride(OPTIMIZERS[1])
    ride.go_to(SeedStage.TRAINING)
    ride.train(5)
    ride.slot._enter(SeedStage.BLENDING, "put there by the test", None)
    seed, own = ride.slot.seed, ride.slot.optimizer
    assert seed is not None and own is not None
    weights, state = fingerprint(seed), state_of(own.optimizer)
    ride.train(20)
    assert not equal_states(weights, fingerprint(seed))
    ride.slot.rollback()
    assert equal_states(weights, fingerprint(seed))
    assert equal_optimizers(state, state_of(own.optimizer))


def test_a_rolled_back_run_continues_like_one_that_was_never_grown() -> None:
    plain, grown = Ride(OPTIMIZERS[1]), Ride(OPTIMIZERS[1])
    grown.go_to(SeedStage.BLENDING)
    random = torch.get_rng_state()
    grown.train(4)
    grown.slot.cull("test")
    for ride in (plain, grown):
        torch.set_rng_state(random)
        ride.feed = iter(batches(10, seed=5))
        ride.train(10)
    assert equal_states(fingerprint(plain.model), fingerprint(grown.model))


def test_learning_rates_stay_as_the_scheduler_left_them() -> None:
    ride = Ride(OPTIMIZERS[0])
    ride.go_to(SeedStage.BLENDING)
    ride.optimizer.param_groups[0]["lr"] = 0.025
    ride.slot.cull("test")
    assert ride.optimizer.param_groups[0]["lr"] == 0.025


def test_the_control_is_what_the_host_would_be_without_the_seed() -> None:
    plain, grown = Ride(OPTIMIZERS[1]), Ride(OPTIMIZERS[1])
    trial = Trial(loss_on, lambda model: torch.zeros(60))
    slots(grown.model).ground.trial = trial
    random = torch.get_rng_state()
    grown.go_to(SeedStage.BLENDING)
    control = grown.slot.control
    assert control is not None
    feed = batches(12, seed=3)
    for batch in feed:
        control.observe(batch, stepped=True)
    assert control.passes == 12
    assert torch.equal(random, torch.get_rng_state())
    plain.feed = iter(feed)
    plain.train(12)
    assert not slots(control.model)["norm1"].hook.gradients
    own: dict[str, Tensor] = fingerprint(control.model)
    assert equal_states(own, fingerprint(plain.model))


@pytest.mark.parametrize(
    ("limits", "clip"),
    [({"clip_norm": 0.1}, nn.utils.clip_grad_norm_), ({"clip_value": 0.01}, nn.utils.clip_grad_value_)],
    ids=["norm", "value"],
)
def test_the_control_accumulates_and_clips_as_the_loop_does(
    limits: dict[str, float], clip: Callable[..., Any]
) -> None:
    plain, grown = Ride(OPTIMIZERS[0]), Ride(OPTIMIZERS[0])
    slots(grown.model).ground.trial = Trial(loss_on, lambda model: torch.zeros(60), **limits)
    grown.go_to(SeedStage.BLENDING)
    control = grown.slot.control
    assert control is not None
    feed = batches(8, seed=3)
    plain.optimizer.zero_grad()
    random = torch.get_rng_state()
    control.stream.state = (random, ())
    for index, batch in enumerate(feed):
        control.observe(batch, stepped=index % 2 == 1)
        (loss_on(plain.model, batch) / 2).backward()
        if index % 2 == 1:
            clip(plain.model.parameters(), *limits.values())
            plain.optimizer.step()
            plain.optimizer.zero_grad()
    mine, theirs = fingerprint(control.model), fingerprint(plain.model)
    assert all(torch.allclose(value, theirs[key], atol=1e-6) for key, value in mine.items())


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["SGD", "AdamW", "Adagrad", "RMSprop"])
def test_a_host_that_is_unfrozen_while_a_seed_is_in_place_is_followed_and_taken_back(
    make: Callable[[Any], Optimizer],
) -> None:
    plain, grown = Ride(make), Ride(make)
    for ride in (plain, grown):
        ride.model.head.requires_grad_(False)
        head = {id(p) for p in ride.model.head.parameters()}
        group = ride.optimizer.param_groups[0]
        group["params"] = [p for p in group["params"] if id(p) not in head]
        for parameter in ride.model.head.parameters():
            ride.optimizer.state.pop(parameter, None)
    slots(grown.model).ground.trial = Trial(loss_on, lambda model: torch.zeros(60))
    grown.go_to(SeedStage.BLENDING)
    control, host = grown.slot.control, fingerprint(grown.model)
    state = state_of(grown.optimizer.inner)
    assert control is not None
    feed, random = batches(6, seed=3), control.stream.state
    for ride in (plain, grown):
        ride.feed = iter(feed)
    for index in range(6):
        if index == 3:
            for ride in (plain, grown):
                ride.model.head.requires_grad_(True)
                ride.optimizer.add_param_group({"params": list(ride.model.head.parameters()), "lr": 0.001})
        control.stream.state = random
        grown.train(1)
        control.observe(feed[index], stepped=True)
        assert random is not None
        torch.set_rng_state(random[0])
        plain.train(1)
    own: dict[str, Tensor] = fingerprint(control.model)
    assert equal_states(own, fingerprint(plain.model))
    grown.slot.cull("test")
    assert equal_states(host, fingerprint(grown.model))
    assert equal_optimizers(state, state_of(grown.optimizer.inner))


def test_a_seed_is_not_kept_while_the_loss_is_exploding_and_goes_with_it() -> None:
    """A seed that was just kept could not be taken back."""
    ride = Ride(OPTIMIZERS[0])
    gates, governor = ages_alone(1, heldout_examples=4), GovernorParameters(explosion_steps=3)
    growth = Growth(ride.model, ride.optimizer, Waiting(), gates=gates, governor=governor)
    for _ in range(governor.explosion_least):
        ride.train(1)
        growth.observe(1.0, next(ride.feed))
    ride.go_to(SeedStage.PROBATIONARY)
    for _ in range(2):
        ride.train(1)
        growth.observe(9.0, next(ride.feed))
        with pytest.raises(GateRefused, match=r"exploded_steps is [12], expected <= 0"):
            ride.slot.advance()
    growth.observe(9.0, next(ride.feed))
    assert ride.slot.stage is SeedStage.CULLED and ride.slot.rollbacks == 1
