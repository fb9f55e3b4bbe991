"""Hosts that predict what comes next, and seeds that would show it to them.

In a causal host no position depends on a later one. A seed there that mixes positions in both directions lets
the host see what it is to predict: its loss falls, on held-out text too, and nothing is learned. So a host is
tried once, and a seed is held to what the host does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4
"""Relative; what is the same but for rounding stays below it, and what another token changes does not."""


def tokens_changed(example: Any, length: int, position: int) -> Any | None:
    """The example with other values at one position of each tensor [N, length, ...]; None if none changes.

    position: 0, or -1 for the last. The values are those of another position: token numbers stay valid.
    """
    changed = False

    def change(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, Tensor) and value.dim() >= 2 and value.shape[1] == length:
            for other in range(length):
                if not torch.equal(value[:, other], value[:, position]):
                    value = value.clone()
                    value[:, position] = value[:, other]
                    changed = True
                    break
        elif isinstance(value, Mapping):
            return {key: change(part) for key, part in value.items()}
        elif isinstance(value, tuple | list):
            return type(value)(map(change, value)) if type(value) in (tuple, list) else value
        return value

    result = change(example)
    return result if changed else None


def is_causal(result: Any, last_changed: Any, first_changed: Any, length: int) -> bool:
    """Whether a host's positions depend on earlier ones and on no later one.

    From what it returns on an example, and on the example with the last position changed, or the first.
    """
    plain, last, first = (list(_sequences(value, length)) for value in (result, last_changed, first_changed))
    if not plain or not len(plain) == len(last) == len(first):
        return False
    sees_later = any(not _alike(a[:, :-1], b[:, :-1]) for a, b in zip(plain, last, strict=True))
    sees_earlier = any(not _alike(a[:, 1:], b[:, 1:]) for a, b in zip(plain, first, strict=True))
    return sees_earlier and not sees_later


@torch.no_grad()
def sees_later(seed: nn.Module, x: Tensor) -> bool:
    """Whether a seed's output at a position depends on a later one; x: a sample of its input [N, T, F].

    Tried with random weights, since seeds begin as the identity.
    """
    tried = copy.deepcopy(seed).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in tried.parameters():
        if parameter.is_floating_point():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    other = x.clone()
    other[:, -1] = -x[:, -1]
    return not _alike(tried(x)[:, :-1], tried(other)[:, :-1])


def _sequences(result: Any, length: int) -> Iterator[Tensor]:
    """The floating tensors [N, length, ...] in what a model returned."""
    if isinstance(result, Tensor):
        if result.is_floating_point() and result.dim() >= 2 and result.shape[1] == length:
            yield result
    elif isinstance(result, Mapping):
        for part in result.values():
            yield from _sequences(part, length)
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _sequences(part, length)


def _alike(a: Tensor, b: Tensor) -> bool:
    scale = float(a.abs().max()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True)
