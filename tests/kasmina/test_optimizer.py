"""GrowthOptimizer looks like the optimizer it wraps, and steps seeds beside it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from esper.kasmina.attach import attach
from esper.kasmina.bank import slots
from esper.kasmina.errors import ParametersMissing, UnsupportedOptimizer
from esper.kasmina.optimizer import GrowthOptimizer
from esper.kasmina.seed_optimizer import ELEMENTWISE, WARMUP_STEPS
from esper.kasmina.slot import SeedSlot
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import ConvHost, batches, conv_host, equal_states, fingerprint, loss_on, residual


def growing(
    kind: type[torch.optim.Optimizer] = torch.optim.SGD, lr: float = 0.1
) -> tuple[ConvHost, GrowthOptimizer, SeedSlot]:
    model = attach(conv_host(), "norm1", batches(1)[0][0])
    optimizer = GrowthOptimizer(kind, model.parameters(), lr=lr)
    slot = slots(model)["norm1"]
    slot.plant(residual(), blueprint_id="residual")
    slot.advance()
    assert slot.stage is SeedStage.TRAINING
    return model, optimizer, slot


def steps(model: nn.Module, optimizer: GrowthOptimizer, count: int) -> None:
    for batch in batches(count):
        optimizer.zero_grad()
        loss_on(model, batch).backward()
        optimizer.step()


def test_it_shows_the_hosts_groups_alone() -> None:
    model, optimizer, _ = growing()
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is optimizer.inner.param_groups
    shown = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert shown == [id(p) for p in model.parameters()]


@pytest.mark.parametrize("kind", ELEMENTWISE, ids=lambda kind: kind.__name__)
def test_every_elementwise_optimizer_trains_a_seed(kind: type[torch.optim.Optimizer]) -> None:
    model, optimizer, slot = growing(kind, lr=0.01)
    assert slot.seed is not None
    before = fingerprint(slot.seed)
    steps(model, optimizer, 3)
    assert not equal_states(before, fingerprint(slot.seed))
    assert (slot.age_steps, slot.skipped_steps) == (3, 0)


def test_an_optimizer_that_mixes_parameters_is_refused() -> None:
    with pytest.raises(UnsupportedOptimizer, match="LBFGS") as raised:
        GrowthOptimizer(torch.optim.LBFGS(conv_host().parameters()))
    assert "AdamW" in raised.value.help_text


def test_a_seeds_rate_warms_up_by_its_own_age_whatever_the_hosts_schedule() -> None:
    model, optimizer, slot = growing(lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    rates = []
    for _ in range(WARMUP_STEPS + 2):
        steps(model, optimizer, 1)
        scheduler.step()
        assert slot.optimizer is not None
        rates.append(slot.optimizer.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.1 / WARMUP_STEPS)
    assert rates[-2:] == [0.1, 0.1]
    assert optimizer.param_groups[0]["lr"] < 1e-5


def test_a_fossilized_seed_joins_the_hosts_group_with_its_state_and_leaves_the_others() -> None:
    model, optimizer, slot = growing(torch.optim.AdamW, lr=0.01)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 50)
    steps(model, optimizer, 5)
    assert slot.optimizer is not None
    others = copy.deepcopy(list(optimizer.state.values()))
    exp_avg = [state["exp_avg"].clone() for state in slot.optimizer.optimizer.state.values()]
    slot.optimizer.join(optimizer.inner)
    assert len(optimizer.param_groups) == 1
    joined = list(optimizer.state.values())
    assert all(torch.equal(a["exp_avg"], b["exp_avg"]) for a, b in zip(others, joined, strict=False))
    assert all(torch.equal(a, b["exp_avg"]) for a, b in zip(exp_avg, joined[len(others) :], strict=True))
    steps(model, optimizer, 1)
    scheduler.step()


def test_zero_grad_forgets_what_the_seed_has_stashed() -> None:
    model, optimizer, slot = growing()
    loss_on(model, batches(1)[0]).backward()
    assert slot.hook.gradients
    optimizer.zero_grad()
    assert not slot.hook.gradients


def test_the_hosts_gradients_never_hold_the_seeds() -> None:
    model, _, slot = growing()
    loss_on(model, batches(1)[0]).backward()
    assert all(p.grad is None for p in slot.hook.trainable())


def test_a_loss_scale_does_not_reach_the_seed() -> None:
    weights = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=4096.0)):
        model, optimizer, slot = growing(lr=0.1)
        optimizer.scaler = scaler
        for batch in batches(5):
            optimizer.zero_grad()
            loss = loss_on(model, batch)
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        assert slot.seed is not None
        weights.append(fingerprint(slot.seed))
    assert equal_states(*weights)


def test_an_optimizer_made_before_attaching_finds_the_seed() -> None:
    model = conv_host()
    optimizer = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    attach(model, "norm1", batches(1)[0][0])
    steps(model, optimizer, 1)
    assert slots(model).ground.optimizer is optimizer.inner


def test_state_dicts_round_trip_and_take_a_plain_optimizers() -> None:
    model, optimizer, slot = growing(torch.optim.AdamW, lr=0.01)
    steps(model, optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    assert list(saved["seeds"]) == ["norm1"]
    steps(model, optimizer, 3)
    optimizer.load_state_dict(saved)
    assert slot.optimizer is not None
    restored = slot.optimizer.optimizer.state_dict()["state"]
    assert all(
        torch.equal(restored[k]["exp_avg"], v["exp_avg"]) for k, v in saved["seeds"]["norm1"]["state"].items()
    )
    optimizer.load_state_dict({key: saved[key] for key in ("state", "param_groups")})


def test_a_class_without_parameters_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(ParametersMissing) as raised:
        GrowthOptimizer(torch.optim.AdamW)
    assert raised.value.help_text == "GrowthOptimizer(AdamW(model.parameters()))"


def test_of_two_optimizers_over_one_model_the_last_made_trains_its_seeds() -> None:
    model, first, slot = growing()
    second = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.01))
    assert not list(first.banks())
    steps(model, second, 2)
    assert slot.age_steps == 2


def test_a_bank_is_adopted_by_the_optimizer_that_asks_for_it() -> None:
    model, first, _ = growing()
    second = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.01))
    assert first.adopt(slots(model))
    assert list(first.banks()) == [slots(model)]
    assert not list(second.banks())
    assert not GrowthOptimizer(torch.optim.SGD(conv_host().parameters(), lr=0.01)).adopt(slots(model))
