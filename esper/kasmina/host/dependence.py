"""Which positions of a sequence a host lets depend on which, and seeds that do not keep to it.

In a causal host no position depends on a later one. A seed there that mixes positions in both directions lets
the host see what it is to predict: its loss falls, on held-out text too, and nothing is learned. And where
the second axis holds the examples, as in torch's own transformer by default, attention would mix those. So a
host is tried by changing its example at one end, and a seed is held to what the host does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from esper.kasmina.host.isolation import undisturbed

SecondAxis = Literal["causal", "examples"]
"""`causal`: positions that depend on earlier ones alone. `examples`: they depend on none, and the first axis
holds the positions. Otherwise nothing is known that a seed must keep to."""

FIRST, LAST = 0, -1
TOLERANCE = 1e-4
"""Relative; what is the same but for rounding stays below it, and what another token changes does not."""


def second_axis(run: Callable[[Any], Any], example: Any, shape: tuple[int, ...]) -> SecondAxis | None:
    """What the second axis is in a host that `run` runs, for a slot's tensor [A, B, F] of `shape`."""
    result = run(example)

    def reaches(axis: int, end: int) -> bool | None:
        """Whether what stands at one end changes the results elsewhere; None if that is open."""
        other = changed_at(example, shape[axis], axis, end)
        if other is None:
            return None
        plain, changed = (list(_sequences(given, shape[axis], axis)) for given in (result, run(other)))
        if not plain or len(plain) != len(changed):
            return None
        return any(not _alike_but_at(a, b, axis, end) for a, b in zip(plain, changed, strict=True))

    forward = reaches(1, FIRST)
    if forward is None or reaches(1, LAST) is not False:
        return None
    if forward:
        return "causal"
    return "examples" if reaches(0, FIRST) else None


def changed_at(example: Any, size: int, axis: int, end: int) -> Any | None:
    """The example with other values at one end of each tensor with `size` on `axis`; None if none changes.

    The values are those of another position, so that token numbers stay valid.
    """
    changed = False

    def change(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, Tensor):
            if value.dim() > max(axis, 1) and value.shape[axis] == size:
                kept = value.select(axis, end)
                for part in value.unbind(axis):
                    if not torch.equal(part, kept):
                        changed, value = True, value.clone()
                        value.select(axis, end).copy_(part)
                        break
            return value
        if isinstance(value, Mapping):
            return {key: change(part) for key, part in value.items()}
        return type(value)(map(change, value)) if type(value) in (tuple, list) else value

    result = change(example)
    return result if changed else None


def breach(seed: nn.Module, x: Tensor, axis: SecondAxis) -> str | None:
    """How a seed mixes what the host keeps apart, in words; None if it does not. x: [A, B, F].

    Tried with random weights, since seeds begin as the identity.
    """
    tried = copy.deepcopy(seed)
    generator = torch.Generator().manual_seed(0)
    with undisturbed(tried), torch.no_grad():
        for parameter in tried.parameters():
            if parameter.is_floating_point():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        plain = tried.eval()(x)
        for end in (LAST, FIRST) if axis == "examples" else (LAST,):
            other = x.clone()
            other.select(1, end).neg_()
            if not _alike_but_at(plain, tried(other), 1, end):
                if axis == "causal":
                    return "its positions see later ones, which the host, that predicts them, does not"
                return "it mixes what is on axis 1, which are the examples of this host"
    return None


def _sequences(result: Any, size: int, axis: int) -> Iterator[Tensor]:
    """The floating tensors with `size` on `axis` in what a model returned."""
    if isinstance(result, Tensor):
        if result.is_floating_point() and result.dim() > max(axis, 1) and result.shape[axis] == size:
            yield result
    elif isinstance(result, Mapping | tuple | list):
        for part in result.values() if isinstance(result, Mapping) else result:
            yield from _sequences(part, size, axis)


def _alike_but_at(a: Tensor, b: Tensor, axis: int, end: int) -> bool:
    start = 1 if end == FIRST else 0
    a, b = (value.narrow(axis, start, value.shape[axis] - 1) for value in (a, b))
    scale = float(a.abs().max()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True)
