"""Moving averages of weights: what a host is worth apart from where its last steps happen to have left it.

At a high learning rate the loss of the weights swings from step to step; that of their average does not, and
is near what the weights reach once the rate has decayed (Polyak and Juditsky 1992; Izmailov et al. 2018,
arXiv:1803.05407).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from esper.kasmina.host.isolation import shares_memory

WINDOW = 20
"""Steps: the first so many are averaged evenly, and each later one has a share of 1 / WINDOW."""


class WeightAverage:
    """The moving averages of all parameters that learn and of all buffers of some modules, each tensor once.

    Kept in float32, or as they are where that is wider. Counts are not averaged, nor is a frozen parameter,
    which is its own average. A buffer that has got another shape, and a parameter that begins to learn, begin
    anew with the value they have.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        """Until the first `update` the averages are the values as they stand."""
        self.modules = tuple(modules)
        self.values = {name: _copy(tensor) for name, tensor in self._tensors().items()}
        """By the module's index and the tensor's name in it."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the values as they stand after step number `step`, counted from 1."""
        before, self.values = self.values, {}
        for name, tensor in self._tensors().items():
            value = before.get(name)
            if value is None or value.shape != tensor.shape:
                self.values[name] = _copy(tensor)
                continue
            self.values[name] = value
            present = tensor.to(value.dtype)
            value.lerp_(present, 1.0 / min(step, WINDOW))
            if not tensor.requires_grad:  # between two equal infinities, as of a mask, lerp finds no number
                value.copy_(torch.where(value.isnan(), present, value))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the modules hold the averages; on any exit, bit for bit what they held before."""
        held = {name: tensor for name, tensor in self._tensors().items() if self._fits(name, tensor)}
        before = [tensor.detach().clone() for tensor in held.values()]
        try:
            _write(held.values(), (self.values[name] for name in held))
            yield
        finally:
            _write(held.values(), before)

    def _fits(self, name: str, tensor: Tensor) -> bool:
        return name in self.values and self.values[name].shape == tensor.shape

    def _tensors(self) -> dict[str, Tensor]:
        """Looked up each time: a module may put another tensor in a buffer's place."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for index, module in enumerate(self.modules):
            learning = ((name, p) for name, p in module.named_parameters() if p.requires_grad)
            for name, tensor in chain(learning, module.named_buffers()):
                is_count = not (tensor.is_floating_point() or tensor.is_complex())
                if id(tensor) not in seen and not is_count and not shares_memory(tensor):
                    found[f"{index}.{name}"] = tensor
                seen.add(id(tensor))
        return found


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)


@torch.no_grad()
def _write(tensors: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
