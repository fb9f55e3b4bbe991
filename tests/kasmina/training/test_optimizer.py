"""GrowthOptimizer looks like the optimizer it wraps, and steps seeds beside it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from esper.kasmina.attach import attach
from esper.kasmina.errors import OptimizerDiffers, ParametersMissing, UnsupportedOptimizer
from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.seed_optimizer import ELEMENTWISE, WARMUP_STEPS
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.optimizer import GrowthOptimizer
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


class TunedAdam(torch.optim.Adam):
    """Nobody knows what it does."""


@pytest.mark.parametrize(
    "kind", [torch.optim.LBFGS, torch.optim.Adafactor, torch.optim.Muon, torch.optim.SparseAdam, TunedAdam]
)
def test_an_optimizer_that_mixes_elements_or_is_not_known_is_refused(
    kind: type[torch.optim.Optimizer],
) -> None:
    matrix = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(UnsupportedOptimizer, match=kind.__name__) as raised:
        GrowthOptimizer(kind, [matrix])
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
    slot.optimizer.join(optimizer.inner, model)
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
        torch.equal(restored[k]["exp_avg"], v["exp_avg"])
        for k, v in saved["seeds"]["norm1"]["optimizer"]["state"].items()
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


def fossilize(slot: SeedSlot, model: nn.Module) -> None:
    """Registers the slot's seed, and has its parameters join the host's, as its last gate would."""
    optimizer = slots(model).ground.optimizer
    assert slot.seed is not None and slot.optimizer is not None and optimizer is not None
    fossils.register(model, slot.name, slot.seed)
    slot.optimizer.join(optimizer, model)
    slot.optimizer = None


@pytest.mark.parametrize("is_named", [False, True])
def test_a_fossil_follows_the_schedule_of_its_modules_group(is_named: bool) -> None:
    model = attach(conv_host(), "norm1", batches(1)[0][0])
    own = list(model.named_parameters())
    groups = [[pair for pair in own if pair[0].startswith("head") == is_head] for is_head in (True, False)]
    params = [{"params": group if is_named else [p for _, p in group]} for group in groups]
    optimizer = GrowthOptimizer(torch.optim.AdamW(params, lr=0.01))
    schedule = lr_scheduler.LambdaLR(optimizer, [lambda step: 1.0, lambda step: 0.5**step])
    slot = slots(model)["norm1"]
    slot.plant(residual(), blueprint_id="residual")
    slot.advance()
    for _ in range(4):
        steps(model, optimizer, 1)
        schedule.step()
    fossilize(slot, model)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, len(own) - 2 + 4]
    assert optimizer.param_groups[1]["lr"] == 0.01 * 0.5**4
    if is_named:
        assert optimizer.param_groups[1]["param_names"][-4:] == [
            "_esper.norm1.inner.weight",
            "_esper.norm1.inner.bias",
            "_esper.norm1.outer.weight",
            "_esper.norm1.outer.bias",
        ]
    assert optimizer.state_dict()["parameters"][1][-1] == "_esper.norm1.outer.bias"


@pytest.mark.parametrize("is_made_after", [False, True])
def test_fossils_stand_where_they_stood_whenever_the_optimizer_was_made(is_made_after: bool) -> None:
    model, optimizer, slot = growing(torch.optim.AdamW, lr=0.01)
    steps(model, optimizer, 3)
    fossilize(slot, model)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.5})
    state = copy.deepcopy(optimizer.state_dict())
    other = attach(conv_host(), "norm1", batches(1)[0][0])
    own = list(other.parameters())
    fossils.register(other, "norm1", residual())
    chosen = list(other.parameters()) if is_made_after else own
    second = GrowthOptimizer(
        torch.optim.AdamW([{"params": chosen}, {"params": [nn.Parameter(torch.ones(2))]}])
    )
    second.load_state_dict(state)
    names = {id(parameter): name for name, parameter in other.named_parameters()}
    assert [names.get(id(p)) for group in second.param_groups for p in group["params"]] == [
        *names.values(),
        None,
    ]
    assert second.param_groups[1]["lr"] == 0.5
    assert len(second.state) == len(optimizer.state)


def test_another_optimizers_state_is_refused_with_the_names() -> None:
    model, optimizer, _ = growing()
    state = optimizer.state_dict()
    steps(model, optimizer, 1)
    other = attach(conv_host(), "norm1", batches(1)[0][0])
    with pytest.raises(OptimizerDiffers, match=r"lacks `conv1.bias`, `conv1.weight`"):
        GrowthOptimizer(torch.optim.SGD(other.head.parameters(), lr=0.1)).load_state_dict(state)
    halves: Any = [
        {"params": other.head.parameters()},
        {"params": [p for n, p in other.named_parameters() if "head" not in n]},
    ]
    with pytest.raises(OptimizerDiffers, match="has 2 groups of parameters, where the state has 1"):
        GrowthOptimizer(torch.optim.SGD(halves, lr=0.1)).load_state_dict(state)
    with pytest.raises(OptimizerDiffers, match="no such seed in the slot `norm1`"):
        GrowthOptimizer(torch.optim.SGD(other.parameters(), lr=0.1)).load_state_dict(optimizer.state_dict())


def test_a_closure_steps_host_and_seed_as_a_backward_pass_before_does() -> None:
    ends = []
    for has_closure in (False, True):
        model, optimizer, slot = growing()
        for batch in batches(3):

            def closure(
                model: nn.Module = model, optimizer: GrowthOptimizer = optimizer, batch: Any = batch
            ) -> float:
                optimizer.zero_grad()
                loss = loss_on(model, batch)
                loss.backward()
                return loss.item()

            torch.manual_seed(0)
            if has_closure:
                assert optimizer.step(closure) > 0
            else:
                closure()
                optimizer.step()
        assert slot.seed is not None
        ends.append({**fingerprint(model), **{f"seed.{k}": v for k, v in fingerprint(slot.seed).items()}})
    assert equal_states(*ends)


def test_a_seed_born_late_has_the_rate_before_decay_and_a_one_cycles_peak() -> None:
    for kind, rate in (("step", 0.1), ("one_cycle", 0.4)):
        model = attach(conv_host(), "norm1", batches(1)[0][0])
        optimizer = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        schedule: lr_scheduler.LRScheduler = (
            lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
            if kind == "step"
            else lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=10)
        )
        for _ in range(5):
            steps(model, optimizer, 1)
            schedule.step()
        slot = slots(model)["norm1"]
        slot.plant(residual(), blueprint_id="residual")
        slot.advance()
        steps(model, optimizer, 1)
        assert slot.optimizer is not None and slot.optimizer.rate == rate


def test_the_state_tells_two_models_under_one_optimizer_apart() -> None:
    models = [attach(conv_host(), "norm1", batches(1)[0][0]) for _ in range(2)]
    optimizer = GrowthOptimizer(torch.optim.SGD([p for m in models for p in m.parameters()], lr=0.1))
    names = optimizer.state_dict()["parameters"][0]
    assert (names[0], names[-1]) == ("0:conv1.weight", "1:head.bias")
    optimizer.load_state_dict(optimizer.state_dict())


def test_an_optimizer_that_has_trained_already_goes_on_with_its_state_and_schedule() -> None:
    ends = []
    for is_wrapped in (False, True):
        model = conv_host()
        inner = torch.optim.AdamW(model.parameters(), lr=0.01)
        schedule = lr_scheduler.StepLR(inner, 2, gamma=0.5)
        optimizer: Any = inner
        for index, batch in enumerate(batches(6)):
            if index == 3 and is_wrapped:
                attach(model, "norm1", batch[0])
                optimizer = GrowthOptimizer(inner)
                slots(model)["norm1"].plant(residual(), blueprint_id="residual")
                slots(model)["norm1"].advance()
            torch.manual_seed(index)
            optimizer.zero_grad()
            loss_on(model, batch).backward()
            optimizer.step()
            schedule.step()
        ends.append((fingerprint(model), inner.param_groups[0]["lr"]))
    assert equal_states(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1] == 0.01 * 0.5**3


def test_a_step_that_the_scaler_skips_is_none_of_the_seeds_either() -> None:
    model, optimizer, slot = growing()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1)
    optimizer.scaler = scaler
    assert slot.seed is not None
    before = fingerprint(slot.seed)
    optimizer.zero_grad()
    scaler.scale(100.0 * loss_on(model, batches(1)[0])).backward()
    scaler.step(optimizer)
    scaler.update()
    assert (slot.age_steps, optimizer.steps) == (0, 0)
    assert equal_states(before, fingerprint(slot.seed))
    optimizer.zero_grad()
    assert not slot.hook.gradients
