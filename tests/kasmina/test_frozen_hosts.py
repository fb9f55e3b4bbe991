"""A frozen host gains capacity: its seeds learn, are judged and fossilize, and it stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.exports.export import export
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.host.hook import DESCENT_WINDOW
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import LIMIT
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.events import SeedFossilized
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import (
    NarrowHost,
    PlantOnce,
    Recorder,
    batches,
    conv_host,
    equal_states,
    fingerprint,
    loss_on,
    motif_signals,
    residual,
)

EXAMPLE = batches(1)[0][0]


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


def growing(model: nn.Module, slot: str = "norm1", **options: Any) -> tuple[nn.Module, GrowthOptimizer]:
    attach(model, slot, EXAMPLE, **options)
    optimizer = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slots(model)[slot].germinate("conv_enhance")
    slots(model)[slot].advance()
    return model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> list[Tensor]:
    losses = []
    for batch in batches(steps):
        optimizer.zero_grad()
        losses.append(loss_on(model, batch))
        torch.autograd.backward(losses[-1])
        optimizer.step()
    return [loss.detach() for loss in losses]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_seed_in_a_frozen_host_learns_what_it_would_beside_a_host_that_learns(training: bool) -> None:
    free, _ = growing(conv_host())
    free.train()
    held, optimizer = growing(frozen(conv_host()))
    held.train(training)
    batch = batches(1)[0]
    torch.manual_seed(3)
    loss = loss_on(held, batch)
    torch.autograd.backward(loss)
    gradients = slots(held)["norm1"].hook.gradients
    assert gradients and all(gradient is not None for gradient in gradients)
    if training:
        torch.manual_seed(3)
        torch.autograd.backward(loss_on(free, batch))
        for ours, theirs in zip(gradients, slots(free)["norm1"].hook.gradients, strict=True):
            assert ours is not None and theirs is not None and torch.equal(ours, theirs)
    before = fingerprint(slots(held)["norm1"].hook)
    optimizer.step()
    assert not equal_states(before, fingerprint(slots(held)["norm1"].hook))
    assert all(parameter.grad is None for parameter in held.parameters())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_frozen_host_computes_and_keeps_what_it_did(training: bool) -> None:
    plain = frozen(conv_host()).train(training)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = [loss_on(plain, batch) for batch in batches(3)]
    model, optimizer = growing(frozen(conv_host()))
    torch.manual_seed(1)
    assert all(map(torch.equal, train(model.train(training), optimizer), expected))
    assert equal_states(fingerprint(model), fingerprint(plain))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_trainable_head_learns_as_it_would_without_the_slot() -> None:
    def run(grow: bool) -> dict[str, Tensor]:
        model = frozen(conv_host())
        model.get_submodule("head").requires_grad_(True)
        if grow:
            model, optimizer = growing(model)
            train(model, optimizer, 5)
        else:
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 5)
        return fingerprint(model)

    assert equal_states(run(True), run(False))


def test_an_evaluation_without_gradients_teaches_nothing() -> None:
    model, _ = growing(frozen(conv_host()))
    with torch.no_grad():
        loss_on(model.eval(), batches(1)[0])
    assert slots(model)["norm1"].hook.gradients == []


def test_batches_with_an_in_place_activation_behind_the_slot_run() -> None:
    model, optimizer = growing(frozen(conv_host()), "conv1")
    train(model, optimizer)
    assert len(slots(model)["conv1"].hook.descents) == 3 <= DESCENT_WINDOW


def mean_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


SHORT = GateParameters(training_steps=20, shadow_steps=5, probation_steps=20, loss_rise=0.5, gain=0.01)


@pytest.mark.parametrize("incubation", ["straight_through", "counterfactual", "none"])
def test_a_useful_seed_in_a_frozen_host_fossilizes(incubation: str) -> None:
    training, held_out = motif_signals(500, 1), motif_signals(200, 2)
    torch.manual_seed(0)
    model = NarrowHost()
    plain = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for rows in torch.randperm(500).split(50):
        plain.zero_grad()
        torch.autograd.backward(mean_loss(model, (training.x[rows], training.y[rows])))
        plain.step()
    frozen(model).eval()
    before = fingerprint(model)
    attach(model, "stem", training.x[:4], incubation=incubation)
    optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=5e-3))
    recorder = Recorder()
    growth = Growth(
        model, optimizer, PlantOnce(model, "stem", residual(rank=1)), loss=mean_loss,
        evaluate=held_out.losses, output=recorder, gates=SHORT, blend=AlphaSchedule(steps=5),
    )  # fmt: skip
    slot = slots(model)["stem"]
    for _ in range(20):
        model.eval()
        for rows in torch.randperm(500).split(50):
            batch = training.x[rows], training.y[rows]
            optimizer.zero_grad()
            loss = mean_loss(model, batch)
            if loss.requires_grad:
                torch.autograd.backward(loss)
            optimizer.step()
            growth.observe(loss, batch)
        growth.step()
        if slot.stage is SeedStage.FOSSILIZED:
            break
    (event,) = [event for event in recorder.events if isinstance(event, SeedFossilized)]
    assert event.improvement is not None and event.improvement > 0.01
    assert equal_states(
        before, {key: value for key, value in fingerprint(model).items() if "_esper" not in key}
    )
    (report,) = slot.reports
    if incubation != "none":
        assert report.metrics.gradient_ratio == LIMIT
    twin = export(model)
    assert torch.equal(twin.eval()(held_out.x), model.eval()(held_out.x))
    assert sum(p.requires_grad for p in model.parameters()) == len(list(slot.hook.trainable()))
