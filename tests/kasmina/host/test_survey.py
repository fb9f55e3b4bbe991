"""Looking at a host changes nothing in it, and tells which axis of a tensor a blueprint may work on."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.errors import EsperError
from esper.kasmina.attach import attach
from esper.kasmina.errors import SeedDoesNotFit
from esper.kasmina.host.layout import Layout
from esper.kasmina.lifecycle.bank import slots
from tests.kasmina.networks import equal_states, fingerprint

CHANNELS = ("conv_enhance", "depthwise")
FEATURES = ("mlp_block", "norm")


class Forgetful(nn.Module):
    """Changes all that a forward pass can change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(4, momentum=0.5), nn.Linear(4, 4)
        self.register_buffer("nothing", torch.full((3,), torch.nan))
        self.register_buffer("counter", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rows", torch.arange(3).expand(5, 3))
        self.register_buffer("cache", None, persistent=False)
        self.replaced: Tensor
        self.register_buffer("replaced", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        counter = self.get_buffer("counter")
        counter += 1
        self.replaced = torch.ones(2)
        self.cache = torch.ones(1)
        self.register_buffer("fresh", torch.ones(1))
        x = x + 0 * (random.random() + np.random.rand() + torch.rand(()))
        self.norm.train()
        return self.linear(self.norm(x))  # type: ignore[no-any-return]


def test_the_survey_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = Forgetful().eval()
    model.linear.weight.requires_grad_(False)
    assert model.linear.bias is not None
    model.linear.bias.grad = torch.full((4,), 2.0)
    buffers = {name: id(value) for name, value in model.named_buffers()}
    before = fingerprint(model), random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    attach(model, ["norm", "linear"], torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    assert equal_states(before[0], fingerprint(model))
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[3])
    assert {name: id(value) for name, value in model.named_buffers()} == buffers
    assert model._buffers["cache"] is None
    assert not any(module.training for module in model.modules())
    assert not model.linear.weight.requires_grad and model.linear.weight.grad is None
    assert torch.equal(model.linear.bias.grad, torch.full((4,), 2.0))


class Axes(nn.Module):
    """Maps, tokens, and tensors whose axes a host has moved by functions of its own; 6 of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.tokens, self.channels_last = Tokens(), nn.LayerNorm(6)
        self.pooled, self.head, self.sums = nn.AdaptiveAvgPool2d(3), nn.Linear(6, 6), Sum()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        x = self.pooled(x)
        y = self.channels_last(x.movedim(1, -1)).movedim(-1, 1)
        return self.sums(self.head(self.tokens(x + y)))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """[N, C, H, W] to [N, H·W, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 1))


@pytest.mark.parametrize(
    ("slot", "layout"),
    [
        ("conv", "channels"),
        ("norm", "channels"),
        ("act", "channels"),
        ("pooled", "channels"),
        ("channels_last", "features"),
        ("tokens", "features"),
        ("head", "features"),
        ("sums", None),
    ],
)
def test_the_layout_is_that_of_the_module_that_made_the_tensor(slot: str, layout: Layout | None) -> None:
    for side in (4, 6):  # 6 is the number of channels too
        probe = slots(attach(Axes(), slot, torch.zeros(2, 3, side, side)))[slot].probe
        assert probe.layout == layout, (probe.shape, probe.layout)


def fits(model: nn.Module, example: Tensor) -> set[str]:
    found = set()
    for blueprint in (*CHANNELS, *FEATURES):
        slot = slots(attach(model, "0", example))["0"]
        try:
            slot.germinate(blueprint)
            found.add(blueprint)
        except EsperError:
            assert slot.stage.name == "DORMANT"
        for handle in list(model[0]._forward_hooks):  # type: ignore[index]
            del model[0]._forward_hooks[handle]  # type: ignore[index]
        del model.__dict__["_esper_slots"]
    return found


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(3, 6, 1), (2, 3, 6, 6), CHANNELS),
        (nn.Conv1d(3, 6, 1), (2, 3, 6), CHANNELS),
        (nn.Conv3d(3, 6, 1), (2, 3, 4, 4, 4), CHANNELS),
        (nn.Linear(3, 8), (2, 8, 3), FEATURES),
        (nn.Linear(3, 8), (2, 5, 7, 3), FEATURES),
        (nn.Embedding(9, 8), (2, 8), FEATURES),
    ],
)
def test_blueprints_fit_by_the_axis_that_they_work_on(
    module: nn.Module, shape: tuple[int, ...], expected: tuple[str, ...]
) -> None:
    example = torch.zeros(shape, dtype=torch.int64 if isinstance(module, nn.Embedding) else torch.float32)
    assert fits(nn.Sequential(module, nn.Identity()), example) == set(expected)


def test_a_misfit_names_the_slot_its_tensor_and_the_axis() -> None:
    model = attach(nn.Sequential(nn.Linear(3, 8), nn.ReLU()), "0", torch.zeros(2, 5, 3))
    with pytest.raises(SeedDoesNotFit) as raised:
        slots(model)["0"].germinate("depthwise")
    assert str(raised.value) == (
        "`depthwise` does not fit the slot `0`, whose tensor is float32 [2, 5, 8]: its `channels` would be "
        "axis 1, whose size may change from batch to batch, and the features are on axis 2"
    )


def test_parameters_that_are_given_are_the_callers_business() -> None:
    model = attach(nn.Sequential(nn.Linear(3, 8), nn.ReLU()), "0", torch.zeros(2, 5, 3))
    slots(model)["0"].germinate("depthwise", channels=5)
    assert slots(model)["0"].params > 0


@pytest.mark.parametrize("blueprint", [*FEATURES, "attention"])
def test_a_seed_takes_batches_of_another_size_and_length(blueprint: str) -> None:
    seed: Any = slots(attach(nn.Sequential(nn.Linear(3, 8), nn.ReLU()), "0", torch.zeros(2, 5, 3)))[
        "0"
    ].germinate(blueprint)
    for shape in [(1, 1, 8), (7, 3, 8), (2, 30, 8)]:
        assert seed(torch.zeros(shape)).shape == shape
