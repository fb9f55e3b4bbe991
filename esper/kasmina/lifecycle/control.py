"""The control: the same host, from the moment before blending, trained on the same batches without the seed.

Only it can tell a useful seed from one that the host merely got used to. The two hosts are compared
on held-out examples, pair by pair, so that what is hard for both cancels out, and by the moving averages of
their weights: at a high learning rate, weights of two single steps differ by chance. A seed may also merely
speed the host up, as a larger learning rate would (a linear seed before a linear layer does), so the
gain is set beside what the control itself has learned in the same time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esper.kasmina.errors import MalformedEvaluation
from esper.kasmina.host.hook import Phase, hooks_of
from esper.kasmina.host.isolation import RandomStream, cuda_devices, undisturbed
from esper.kasmina.lifecycle.averaging import WINDOW, WeightAverage
from esper.kasmina.lifecycle.ranks import average

LIMIT = 1000.0
"""Ratios of a comparison stay within ±LIMIT, so that every figure of a gate can be written down."""


@dataclass(frozen=True)
class Trial:
    """How the run's loop trains and judges a model; what a second pass and the control need."""

    loss: Callable[[nn.Module, Any], Tensor]
    """The scalar loss of a model on one batch, averaged over its examples."""
    evaluate: Callable[[nn.Module], Tensor]
    """The losses of a model on the held-out examples, one for each."""
    clip_norm: float | None = None
    """The norm the loop clips the host's gradients to."""
    clip_value: float | None = None
    """The magnitude it clips each of their elements to."""

    def held_out_losses(self, model: nn.Module) -> Tensor:
        """Float64 tensor [examples] on the CPU; the model and the generators are left as they were."""
        with undisturbed(model, *hooks_of(model)), torch.no_grad():
            losses: object = self.evaluate(model)
        if not isinstance(losses, Tensor) or losses.dim() != 1 or not losses.is_floating_point():
            found = (
                f"{losses.dtype} {list(losses.shape)}"
                if isinstance(losses, Tensor)
                else type(losses).__name__
            )
            raise MalformedEvaluation(found=found)
        return losses.detach().to("cpu", torch.float64)


@dataclass(frozen=True)
class Comparison:
    """Grown against control on the same held-out examples; `gain` and `error` relative to the control's loss.

    With d_i = control loss - grown loss of example i: gain = mean(d) / mean(control loss), and
    error = sd(d) / sqrt(examples) / mean(control loss).
    """

    gain: float
    error: float
    start_loss: float
    """The mean held-out loss of both at the beginning."""
    grown_loss: float
    control_loss: float
    examples: int

    @property
    def gain_over_error(self) -> float:
        """The gain in its standard errors, within ±`LIMIT`."""
        return _bounded_ratio(self.gain, self.error)

    @property
    def gain_over_progress(self) -> float:
        """How much more than the control the grown host has learned since blending, as a share of the
        control's own progress, within ±`LIMIT`: at the limit where the control has made none."""
        return _bounded_ratio(self.control_loss - self.grown_loss, self.start_loss - self.control_loss)


def _bounded_ratio(numerator: float, denominator: float) -> float:
    """The ratio within ±`LIMIT`, whose sign is the numerator's; a denominator below 0 counts as 0."""
    if math.isnan(numerator) or math.isnan(denominator):
        return math.nan
    if abs(numerator) >= LIMIT * max(denominator, 0.0):
        return math.copysign(LIMIT, numerator) if numerator else 0.0
    return numerator / denominator


def compare(grown: Tensor, control: Tensor, start_loss: float) -> Comparison:
    """Pairs the losses of the same held-out examples: two float64 tensors [examples].

    Where the control's own loss is not finite, nothing was measured: the figures are NaN.
    """
    if grown.shape != control.shape:
        raise MalformedEvaluation(found=f"{len(grown)} losses, then {len(control)}")
    difference = control - grown
    scale = control.mean().item()
    count = len(difference)
    spread = difference.std().item() if count > 1 else math.nan
    if not scale > 0:
        return Comparison(math.nan, math.nan, start_loss, grown.mean().item(), scale, count)
    return Comparison(
        gain=difference.mean().item() / scale,
        error=spread / math.sqrt(count) / scale,
        start_loss=start_loss,
        grown_loss=grown.mean().item(),
        control_loss=scale,
        examples=count,
    )


