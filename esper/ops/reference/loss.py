"""References of losses: torch's own; `reduction` is mean, sum or none."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esper.ops.reference.normalization import wide


def mse_loss(x: torch.Tensor, target: torch.Tensor, *, reduction: str) -> torch.Tensor:
    """The squared difference."""
    return F.mse_loss(x, target, reduction=reduction)


def l1_loss(x: torch.Tensor, target: torch.Tensor, *, reduction: str) -> torch.Tensor:
    """The absolute difference."""
    return F.l1_loss(x, target, reduction=reduction)


def huber_loss(x: torch.Tensor, target: torch.Tensor, *, delta: float, reduction: str) -> torch.Tensor:
    """Half the square up to `delta`, then linear."""
    return F.huber_loss(x, target, reduction=reduction, delta=delta)


def smooth_l1_loss(x: torch.Tensor, target: torch.Tensor, *, beta: float, reduction: str) -> torch.Tensor:
    """`huber_loss` divided by `beta`."""
    return F.smooth_l1_loss(x, target, reduction=reduction, beta=beta)


def binary_cross_entropy_with_logits(
    x: torch.Tensor, target: torch.Tensor, *, reduction: str
) -> torch.Tensor:
    """The cross entropy of `target` and `sigmoid(x)`."""
    return F.binary_cross_entropy_with_logits(x, target, reduction=reduction)


def kl_div(x: torch.Tensor, target: torch.Tensor, *, reduction: str) -> torch.Tensor:
    """`target * (log(target) - x)`."""
    losses = F.kl_div(wide(x), wide(target), reduction="none")
    reduced = losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()
    return reduced.to(x.dtype)


def nll_loss(x: torch.Tensor, target: torch.Tensor, *, reduction: str) -> torch.Tensor:
    """Less the element of `x` at the target's class."""
    return F.nll_loss(x, target, reduction=reduction)


def cross_entropy(
    x: torch.Tensor, target: torch.Tensor, *, label_smoothing: float, reduction: str
) -> torch.Tensor:
    """`nll_loss` of `log_softmax(x)`."""
    return F.cross_entropy(x, target, label_smoothing=label_smoothing, reduction=reduction)
