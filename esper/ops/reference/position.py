"""References of positions: angles in float32, or float64 where the operand is."""

from __future__ import annotations

import torch

from esper.ops.reference.normalization import wide


def rotary_embedding(x: torch.Tensor, *, base: float, axis: int, start: int, inverse: bool) -> torch.Tensor:
    """`x` with pairs of the last axis rotated by their position along `axis`."""
    axis %= x.ndim
    angles = _angles(x, x.shape[axis], base, start).reshape(-1, *[1] * (x.ndim - 2 - axis), x.shape[-1] // 2)
    cos, sin = angles.cos(), -angles.sin() if inverse else angles.sin()
    a, b = wide(x).chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)


def sinusoidal_encoding(x: torch.Tensor, *, base: float, start: int) -> torch.Tensor:
    """[T, D] for `x` [..., T, D]: sines at even features, cosines of the same angles at odd ones."""
    angles = _angles(x, x.shape[-2], base, start)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(x.dtype)


def alibi_bias(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """[H, T, S] for `q` [B, H, T, D] and `k` [B, K, S, D]."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    slopes = torch.tensor(_slopes(q.shape[1]), dtype=dtype, device=q.device)
    queries, keys = (torch.arange(x.shape[2], device=q.device) for x in (q, k))
    distance = (queries[:, None] - keys).abs()
    return (-slopes[:, None, None] * distance).to(q.dtype)


def _angles(x: torch.Tensor, length: int, base: float, start: int) -> torch.Tensor:
    """[T, D // 2]: the position times `base ** (-2 i / D)`."""
    dtype, width = torch.promote_types(x.dtype, torch.float32), x.shape[-1]
    features = torch.arange(0, width, 2, dtype=dtype, device=x.device)
    positions = torch.arange(start, start + length, dtype=dtype, device=x.device)
    return positions[:, None] * torch.pow(base, -features / width)


def _slopes(heads: int) -> list[float]:
    below = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (head + 1) / below) for head in range(below)]
    between = [2.0 ** (-8.0 * (head + 1) / (2 * below)) for head in range(0, 2 * below, 2)]
    return slopes + between[: heads - below]
