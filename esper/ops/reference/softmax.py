"""References of softmax; all operands and results have one shape and dtype, `axis` may count from the end."""

from __future__ import annotations

import torch


def softmax(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`exp(x) / sum(exp(x))` along `axis`."""
    return torch.softmax(x, axis)


def log_softmax(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`x - log(sum(exp(x)))` along `axis`."""
    return torch.log_softmax(x, axis)


def softmax_backward(g: torch.Tensor, y: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`y * (g - sum(g * y))`."""
    found: torch.Tensor = torch.ops.aten._softmax_backward_data(g, y, axis, y.dtype)
    return found


def log_softmax_backward(g: torch.Tensor, y: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`g - exp(y) * sum(g)`."""
    found: torch.Tensor = torch.ops.aten._log_softmax_backward_data(g, y, axis, y.dtype)
    return found


def softmin(x: torch.Tensor, *, axis: int) -> torch.Tensor:
    """`softmax(-x)` along `axis`."""
    return torch.softmax(-x, axis)
