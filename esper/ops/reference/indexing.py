"""References of reading by indices."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def embedding(indices: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The rows of `weight` that `indices` name."""
    return F.embedding(indices, weight)


def embedding_backward(g: torch.Tensor, indices: torch.Tensor, *, rows: int) -> torch.Tensor:
    """Each row's gradient, the sum of those of its uses."""
    table = g.new_zeros((rows, g.shape[-1]))
    return table.index_add(0, indices.reshape(-1), g.reshape(-1, g.shape[-1]))


def gather(x: torch.Tensor, indices: torch.Tensor, *, axis: int) -> torch.Tensor:
    """The elements of `x` along `axis` that `indices` name."""
    return torch.gather(x, axis, indices)


def gather_backward(g: torch.Tensor, indices: torch.Tensor, *, axis: int, size: int) -> torch.Tensor:
    """The gradient of x, with `size` elements along `axis`."""
    shape = list(g.shape)
    shape[axis] = size
    return g.new_zeros(shape).scatter_add(axis, indices, g)


def one_hot(indices: torch.Tensor, *, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """One at each index of the last axis, zero elsewhere."""
    return F.one_hot(indices, classes).to(dtype)


def arange(*, size: int, dtype: torch.dtype) -> torch.Tensor:
    """The numbers from 0 to `size - 1`."""
    return torch.arange(size, dtype=dtype)