class Control:
    """A copy of host and optimizer that trains in step with the host, in its own random stream.

    start_loss: the mean held-out loss at the beginning, of the weights as they stand, and after WINDOW steps
    of the control's averages.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        trial: Trial,
        seed: nn.Module | None = None,
        *,
        start_loss: float | None = None,
    ) -> None:
        """Copies both as they stand; `model` must not depend yet on `seed`, which is to be judged.

        `start_loss` is measured where it is not given.
        """
        self.host = model
        self.host_optimizer = optimizer
        self.trial = trial
        if start_loss is None:
            start_loss = trial.held_out_losses(model).mean().item()
        self.start_loss = start_loss
        self.model, self.optimizer = copy.deepcopy((model, optimizer))
        self.optimizer.zero_grad()
        _silence(self.model)
        self.stream = RandomStream.forked(cuda_devices(model))
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.accumulated = 0
        self.passes = self.steps = 0
        self.grown_average = WeightAverage([model] if seed is None else [model, seed])
        self.average = WeightAverage([self.model])

    def observe(self, batch: Any, *, stepped: bool) -> None:
        """Learns from the batch the host has just seen; `stepped`: the host's optimizer took a step on it.

        A pass that fails leaves the gradients as they were before it.
        """
        self._follow()
        waiting = self._gradients() if self.accumulated else []
        try:
            with self.stream.in_use(self.device), torch.enable_grad():
                loss = self.trial.loss(self.model, batch)
                if loss.requires_grad:  # a frozen host has nothing to learn without the seed
                    loss.backward()
        except BaseException:
            self.optimizer.zero_grad()
            for parameter, gradient in waiting:
                parameter.grad = gradient
            raise
        self.accumulated += 1
        self.passes += 1
        if stepped:
            self._step()

    def _follow(self) -> None:
        """Takes over what the loop has changed: modes, what is frozen, groups of the optimizer."""
        for module, mirrored in zip(self.host.modules(), self.model.modules(), strict=True):
            mirrored.training = module.training
        mirror = dict(zip(self.host.parameters(), self.model.parameters(), strict=True))
        for parameter, own in mirror.items():
            if own.requires_grad != parameter.requires_grad:
                own.requires_grad_(parameter.requires_grad)
        for group in self.host_optimizer.param_groups[len(self.optimizer.param_groups) :]:
            held = [mirror[parameter] for parameter in group["params"] if parameter in mirror]
            self.optimizer.add_param_group({**group, "params": held})

    def _gradients(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Copies of the gradients that wait for the next step."""
        groups = self.optimizer.param_groups
        return [(p, p.grad.clone()) for group in groups for p in group["params"] if p.grad is not None]

    def _step(self) -> None:
        parameters = [
            p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        if self.accumulated > 1:
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.div_(self.accumulated)
        average([p.grad for p in parameters if p.grad is not None])
        if self.trial.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.trial.clip_norm)
        if self.trial.clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self.trial.clip_value)
        for group, host_group in zip(
            self.optimizer.param_groups, self.host_optimizer.param_groups, strict=True
        ):
            group.update({key: value for key, value in host_group.items() if key != "params"})
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.accumulated = 0
        self.steps += 1
        self.grown_average.update(self.steps)
        self.average.update(self.steps)
        if self.steps == WINDOW:
            self.start_loss = self._losses().mean().item()

    def compare(self) -> Comparison:
        """The host against this control, both by their averages."""
        with self.grown_average.in_place():
            grown = self.trial.held_out_losses(self.host)
        return compare(grown, self._losses(), self.start_loss)

    def _losses(self) -> Tensor:
        with self.average.in_place():
            return self.trial.held_out_losses(self.model)


def _silence(model: nn.Module) -> None:
    """Stops the seeds that train apart in `model`: no step would ever use what they learn."""
    for hook in hooks_of(model):
        if hook.phase is Phase.LISTENING:
            hook.phase = Phase.IDLE
