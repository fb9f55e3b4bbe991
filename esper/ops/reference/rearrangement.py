"""References of the shorthands for views; axes may be negative."""

from __future__ import annotations

import torch


def squeeze(x: torch.Tensor, *, axes: tuple[int, ...]) -> torch.Tensor:
    """`x` without `axes`, which have size 1."""
    return x.squeeze(axes)


def unsqueeze(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`x` with an axis of size 1 at `axis`."""
    return x.unsqueeze(axis)


def flatten(x: torch.Tensor, *, start: int, end: int) -> torch.Tensor:
    """`x` with the axes from `start` to `end` as one."""
    return x.flatten(start, end)


def transpose(x: torch.Tensor, *, axis0: int, axis1: int) -> torch.Tensor:
    """`x` with two axes exchanged."""
    return x.transpose(axis0, axis1)


def tile(x: torch.Tensor, *, repeats: tuple[int, ...]) -> torch.Tensor:
    """`x` repeated as a whole along each axis."""
    return x.tile(repeats)


def repeat_interleave(x: torch.Tensor, *, repeats: int, axis: int) -> torch.Tensor:
    """`x` with each slice along `axis` repeated before the next."""
    return x.repeat_interleave(repeats, axis)


def chunk(x: torch.Tensor, *, chunks: int, index: int, axis: int) -> torch.Tensor:
    """Part `index` of `chunks` equal parts along `axis`."""
    return x.chunk(chunks, axis)[index]
