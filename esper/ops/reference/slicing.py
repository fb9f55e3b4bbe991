"""References of slices, of the gradient that they leave, and of tensors turned round."""

from __future__ import annotations

import torch

from esper.errors import EsperError

Sizes = tuple[int, ...]


class SliceOutOfRange(EsperError):
    code = "E0312"
    message = "{start} to {stop} is no part of axis {axis} of {shape}"
    help = "give sizes at which the slice has an element and ends within the axis"


def slice_axes(x: torch.Tensor, *, axes: Sizes, start: Sizes, stop: Sizes, step: Sizes) -> torch.Tensor:
    """`x` from `start` to before `stop` by `step` along each of `axes`; empty tuples are whole axes.

    Raises `SliceOutOfRange` for a part that is empty or reaches beyond its axis.
    """
    return x[_places(x.shape, axes, start, stop, step)]


def slice_backward(
    g: torch.Tensor, *, shape: Sizes, axes: Sizes, start: Sizes, stop: Sizes, step: Sizes
) -> torch.Tensor:
    """`g` where `slice_axes` reads a tensor of `shape`, zeros elsewhere."""
    places = torch.zeros(shape, dtype=g.dtype, device=g.device)
    places[_places(places.shape, axes, start, stop, step)] = g
    return places


def flip(x: torch.Tensor, *, axes: Sizes) -> torch.Tensor:
    """`x` with each of `axes` in the opposite order."""
    return x.flip(axes)


def roll(x: torch.Tensor, *, shifts: Sizes, axes: Sizes) -> torch.Tensor:
    """`x` rolled by `shifts` along `axes`."""
    return x.roll(shifts, axes)


def _places(shape: torch.Size, axes: Sizes, start: Sizes, stop: Sizes, step: Sizes) -> tuple[slice, ...]:
    places = [slice(None)] * len(shape)
    for index, axis in enumerate(axes):
        size = shape[axis]
        low = start[index] if start else 0
        high = stop[index] if stop else size
        low, high = low + size * (low < 0), high + size * (high < 0)
        if not 0 <= low < high <= size:
            raise SliceOutOfRange(start=low, stop=high, axis=axis, shape=list(shape))
        places[axis] = slice(low, high, step[index] if step else 1)
    return tuple(places)
