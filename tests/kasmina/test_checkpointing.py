"""Activation checkpointing runs parts of the host twice; a seed in them learns once, as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esper.kasmina.attach import attach
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import (
    batches,
    equal_states,
    fingerprint,
    loss_on,
    residual,
    without_host_randomness,
)

EXAMPLE = batches(1)[0][0]


class Block(nn.Module):
    """A convolution, a normalisation and an in-place activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.act = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.act(self.norm(self.conv(x))))  # type: ignore[no-any-return]


class Checkpointed(nn.Module):
    """Two blocks; `rule` is how checkpointing runs them, None for not at all."""

    def __init__(self, rule: bool | None) -> None:
        super().__init__()
        self.first, self.second, self.head = Block(3), Block(6), nn.Linear(6, 4)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.first, self.second):
            # The reentrant kind learns nothing of a region whose inputs need no gradient.
            x = (
                block(x)
                if self.rule is None
                else checkpoint(block, x.requires_grad_(), use_reentrant=self.rule)
            )
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def dropping() -> nn.Module:
    return without_host_randomness(
        lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.Dropout(0.5))
    )


def trained(
    rule: bool | None, plant: Callable[[Any], Any] | None, stage: SeedStage = SeedStage.TRAINING
) -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    model = attach(Checkpointed(rule), "second.norm", EXAMPLE)
    optimizer = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)["second.norm"]
    if plant is not None:
        plant(slot)
        slot.advance()
        if stage is SeedStage.BLENDING:
            slot._enter(stage, "put there by the test", None)
            slot.hook.set_alpha(1.0)
    for batch in batches(5):
        optimizer.zero_grad()
        torch.autograd.backward(loss_on(model, (batch[0].clone(), batch[1])))
        optimizer.step()
    return model, fingerprint(model), {} if slot.seed is None else fingerprint(slot.seed)


SEEDS = {
    "batch_norm": lambda slot: slot.germinate("conv_enhance"),
    "planted": lambda slot: slot.plant(residual(), blueprint_id="residual"),
    "dropout": lambda slot: slot.plant(dropping(), blueprint_id="dropping"),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", [True, False], ids=["reentrant", "saved_tensors"])
def test_a_training_seed_learns_once_of_a_block_that_runs_twice(rule: bool, seed: str) -> None:
    _, host, learned = trained(None, SEEDS[seed])
    model, again, learned_again = trained(rule, SEEDS[seed])
    assert equal_states(host, again)
    assert equal_states(learned, learned_again)
    assert len(slots(model)["second.norm"].hook.descents) == 5
    assert equal_states(trained(rule, None)[1], again)


@pytest.mark.parametrize("rule", [True, False], ids=["reentrant", "saved_tensors"])
@pytest.mark.parametrize("seed", ["batch_norm", "planted"])
def test_a_seed_in_place_is_computed_again_as_it_was(rule: bool, seed: str) -> None:
    _, host, grown = trained(None, SEEDS[seed], SeedStage.BLENDING)
    _, again, grown_again = trained(rule, SEEDS[seed], SeedStage.BLENDING)
    assert equal_states(host, again)
    assert equal_states(grown, grown_again)


@pytest.mark.parametrize("rule", [True, False], ids=["reentrant", "saved_tensors"])
def test_a_planted_seed_with_dropout_drops_the_same_when_it_is_computed_again(rule: bool) -> None:
    _, host, _ = trained(None, SEEDS["dropout"], SeedStage.BLENDING)
    _, again, _ = trained(rule, SEEDS["dropout"], SeedStage.BLENDING)
    assert equal_states(host, again)
