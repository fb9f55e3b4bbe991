"""The reference of Einstein summation."""

from __future__ import annotations

import torch


def einsum(*tensors: torch.Tensor, equation: str) -> torch.Tensor:
    """`torch.einsum`."""
    return torch.einsum(equation, *tensors)
