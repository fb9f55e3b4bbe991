"""The reference of `scan`: a loop in Python over the steps."""

from __future__ import annotations

from collections.abc import Callable

import torch


def scan(
    *operands: torch.Tensor,
    body: Callable[..., tuple[torch.Tensor, ...]],
    carries: int,
    sequences: int,
    reverse: bool,
    along: int,
    histories: bool,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """The final carries, the stacked outputs of the steps, and with `histories` the carries before each step.

    operands: carries, then sequences, both of which the body is given one step of, then what it is given
    as it is. along: the axis of the steps in sequences and stacked outputs, the last one of those with fewer
    axes. A carry that starts from a constant may lie on another device than the sequences.
    """
    given = operands[carries : carries + sequences]
    slices = [sequence.unbind(min(along, sequence.ndim - 1)) for sequence in given]
    constants = operands[carries + sequences :]
    device = operands[carries].device
    state = tuple(_moved(carry, device) for carry in operands[:carries])
    length = len(slices[0])
    made: list[tuple[torch.Tensor, ...]] = [()] * length
    for step in reversed(range(length)) if reverse else range(length):
        before = state
        results = body(*state, *(found[step] for found in slices), *constants)
        state = results[:carries]
        made[step] = (*results[carries:], *before) if histories else results[carries:]
    stacked = tuple(torch.stack(steps, min(along, steps[0].ndim)) for steps in zip(*made, strict=True))
    found = (*state, *stacked)
    return found if len(found) > 1 else found[0]


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; of a broadcast one only what it stores is copied."""
    if tensor.device == device:
        return tensor
    stored = tensor[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())]
    return stored.to(device).expand(tensor.shape)
