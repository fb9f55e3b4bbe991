"""Moving averages of weights: what a host is worth apart from where its last steps happen to have left it.

At a high learning rate the loss of the weights swings from step to step; that of their average does not, and
is near what the weights reach once the rate has decayed (Polyak and Juditsky 1992; Izmailov et al. 2018,
arXiv:1803.05407).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

WINDOW = 20
"""Steps: the first so many are averaged evenly, and each later one has a share of 1 / WINDOW."""


class WeightAverage:
    """The moving averages of all floating-point parameters and buffers of some modules, each tensor once.

    Kept in float32, float64 where they are float64. Other buffers, such as counts, are not averaged.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        """Until the first `update` the averages are the values as they stand."""
        places = {
            id(tensor): (held, name)
            for root in modules
            for module in root.modules()
            for held in (module._parameters, module._buffers)
            for name, tensor in held.items()
            if tensor is not None and tensor.is_floating_point()
        }
        self._places: list[tuple[dict[str, Any], str]] = list(places.values())
        self.values = [_copy(tensor) for tensor in self._tensors()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the values as they stand after step number `step`, counted from 1."""
        for value, tensor in zip(self.values, self._tensors(), strict=True):
            value.lerp_(tensor.to(value.dtype), 1.0 / min(step, WINDOW))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the modules hold the averages; on any exit, bit for bit what they held before."""
        tensors = self._tensors()
        before = [tensor.detach().clone() for tensor in tensors]
        _write(tensors, self.values)
        try:
            yield
        finally:
            _write(tensors, before)

    def _tensors(self) -> list[Tensor]:
        """Looked up each time: a module may put another tensor in a buffer's place."""
        return [held[name] for held, name in self._places]


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)


@torch.no_grad()
def _write(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
