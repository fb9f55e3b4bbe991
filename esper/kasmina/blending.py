"""How a seed enters the host: `host + alpha (seed - host)`, alpha going from 0 to 1 on a schedule.

Both ends are exact: at 0 the host's own tensor, at 1 the seed's.
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


@dataclass(frozen=True)
class AlphaSchedule:
    """Alpha over `steps` optimizer steps, by one of `ALPHA_SHAPES`; at least one step."""

    shape: str = "sigmoid"
    steps: int = 100

    def __post_init__(self) -> None:
        if self.shape not in ALPHA_SHAPES:
            raise UnknownChoice(what="alpha schedule", name=self.shape, known=", ".join(ALPHA_SHAPES))
        if self.steps < 1:
            raise UnknownChoice(what="length of an alpha schedule", name=self.steps, known="1, 2, 3, ...")

    def at(self, step: int) -> float:
        """Alpha after `step` steps: exactly 0 before the first, exactly 1 from the last on."""
        if step <= 0:
            return 0.0
        if step >= self.steps:
            return 1.0
        return min(1.0, max(0.0, ALPHA_SHAPES[self.shape](step / self.steps)))


def blend(host: Tensor, seed: Tensor, alpha: Tensor) -> Tensor:
    """`torch.lerp(host, seed, alpha)`: tensors of one shape and floating dtype, alpha a float32 scalar.

    Half precisions are blended in float32, where alpha's steps are fine enough, and rounded once.
    """
    if host.dtype in (torch.float32, torch.float64):
        return torch.lerp(host, seed, alpha.to(host.dtype, copy=True))
    return torch.lerp(host.float(), seed.float(), alpha.clone()).to(host.dtype)
