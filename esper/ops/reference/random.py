"""Random numbers from a counter: a hash of (seed, offset, index), the same bits on every tier.

The twin of `uniform` in `kernels/functions.py`: a change of one without the other fails a test. Torch has
no unsigned arithmetic, so keys are mixed in int64 and masked, and tiles in int32, which wraps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch

_MASK = 0xFFFFFFFF
_SECOND_STREAM = 0x3C6EF372
_FIRST, _SECOND, _GOLDEN = 0x7FEB352D, 0x846CA68B, 0x9E3779B9
_STEPS = (16, 0xFFFF, _FIRST, 15, 0x1FFFF, _SECOND - 2**32, 8, 0xFFFFFF)
"""The numbers that tiles are mixed with, as int32."""


class Drawn(int):
    """A seed with masks that were drawn of it ahead.

    dropped: by offset and probability, the mask and the factor of what is kept, a float32 scalar. `dropout`
    reads them; a mask that is not there, or of another number of elements, is drawn then.
    """

    dropped: Mapping[tuple[int, float], tuple[torch.Tensor, torch.Tensor]]

    def __new__(
        cls, seed: int, dropped: Mapping[tuple[int, float], tuple[torch.Tensor, torch.Tensor]]
    ) -> Drawn:
        drawn = super().__new__(cls, seed)
        drawn.dropped = dropped
        return drawn


def uniform(
    seed: int | torch.Tensor, offset: int, shape: Sequence[int], device: torch.device | str | None = None
) -> torch.Tensor:
    """Float32 numbers in [0, 1), multiples of 2^-24, in `shape`.

    seed: a 64-bit integer or an int64 scalar tensor. offset: non-negative, below 2^32; one for each random
    node of a graph. The mixing steps are Wellons' "lowbias32"; a second key enters between its rounds, so
    that no stream is another one in a different order.
    """
    return _numerators(seed, offset, shape, device).to(torch.float32) * 2.0**-24


def _numerators(
    seed: int | torch.Tensor, offset: int, shape: Sequence[int], device: torch.device | str | None
) -> torch.Tensor:
    """`uniform` times 2^24, in int32; a seed that is an integer is mixed without torch."""
    keys: tuple[torch.Tensor, torch.Tensor] | tuple[int, int]
    numbers: tuple[torch.Tensor, ...] | tuple[int, ...]
    if isinstance(seed, torch.Tensor):
        device = seed.device if device is None else device
        seed = seed.to(device)
        keys, numbers = _key_tensors(seed, _mix_integer((offset + _GOLDEN) & _MASK)), _STEPS
    else:
        keys, numbers = _keys(seed, offset), _steps()
    count = math.prod(shape)
    x = torch.arange(count, dtype=torch.int32, device=device)
    x ^= keys[0]
    return _mixed(x, keys[1], numbers).view(tuple(shape))


def _keys(seed: int, offset: int) -> tuple[int, int]:
    """The two keys of a stream, as int32."""
    first = _mix_integer((seed & _MASK) ^ _mix_integer((offset + _GOLDEN) & _MASK))
    return _signed(first), _signed(_mix_integer((((seed >> 32) & _MASK) + first) & _MASK))


def _key_tensors(seed: torch.Tensor, mixed_offset: int | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_keys`, of an int64 tensor of seeds."""
    first = _mix((seed & _MASK) ^ mixed_offset)
    second = _mix((((seed >> 32) & _MASK) + first) & _MASK)
    return first.to(torch.int32), second.to(torch.int32)


def _mixed(
    x: torch.Tensor, second: torch.Tensor | int, numbers: tuple[torch.Tensor, ...] | tuple[int, ...]
) -> torch.Tensor:
    """The upper 24 bits of `x`, int32, mixed with the second key; `x` is overwritten."""
    sixteen, low16, first_factor, fifteen, low17, second_factor, eight, low24 = numbers
    x ^= (x >> sixteen).bitwise_and_(low16)
    x *= first_factor
    x += second
    x ^= (x >> fifteen).bitwise_and_(low17)
    x *= second_factor
    x ^= (x >> sixteen).bitwise_and_(low16)
    return (x >> eight).bitwise_and_(low24)


@cache
def _steps() -> tuple[torch.Tensor, ...]:
    """`_STEPS` as scalar tensors, which an operator reads at half the cost of a number; on any device."""
    return tuple(torch.tensor(number, dtype=torch.int32, device="cpu") for number in _STEPS)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """lowbias32 on int64 tensors of values below 2^32."""
    x = ((x ^ (x >> 16)) * _FIRST) & _MASK
    x = ((x ^ (x >> 15)) * _SECOND) & _MASK
    return x ^ (x >> 16)


def _mix_integer(x: int) -> int:
    """lowbias32 on a Python integer."""
    x = ((x ^ (x >> 16)) * _FIRST) & _MASK
    x = ((x ^ (x >> 15)) * _SECOND) & _MASK
    return x ^ (x >> 16)


def _signed(x: int) -> int:
    """The int32 with the bits of `x`, below 2^32."""
    return x - 2**32 if x >= 2**31 else x


