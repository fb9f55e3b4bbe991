"""The gradient of a linear function of one tensor, for entries whose gradient torch has under no name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def adjoint(
    function: Callable[[torch.Tensor], torch.Tensor], g: torch.Tensor, shape: Sequence[int]
) -> torch.Tensor:
    """What `g`, the gradient of `function(x)`, gives for x of `shape`; itself differentiable."""
    pull_back = torch.func.vjp(function, g.new_zeros(tuple(shape)))[1]
    found: torch.Tensor = pull_back(g)[0]
    return found
