"""A fault anywhere, in any stage, leaves hooks, flags and random numbers in order, and the way back exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.ground import GRADIENT_PERIOD
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.events import Event
from esper.leyline.stages import SeedStage
from tests.kasmina.lifecycle.test_rollback import equal_optimizers, state_of
from tests.kasmina.networks import (
    ConvHost,
    Recorder,
    Residual,
    Waiting,
    ages_alone,
    batches,
    conv_host,
    equal_states,
    fingerprint,
    loss_on,
    residual,
    without_host_randomness,
)

OPEN = ages_alone(1)
STAGES = [SeedStage.TRAINING, SeedStage.BLENDING, SeedStage.SHADOWING, SeedStage.PROBATIONARY]
IN_PLACE = STAGES[1:]
KINDS = [RuntimeError, KeyboardInterrupt]


class Fuse:
    """Raises when it is lit."""

    def __init__(self) -> None:
        self.kind: type[BaseException] | None = None
        self.calls = 0

    def burn(self) -> None:
        self.calls += 1
        if self.kind is not None:
            raise self.kind("planted")


class FailingBackward(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, fuse: Fuse) -> Tensor:
        context.fuse = fuse
        return x.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        context.fuse.burn()
        return gradients[0], None


class Fragile(nn.Module):
    """A residual convolution with a fuse in its forward pass and one in its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Residual(6)
        self.forward_fuse, self.backward_fuse = Fuse(), Fuse()

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = FailingBackward.apply(self.inner(x), self.backward_fuse)  # type: ignore[no-untyped-call]
        self.forward_fuse.burn()
        return grown


