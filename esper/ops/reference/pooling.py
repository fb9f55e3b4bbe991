"""References of pooling: `x` [N, C, ...S], one to three axes S, and windows of equal sides."""

from __future__ import annotations

import torch
import torch.nn.functional as F

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_ADAPTIVE_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
_ADAPTIVE_AVERAGE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def max_pool(x: torch.Tensor, *, kernel: int, stride: int, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The greatest element of each window, and its place among the elements of S in row-major order."""
    y, indices = _MAX[x.dim() - 2](x, kernel, stride or kernel, padding, return_indices=True)
    return y, indices


def max_pool_result(x: torch.Tensor, *, kernel: int, stride: int, padding: int) -> torch.Tensor:
    """The greatest element of each window."""
    y: torch.Tensor = _MAX[x.dim() - 2](x, kernel, stride or kernel, padding)
    return y


def max_pool_backward(
    g: torch.Tensor, x: torch.Tensor, *, kernel: int, stride: int, padding: int
) -> torch.Tensor:
    """Each gradient added to the element that its window found the greatest."""
    return _scattered(g, x, max_pool(x, kernel=kernel, stride=stride, padding=padding)[1])


def adaptive_max_pool(x: torch.Tensor, *, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `max_pool`, with `size` windows along each axis that together cover it."""
    y, indices = _ADAPTIVE_MAX[x.dim() - 2](x, size, return_indices=True)
    return y, indices


def adaptive_max_pool_result(x: torch.Tensor, *, size: int) -> torch.Tensor:
    """The greatest element of each window."""
    y: torch.Tensor = _ADAPTIVE_MAX[x.dim() - 2](x, size)
    return y


def adaptive_max_pool_backward(g: torch.Tensor, x: torch.Tensor, *, size: int) -> torch.Tensor:
    """Each gradient added to the element that its window found the greatest."""
    return _scattered(g, x, adaptive_max_pool(x, size=size)[1])


def _scattered(g: torch.Tensor, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros_like(x, memory_format=torch.contiguous_format).flatten(2)
    return rows.scatter_add_(2, indices.flatten(2), g.flatten(2)).reshape(x.shape)


def avg_pool(
    x: torch.Tensor, *, kernel: int, stride: int, padding: int, count_include_pad: bool
) -> torch.Tensor:
    """The mean of each window."""
    return _AVERAGE[x.dim() - 2](
        x, kernel, stride or kernel, padding, False, count_include_pad=count_include_pad
    )


def avg_pool_backward(
    g: torch.Tensor,
    *,
    shape: tuple[int, ...],
    kernel: int,
    stride: int,
    padding: int,
    count_include_pad: bool,
) -> torch.Tensor:
    """Each gradient in equal shares for the elements of its window; of `shape`."""
    axes = len(shape) - 2
    x = g.new_empty(1).expand(shape)
    sides = [[value] * axes for value in (kernel, stride or kernel, padding)]
    if axes == 1:  # torch has a kernel for two and for three axes
        g, x = g.unsqueeze(2), x.unsqueeze(2)
        sides = [[1, kernel], [1, stride or kernel], [0, padding]]
    run = torch.ops.aten.avg_pool3d_backward if axes == 3 else torch.ops.aten.avg_pool2d_backward
    found: torch.Tensor = run(g.contiguous(), x, *sides, False, count_include_pad, None)
    return found.reshape(shape)


def adaptive_avg_pool(x: torch.Tensor, *, size: int) -> torch.Tensor:
    """The means of `size` windows along each axis that together cover it."""
    return _ADAPTIVE_AVERAGE[x.dim() - 2](x, size)


def adaptive_avg_pool_backward(g: torch.Tensor, *, shape: tuple[int, ...], size: int) -> torch.Tensor:
    """Each gradient in equal shares for the elements of its window; of `shape`."""
    x = g.new_empty(1).expand(shape)
    if len(shape) == 3:
        g, x = g.unsqueeze(2), x.unsqueeze(2)
    aten = torch.ops.aten
    run = aten._adaptive_avg_pool3d_backward if len(shape) == 5 else aten._adaptive_avg_pool2d_backward
    found: torch.Tensor = run(g.contiguous(), x.contiguous())
    return found.reshape(shape)


def global_avg_pool(x: torch.Tensor, *, keepdims: bool) -> torch.Tensor:
    """The mean of each channel."""
    return x.mean(tuple(range(2, x.dim())), keepdim=keepdims)


def global_max_pool(x: torch.Tensor, *, keepdims: bool) -> torch.Tensor:
    """The greatest element of each channel."""
    return x.amax(tuple(range(2, x.dim())), keepdim=keepdims)
