"""Models that nobody here made take slots, grow and are exported, and notice nothing before the blend."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from esper.kasmina.attach import attach, detach
from esper.kasmina.exports.export import export
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Comparison
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.hosts import HOSTS, Host, loss_of, run
from tests.kasmina.networks import equal_states, fingerprint

BATCH = (3, 5)
"""Size and length of the batches in training; attached with others."""
pytestmark = [
    pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS),
    # Torch says so of its own encoder.
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]


def attached(host: Host) -> tuple[nn.Module, SeedSlot]:
    model = attach(host.model(), host.slot, host.batch(2, 4), output=host.output)
    (slot,) = slots(model).values()
    return model, slot


def train(model: nn.Module, optimizer: torch.optim.Optimizer, host: Host, steps: int = 3) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss_of(model, host.batch(*BATCH)))
        optimizer.step()


def enter(slot: SeedSlot, *stages: SeedStage) -> None:
    """Past the gates, which ask for age and gain."""
    for stage in stages:
        slot.comparison = Comparison(0.1, 0.01, 1.0, 0.9, 1.0, 100)
        slot._enter(stage, "put there by the test", None)


def move(slot: SeedSlot) -> None:
    """Takes the seed's zero-initialised projection away from zero."""
    assert slot.seed is not None
    with torch.no_grad():
        for parameter in slot.seed.parameters():
            parameter.add_(0.05 * torch.ones_like(parameter))


def optimizer_of(model: nn.Module) -> GrowthOptimizer:
    return GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=0.01))


def outputs(model: nn.Module, batch: Any) -> Tensor:
    torch.manual_seed(2)
    return run(model, batch).detach()


def test_a_training_seed_learns_and_the_host_never_notices(host: Host) -> None:
    plain = host.model()
    train(plain, torch.optim.AdamW(plain.parameters(), lr=0.01), host)
    model, slot = attached(host)
    seed = slot.germinate(host.blueprint)
    slot.advance()
    before = fingerprint(seed)
    train(model, optimizer_of(model), host)
    assert equal_states(fingerprint(plain), fingerprint(model))
    assert not equal_states(before, fingerprint(seed))
    for mode in (True, False):
        for size in (BATCH, (2, 4)):
            batch = host.batch(*size)
            assert torch.equal(outputs(plain.train(mode), batch), outputs(model.train(mode), batch))
    assert all(len(module._forward_hooks) <= 1 for module in model.modules())
    detach(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_seed_in_place_learns_with_the_host_and_is_exported(host: Host) -> None:
    model, slot = attached(host)
    optimizer = optimizer_of(model)
    seed = slot.germinate(host.blueprint)
    slot.advance()
    enter(slot, SeedStage.BLENDING)
    plain = outputs(model.eval(), host.batch(*BATCH))
    move(slot)
    slot.hook.set_alpha(0.5)
    before = fingerprint(seed)
    train(model.train(), optimizer, host)
    assert not equal_states(before, fingerprint(seed))
    assert not torch.equal(outputs(model.eval(), host.batch(*BATCH)), plain)
    enter(slot, SeedStage.SHADOWING, SeedStage.PROBATIONARY, SeedStage.FOSSILIZED)
    slot.hook.set_alpha(1.0)
    train(model.train(), optimizer, host, steps=1)
    twin = export(model)
    for mode in (True, False):
        for size in (BATCH, (2, 4)):
            batch = host.batch(*size)
            assert torch.equal(outputs(twin.train(mode), batch), outputs(model.train(mode), batch))


def test_copies_averages_and_dtypes_stay_as_they_were(host: Host) -> None:
    model, slot = attached(host)
    slot.germinate(host.blueprint)
    slot.advance()
    names = list(host.model().state_dict())
    assert list(model.state_dict()) == names
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    train(model, optimizer_of(model), host, steps=1)
    average.update_parameters(model)
    assert [name.removeprefix("module.") for name in average.state_dict() if name != "n_averaged"] == names
    twin = copy.deepcopy(model)
    assert slots(twin)[slot.name].seed is not slot.seed
    assert torch.equal(outputs(twin, host.batch(*BATCH)), outputs(model, host.batch(*BATCH)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.autograd.backward(loss_of(model, host.batch(*BATCH)))
    assert len(slot.hook.gradients) > 0
