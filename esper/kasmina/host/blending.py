"""How a seed enters the host, and leaves it again: alpha goes from 0 to 1 on a schedule, and back if asked.

By mode `lerp` the host's tensor h and the seed's s blend to `h + alpha (s - h)`, by `add` to `h + alpha s`.
Both ends are exact: at 0 the host's own tensor, at 1 the seed's, or the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from esper.kasmina.errors import UnknownChoice

SIGMOID_STEEPNESS = 6.0


def _sigmoid(progress: float) -> float:
    """The logistic curve over [-6, 6], stretched so that it meets 0 and 1."""
    end = math.tanh(SIGMOID_STEEPNESS / 2)
    return 0.5 + 0.5 * math.tanh(SIGMOID_STEEPNESS / 2 * (2 * progress - 1)) / end


ALPHA_SHAPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda progress: progress,
        "cosine": lambda progress: 0.5 - 0.5 * math.cos(math.pi * progress),
        "sigmoid": _sigmoid,
    }
)
"""Alpha as a function of progress in 0..1, rising from 0 to 1."""


MODES = ("lerp", "add")
"""`lerp` is for blueprints with a skip of their own (`x + f(x)`), `add` for those without one (`f(x)`)."""


def check_mode(mode: str) -> None:
    """Raises UnknownChoice unless `mode` is one of `MODES`."""
    if mode not in MODES:
        raise UnknownChoice(what="blend mode", name=mode, known=", ".join(MODES))


@dataclass(frozen=True)
class AlphaSchedule:
    """Alpha over optimizer steps, by one of `ALPHA_SHAPES`: up, hold, and if asked down again."""

    shape: str = "sigmoid"
    steps: int = 100
    """From 0 to 1; at least one."""
    hold: int = 0
    """Steps at alpha 1 before the blend counts as complete."""
    down: int | None = None
    """From 1 back to 0, the same curve backwards; None for as many as up."""

    def __post_init__(self) -> None:
        if self.shape not in ALPHA_SHAPES:
            raise UnknownChoice(what="alpha schedule", name=self.shape, known=", ".join(ALPHA_SHAPES))
        if self.steps < 1:
            raise UnknownChoice(what="length of an alpha schedule", name=self.steps, known="1, 2, 3, ...")
        if self.hold < 0:
            raise UnknownChoice(what="hold of an alpha schedule", name=self.hold, known="0, 1, 2, ...")
        if self.down is not None and self.down < 1:
            raise UnknownChoice(what="way down of an alpha schedule", name=self.down, known="1, 2, 3, ...")

    @property
    def steps_down(self) -> int:
        """Optimizer steps from alpha 1 back to 0."""
        return self.steps if self.down is None else self.down

    def at(self, step: int) -> float:
        """Alpha after `step` steps up: exactly 0 before the first, exactly 1 from the last on."""
        return self.level(step, self.steps)

    def level(self, done: int, whole: int) -> float:
        """Alpha where `done` parts of the `whole` way up lie behind: exactly 0 and 1 at its ends."""
        if done <= 0:
            return 0.0
        if done >= whole:
            return 1.0
        return min(1.0, max(0.0, ALPHA_SHAPES[self.shape](done / whole)))


@dataclass
class Blend:
    """Where a seed is on its schedule. The position is a whole number, so that the way back is exact."""

    schedule: AlphaSchedule
    position: int = 0
    """In parts of the way: steps up times steps down make the whole."""
    is_rising: bool = True
    held: int = 0
    """Steps at alpha 1 since it was reached, up to the schedule's hold."""

    @property
    def whole(self) -> int:
        return self.schedule.steps * self.schedule.steps_down

    @property
    def alpha(self) -> float:
        return self.schedule.level(self.position, self.whole)

    @property
    def steps_left(self) -> int | None:
        """Optimizer steps until the blend is complete and held; None while the seed is blended out."""
        if not self.is_rising:
            return None
        return -((self.position - self.whole) // self.schedule.steps_down) + self.schedule.hold - self.held

    def step(self) -> float:
        """Goes one optimizer step up or down; returns alpha."""
        if not self.is_rising:
            self.position = max(0, self.position - self.schedule.steps)
            self.held = 0
        elif self.position >= self.whole:
            self.held = min(self.schedule.hold, self.held + 1)
        else:
            self.position = min(self.whole, self.position + self.schedule.steps_down)
        return self.alpha


def blend(host: Tensor, seed: Tensor, alpha: Tensor, mode: str = "lerp") -> Tensor:
    """The blend of two tensors of one shape and floating dtype; alpha is a float32 scalar tensor.

    `lerp` is `torch.lerp(host, seed, alpha)`, `add` is `host + alpha * seed`. Half precisions are blended in
    float32, where alpha's steps are fine enough, and rounded once.
    """
    wide = host.dtype if host.dtype in (torch.float32, torch.float64) else torch.float32
    share = alpha.to(wide, copy=True)
    h, s = host.to(wide), seed.to(wide)
    return (torch.lerp(h, s, share) if mode == "lerp" else h + share * s).to(host.dtype)
