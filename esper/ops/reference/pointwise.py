"""References for casts and sizes."""

from __future__ import annotations

import torch


def cast(x: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """`x` converted to `dtype`."""
    return x.to(dtype)


def size(*, value: int, dtype: torch.dtype) -> torch.Tensor:
    """The scalar tensor `value`."""
    return torch.tensor(value, dtype=dtype)
