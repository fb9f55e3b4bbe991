"""References for the gradients of activations; shapes and dtypes of all operands and the result are equal."""

from __future__ import annotations

import torch


def relu_backward(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`g` where the result `y` of relu is positive, else zero."""
    found: torch.Tensor = torch.ops.aten.threshold_backward(g, y, 0)
    return found


def relu6_backward(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`g` where the result `y` of relu6 is strictly between its bounds, else zero."""
    found: torch.Tensor = torch.ops.aten.hardtanh_backward(g, y, 0.0, 6.0)
    return found


def gelu_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g * (Phi(x) + x * phi(x))`."""
    found: torch.Tensor = torch.ops.aten.gelu_backward(g, x)
    return found


def silu_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g * s * (1 + x * (1 - s))` with `s = sigmoid(x)`."""
    found: torch.Tensor = torch.ops.aten.silu_backward(g, x)
    return found


def sigmoid_backward(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`g * y * (1 - y)`."""
    found: torch.Tensor = torch.ops.aten.sigmoid_backward(g, y)
    return found


def tanh_backward(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`g * (1 - y * y)`."""
    found: torch.Tensor = torch.ops.aten.tanh_backward(g, y)
    return found
