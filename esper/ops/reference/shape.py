"""References for shape operators."""

from __future__ import annotations

import torch

from esper.ir.errors import SizesDiffer


def reshape(x: torch.Tensor, *, shape: tuple[int, ...]) -> torch.Tensor:
    """`x` in row-major order with the sizes `shape`."""
    return x.reshape(shape)


def permute(x: torch.Tensor, *, axes: tuple[int, ...]) -> torch.Tensor:
    """`x` with its axes in the order `axes`."""
    return x.permute(axes)


def broadcast_to(x: torch.Tensor, *, shape: tuple[int, ...]) -> torch.Tensor:
    """`x` broadcast to `shape`."""
    return x.broadcast_to(shape)


def ensure_shape(x: torch.Tensor, *, shape: tuple[int, ...], because: str) -> torch.Tensor:
    """`x`. Raises `SizesDiffer` unless its sizes are `shape`."""
    if tuple(x.shape) != shape:
        raise SizesDiffer(because=because, found=list(x.shape), expected=list(shape))
    return x