class FailingOutput(Recorder):
    """Fails after it has taken the event, as a full disk would."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = Fuse()

    def emit(self, event: Event) -> None:
        super().emit(event)
        self.fuse.burn()


class Run:
    """A convolutional host under way in a loop with growth; a second slot has a seed in TRAINING besides."""

    def __init__(self, stage: SeedStage, incubation: str = "straight_through") -> None:
        self.model: ConvHost = attach(
            conv_host(), ["norm1", "norm2"], batches(1)[0][0], incubation=incubation
        )
        self.optimizer = GrowthOptimizer(torch.optim.AdamW(self.model.parameters(), lr=0.01))
        self.evaluate_fuse, self.loss_fuse = Fuse(), Fuse()
        self.output = FailingOutput()
        self.growth = Growth(
            self.model,
            self.optimizer,
            Waiting(),
            loss=self.loss,
            evaluate=self.evaluate,
            gates=OPEN,
            blend=AlphaSchedule("linear", 2),
            output=self.output,
        )
        self.feed = iter(batches(100))
        self.held_out = batches(10, seed=9)
        self.slot, self.other = slots(self.model)["norm1"], slots(self.model)["norm2"]
        self.train(2)
        self.growth.step(val_loss=1.0)
        self.seed = without_host_randomness(Fragile)
        assert isinstance(self.seed, Fragile)
        self.slot.plant(self.seed, blueprint_id="fragile")
        self.other.plant(residual(), blueprint_id="residual")
        self.other.advance()
        while self.slot.stage < stage:
            if self.slot.stage is SeedStage.TRAINING:
                self.before = self.host_state()
            self.slot.advance()
            self.train(GRADIENT_PERIOD if self.slot.stage is SeedStage.TRAINING else 2)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        loss = loss_on(model, batch)
        self.loss_fuse.burn()
        return loss

    def evaluate(self, model: nn.Module) -> Tensor:
        losses = torch.stack([loss_on(model, batch) for batch in self.held_out]).repeat(6)
        self.evaluate_fuse.burn()
        return losses

    def train(self, steps: int) -> None:
        for _ in range(steps):
            batch = next(self.feed)
            self.optimizer.zero_grad()
            loss = loss_on(self.model, batch)
            loss.backward()
            self.optimizer.step()
            self.growth.observe(loss, batch)

    def host_state(self) -> tuple[dict[str, Tensor], dict[int, dict[str, Any]]]:
        return fingerprint(self.model), state_of(self.optimizer.inner)

    def flags(self) -> list[Any]:
        """All that code around a pass may set for a while."""
        found: list[Any] = [torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")]
        for module in self.model.modules():
            found += [module.training, len(module._forward_hooks)]
        found += [parameter.requires_grad for parameter in self.model.parameters()]
        for slot in (self.slot, self.other):
            found += [slot.stage, slot.hook.phase, slot.alpha, slot.hook.is_disabled]
            found += [slot.snapshot is None, slot.control is None, slot.blend is None]
            found += [p.requires_grad for p in slot.hook.trainable()]
        return [*found, set(self.growth.slots.ground.in_place)]


def suffer(run: Run, fuse: Fuse, kind: type[BaseException], act: Callable[[], object]) -> None:
    """Lights the fuse, and checks that what fails leaves every flag as it was."""
    flags, fuse.kind = run.flags(), kind
    with pytest.raises(kind, match="planted"):
        act()
    fuse.kind = None
    assert run.flags() == flags


def goes_on_cleanly(run: Run, stage: SeedStage) -> None:
    """The next step learns from one pass alone, and culling takes everything back bit for bit."""
    run.train(1)
    assert all(torch.isfinite(value).all() for value in run.host_state()[0].values())
    assert not run.slot.hook.gradients
    assert (run.slot.skipped_steps, run.other.skipped_steps) == (0, 0)
    expected = run.before if stage in IN_PLACE else run.host_state()
    run.slot.cull("test")
    weights, states = run.host_state()
    assert equal_states(weights, expected[0])
    assert equal_optimizers(states, expected[1])
    run.train(2)
    assert run.other.stage is SeedStage.TRAINING


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("where", ["forward_fuse", "backward_fuse"])
def test_a_seed_that_fails_in_a_step_can_still_be_taken_back(
    where: str, stage: SeedStage, kind: type[BaseException]
) -> None:
    run = Run(stage)
    fuse = getattr(run.seed, where)
    suffer(run, fuse, kind, lambda: run.train(1))
    run.optimizer.zero_grad()
    goes_on_cleanly(run, stage)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_loss_that_fails_in_a_control_or_a_second_pass_can_still_be_taken_back(
    stage: SeedStage, kind: type[BaseException]
) -> None:
    run = Run(stage, incubation="counterfactual")
    suffer(run, run.loss_fuse, kind, lambda: run.train(1))
    goes_on_cleanly(run, stage)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", [SeedStage.TRAINING, SeedStage.PROBATIONARY])
def test_an_evaluation_that_fails_in_a_gate_changes_nothing_at_all(
    stage: SeedStage, kind: type[BaseException]
) -> None:
    run, twin = Run(stage), Run(stage)
    random = torch.get_rng_state()
    suffer(run, run.evaluate_fuse, kind, run.slot.advance)
    assert torch.equal(random, torch.get_rng_state())
    for one in (run, twin):
        torch.set_rng_state(random)
        one.slot.advance()
        one.train(3)
    assert run.slot.stage is twin.slot.stage is SeedStage(stage + 1)
    mine, its = run.host_state(), twin.host_state()
    assert equal_states(mine[0], its[0])
    assert equal_optimizers(mine[1], its[1])
    assert [e.to_record() for e in run.output.events] == [e.to_record() for e in twin.output.events]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", IN_PLACE)
def test_an_output_that_fails_while_a_seed_is_culled_leaves_the_cull_done(
    stage: SeedStage, kind: type[BaseException]
) -> None:
    run = Run(stage)
    run.output.fuse.kind = kind
    with pytest.raises(kind):
        run.slot.cull("test")
    run.output.fuse.kind = None
    weights, states = run.host_state()
    assert equal_states(weights, run.before[0])
    assert equal_optimizers(states, run.before[1])
    assert run.slot.seed is None
    assert run.growth.slots.ground.in_place == set()
    run.train(2)


def test_a_control_keeps_the_gradients_that_wait_when_a_pass_fails() -> None:
    run, twin = Run(SeedStage.BLENDING), Run(SeedStage.BLENDING)
    for one in (run, twin):
        control = one.slot.control
        assert control is not None
        feed = batches(3, seed=4)
        control.observe(feed[0], stepped=False)
        if one is run:
            one.loss_fuse.kind = KeyboardInterrupt
            with pytest.raises(KeyboardInterrupt):
                control.observe(feed[1], stepped=False)
            one.loss_fuse.kind = None
            one.loss_fuse.calls = 0
        control.stream.restart(5)
        control.observe(feed[2], stepped=True)
    mine, its = run.slot.control, twin.slot.control
    assert mine is not None and its is not None
    own = {key: value for key, value in fingerprint(mine.model).items() if "norm" not in key}
    assert equal_states(own, {key: fingerprint(its.model)[key] for key in own})


def test_a_buffer_that_was_replaced_is_restored_too() -> None:
    run = Run(SeedStage.BLENDING)
    run.model.norm2._buffers["running_mean"] = torch.zeros(3)
    run.slot.cull("test")
    assert equal_states(fingerprint(run.model), run.before[0])
