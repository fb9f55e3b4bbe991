"""References for reductions; `axes` and `keepdims` as in torch's `dim` and `keepdim`."""

from __future__ import annotations

import torch


def sum(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The sum of `x` over `axes`."""
    return torch.sum(x, dim=axes, keepdim=keepdims)


def amax(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The greatest elements of `x` over `axes`."""
    return torch.amax(x, dim=axes, keepdim=keepdims)


def mean(x: torch.Tensor, *, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
    """The mean of `x` over `axes`."""
    return torch.mean(x, dim=axes, keepdim=keepdims)
