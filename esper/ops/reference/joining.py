"""References of joined tensors."""

from __future__ import annotations

import torch


def concat(*tensors: torch.Tensor, axis: int) -> torch.Tensor:
    """`tensors` one after the other along `axis`."""
    return torch.cat(tensors, axis)


def stack(*tensors: torch.Tensor, axis: int) -> torch.Tensor:
    """`tensors` as slices along a further axis."""
    return torch.stack(tensors, axis)
