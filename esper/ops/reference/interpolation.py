"""References of interpolation and of rearrangements between channels and space; `x` [N, C, ...S]."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esper.ops.reference.adjoint import adjoint

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def interpolate(x: torch.Tensor, *, scale: int, size: tuple[int, ...], mode: str) -> torch.Tensor:
    """`x` with its axes S `scale` times as large, or of `size`."""
    sizes = [axis * scale for axis in x.shape[2:]] if scale else list(size)
    return F.interpolate(x, sizes, mode=_LINEAR[x.dim() - 2] if mode == "linear" else mode)


def interpolate_backward(
    g: torch.Tensor, *, shape: tuple[int, ...], scale: int, size: tuple[int, ...], mode: str
) -> torch.Tensor:
    """The gradient of x, of `shape`."""
    return adjoint(lambda x: interpolate(x, scale=scale, size=size, mode=mode), g, shape)


def pixel_shuffle(x: torch.Tensor, *, factor: int) -> torch.Tensor:
    """[N, C * factor ** axes, ...S] to [N, C, ...(S * factor)]."""
    axes = x.dim() - 2
    apart = x.reshape(x.shape[0], -1, *[factor] * axes, *x.shape[2:])
    order = [place for axis in range(axes) for place in (2 + axes + axis, 2 + axis)]
    return apart.permute(0, 1, *order).reshape(x.shape[0], -1, *(size * factor for size in x.shape[2:]))


def pixel_unshuffle(x: torch.Tensor, *, factor: int) -> torch.Tensor:
    """[N, C, ...S] to [N, C * factor ** axes, ...(S / factor)]."""
    axes = x.dim() - 2
    apart = x.reshape(*x.shape[:2], *(part for size in x.shape[2:] for part in (size // factor, factor)))
    order = [*range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2)]
    return apart.permute(0, 1, *order).reshape(x.shape[0], -1, *(size // factor for size in x.shape[2:]))


def channel_shuffle(x: torch.Tensor, *, groups: int) -> torch.Tensor:
    """Channel `g * n + i` to `i * groups + g`."""
    apart = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    return apart.transpose(1, 2).reshape(x.shape)