def dropout(x: torch.Tensor, seed: int | torch.Tensor, *, p: float, offset: int) -> torch.Tensor:
    """`x / (1 - p)` where the uniform number of an element's row-major index is at least `p`, else zero."""
    found = seed.dropped.get((offset, p)) if isinstance(seed, Drawn) else None
    if found is not None and x.dtype is torch.float32 and found[0].numel() == x.numel():
        dropped, factor = found
        dropped = dropped if dropped.shape == x.shape else dropped.view(x.shape)
        return (x * factor).masked_fill_(dropped, 0.0)
    return hashed_dropout(x, seed, p=p, offset=offset)


def hashed_dropout(x: torch.Tensor, seed: int | torch.Tensor, *, p: float, offset: int) -> torch.Tensor:
    """`x / (1 - p)` where the uniform number of an element's row-major index is at least `p`, else zero."""
    dropped = _numerators(seed, offset, x.shape, x.device) < p * 2.0**24
    return (x * (1.0 / (1.0 - p))).masked_fill(dropped, 0.0)


@dataclass(frozen=True, slots=True)
class Mask:
    """What is dropped of a tensor of `shape`, with probability `p`, by the stream `offset`."""

    offset: int
    p: float
    shape: tuple[int, ...]


_CPU = torch.device("cpu")  # whatever torch's default device is


class Masks:
    """The masks of one call after another, drawn in one pass over the elements of all, on the CPU.

    A call's seed is one more than that of the call before.
    """

    def __init__(self, masks: Sequence[Mask], calls: int) -> None:
        self._masks = tuple(masks)
        self._calls = calls
        self._calls_ahead = torch.arange(calls, device=_CPU).unsqueeze(1)
        mixed = [_mix_integer((mask.offset + _GOLDEN) & _MASK) for mask in masks]
        self._offsets = torch.tensor(mixed, device=_CPU)
        self._counts = [math.prod(mask.shape) for mask in masks]
        self._names = [(mask.offset, mask.p) for mask in masks]
        self._factors = [
            torch.tensor(1.0 / (1.0 - mask.p), dtype=torch.float32, device=_CPU) for mask in masks
        ]
        counts = torch.tensor(self._counts * calls, device=_CPU)
        # The comparison in `dropout` rounds to float32, too.
        limits = [mask.p * 2.0**24 for mask in masks] * calls
        bounds = torch.tensor(limits, dtype=torch.float32, device=_CPU).ceil()
        places = [torch.arange(count, dtype=torch.int32, device=_CPU) for count in self._counts]
        index = torch.cat(places)
        self._index = index.repeat(calls)
        self._mask_of = torch.repeat_interleave(counts)
        self._bounds = bounds.to(torch.int32).repeat_interleave(counts)

    def drawn(self, seed: int) -> dict[int, Drawn]:
        """By seed, from `seed` on: the masks that `dropout` would draw of it."""
        first, second = _key_tensors(self._calls_ahead + seed, self._offsets)
        x = self._index ^ first.flatten().index_select(0, self._mask_of)
        dropped = _mixed(x, second.flatten().index_select(0, self._mask_of), _steps()) < self._bounds
        pieces = dropped.view(self._calls, -1).split(self._counts, 1)
        of_calls = [
            piece.view(self._calls, *mask.shape).unbind()
            for piece, mask in zip(pieces, self._masks, strict=True)
        ]
        return {
            one: Drawn(one, dict(zip(self._names, zip(masks, self._factors, strict=True), strict=True)))
            for one, masks in enumerate(zip(*of_calls, strict=True), seed)
        }


def feature_dropout(x: torch.Tensor, seed: torch.Tensor, *, p: float, offset: int) -> torch.Tensor:
    """`x` [N, C, ...] times the dropout of ones [N, C]."""
    return x * _dropped_ones(x, 2, seed, p, offset)


def drop_path(x: torch.Tensor, seed: torch.Tensor, *, p: float, offset: int) -> torch.Tensor:
    """`x` [N, ...] times the dropout of ones [N]."""
    return x * _dropped_ones(x, 1, seed, p, offset)


def _dropped_ones(x: torch.Tensor, axes: int, seed: torch.Tensor, p: float, offset: int) -> torch.Tensor:
    ones = torch.ones((*x.shape[:axes], *(1 for _ in x.shape[axes:])), dtype=x.dtype, device=x.device)
    return dropout(ones, seed, p=p, offset=offset)


def normal(
    seed: int | torch.Tensor, offset: int, shape: Sequence[int], device: torch.device | str | None = None
) -> torch.Tensor:
    """Float32 standard normal numbers in `shape`: `sqrt(-2 log(1 - u)) cos(2 pi v)` of two uniform ones.

    u and v have the same bits on every tier; the logarithm and the cosine may differ in the last ones.
    """
    if not isinstance(seed, torch.Tensor):
        seed = torch.tensor(seed, dtype=torch.int64, device=device)
    u = uniform(seed, offset, shape, device)
    v = uniform(seed ^ _SECOND_STREAM, offset, shape, device)
    return torch.sqrt(-2.0 * torch.log(1.0 - u)) * torch.cos(2.0 * math.pi * v)


def gaussian_noise(x: torch.Tensor, seed: torch.Tensor, *, std: float, offset: int) -> torch.Tensor:
    """`x + std * z`, with z the normal number of an element's row-major index."""
    return x + (std * normal(seed, offset, x.shape, x.device)).to(x.dtype)
