"""References of padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esper.ops.reference.adjoint import adjoint


def pad(x: torch.Tensor, *, pad: tuple[int, ...], mode: str, value: float) -> torch.Tensor:
    """`x` with `pad[0]` elements before and `pad[1]` after its last axis, and so on towards the first."""
    if mode == "constant":
        return F.pad(x, list(pad), value=value)
    for index in range(len(pad) // 2):
        axis = x.dim() - 1 - index
        before, after = pad[2 * index : 2 * index + 2]
        places = _places(x.shape[axis], before, after, mode).to(x.device)
        x = x.index_select(axis, places)
    return x


def pad_backward(g: torch.Tensor, *, shape: tuple[int, ...], pad: tuple[int, ...], mode: str) -> torch.Tensor:
    """The gradient of x, of `shape`."""

    def padded(x: torch.Tensor) -> torch.Tensor:
        return _pad(x, pad=pad, mode=mode, value=0.0)

    return adjoint(padded, g, shape)


_pad = pad


def _places(size: int, before: int, after: int, mode: str) -> torch.Tensor:
    """Which elements of an axis stand on the padded axis."""
    places = torch.arange(-before, size + after)
    if mode == "replicate":
        return places.clamp(0, size - 1)
    if mode == "circular":
        return places.remainder(size)
    places = places.remainder(max(2 * size - 2, 1))
    return torch.where(places >= size, 2 * size - 2 - places, places)
