"""A zero-cost proxy of how well a network will learn: from gradients at its first weights, without a step.

ZiCo (Li et al. 2023, "ZiCo: Zero-shot NAS via inverse coefficient of variation on gradients",
arXiv:2301.11300): what learns fast and generalises has gradients that are large and alike in all batches.
`benchmarks/results/proxies.md` sets it beside others, beside what is counted, and beside short training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def zico(gradients: Iterable[Sequence[Tensor]]) -> float:
    """Σ log Σ E|g| / √Var|g|: the inner sum over a tensor's weights, the outer over tensors; more is better.

    gradients: of each of at least two batches, one tensor for each of the network's weights, equal from
    batch to batch in number and shape; float64 serves best. A weight whose gradient does not vary, as where
    nothing reaches it yet, adds nothing.
    """
    count = 0
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    for batch in gradients:
        sizes = [gradient.abs() for gradient in batch]
        sums = [a + b for a, b in zip(sums, sizes, strict=True)] if count else sizes
        powers = [size.square() for size in sizes]
        squares = [a + b for a, b in zip(squares, powers, strict=True)] if count else powers
        count += 1
    found = []
    for total, square in zip(sums, squares, strict=True):
        mean = total / count
        deviation = (square / count - mean.square()).clamp_min(0.0).sqrt()
        varies = deviation > mean * 1e-9
        share = float((mean[varies] / deviation[varies]).sum())
        if share > 0:
            found.append(math.log(share))
    return math.fsum(found)
