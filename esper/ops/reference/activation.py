"""References for the gradients of activations; shapes and dtypes of all operands and the result are equal.

Where x is NaN, torch's answers differ between GPUs, vectors on the CPU and the elements left over from them.
Here they are those of GPUs everywhere, as in kernels.
"""

from __future__ import annotations

import torch

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def relu_backward(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`g` where the result `y` of relu is positive, else zero."""
    found: torch.Tensor = torch.ops.aten.threshold_backward(g, y, 0)
    return found


def relu6_backward(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`g`, but zero where the result `y` of relu6 is at one of its bounds."""
    return hardtanh_backward(g, y, min_val=0.0, max_val=6.0)


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


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """`gelu` by a tanh."""
    return torch.nn.functional.gelu(x, approximate="tanh")


def gelu_tanh_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g` times the derivative of `gelu_tanh` at `x`."""
    found: torch.Tensor = torch.ops.aten.gelu_backward(g, x, approximate="tanh")
    return found


def mish_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g * (t + x * s * (1 - t * t))` with `t = tanh(softplus(x))` and `s = sigmoid(x)`."""
    found: torch.Tensor = torch.ops.aten.mish_backward(g, x)
    return found


def selu_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g * scale` where `x` is positive, else `g * scale * alpha * exp(x)`."""
    found: torch.Tensor = torch.ops.aten.elu_backward(g, _SELU_ALPHA, _SELU_SCALE, 1.0, False, x)
    return torch.where(x.isnan(), g * _SELU_SCALE, found)


def hardsigmoid_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g / 6` where `x` is strictly between -3 and 3, else zero."""
    found: torch.Tensor = torch.ops.aten.hardsigmoid_backward(g, x)
    return found


def hardswish_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g * (x / 3 + 1 / 2)` between -3 and 3, zero below, `g` above."""
    found: torch.Tensor = torch.ops.aten.hardswish_backward(g, x)
    return torch.where(x.isnan(), g, found)


def softsign_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g / (1 + abs(x)) ** 2`."""
    return g / (1.0 + x.abs()).square()


def tanhshrink_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`g * tanh(x) ** 2`."""
    return g * torch.tanh(x).square()


def leaky_relu_backward(g: torch.Tensor, x: torch.Tensor, *, negative_slope: float) -> torch.Tensor:
    """`g` where `x` is positive, else `negative_slope * g`."""
    found: torch.Tensor = torch.ops.aten.leaky_relu_backward(g, x, negative_slope, False)
    return found


def elu_backward(g: torch.Tensor, x: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """`g` where `x` is positive, else `g * alpha * exp(x)`."""
    found: torch.Tensor = torch.ops.aten.elu_backward(g, alpha, 1.0, 1.0, False, x)
    return torch.where(x.isnan(), g, found)


def celu_backward(g: torch.Tensor, x: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """`g` where `x` is positive, else `g * exp(x / alpha)`."""
    found: torch.Tensor = torch.ops.aten.elu_backward(g, alpha, 1.0, 1.0 / alpha, False, x)
    return torch.where(x.isnan(), g, found)


def softplus_backward(g: torch.Tensor, x: torch.Tensor, *, beta: float, threshold: float) -> torch.Tensor:
    """`g * sigmoid(beta * x)`, and `g` where `beta * x` is above `threshold`."""
    found: torch.Tensor = torch.ops.aten.softplus_backward(g, x, beta, threshold)
    return found


def hardtanh_backward(g: torch.Tensor, x: torch.Tensor, *, min_val: float, max_val: float) -> torch.Tensor:
    """`g`, but zero where `x` is at or beyond a bound."""
    return torch.where((x <= min_val) | (x >= max_val), torch.zeros((), dtype=g.dtype, device=g.device), g)


def clamp_backward(g: torch.Tensor, x: torch.Tensor, *, min: float, max: float) -> torch.Tensor:
    """`g` where `x` is between the bounds or on one, else zero."""
    return torch.where((x >= min) & (x <= max), g, torch.zeros((), dtype=g.dtype, device=g.device))
