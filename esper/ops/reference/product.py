"""The reference of the matrix product."""

from __future__ import annotations

import torch


def matmul(a: torch.Tensor, b: torch.Tensor, *, transpose_a: bool, transpose_b: bool) -> torch.Tensor:
    """The product of the last two axes, each optionally swapped first."""
    return torch.matmul(a.mT if transpose_a else a, b.mT if transpose_b else b)
