"""References of gated linear units: the second half of an axis is the gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def glu(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`a * sigmoid(b)`."""
    return F.glu(x, axis)


def swiglu(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`a * silu(b)`."""
    a, b = x.chunk(2, axis)
    return a * F.silu(b)


def geglu(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`a * gelu(b)`, with the exact GELU."""
    a, b = x.chunk(2, axis)
    return a * F.gelu(b)


def reglu(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`a * relu(b)`."""
    a, b = x.chunk(2, axis)
    return a * F.relu(b)
