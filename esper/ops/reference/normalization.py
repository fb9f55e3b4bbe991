"""References of norms. Statistics are float32, or float64 for float64 operands; gradients pass through."""

from __future__ import annotations

import torch
import torch.nn.functional as F

Results = tuple[torch.Tensor, ...]


def wide(x: torch.Tensor) -> torch.Tensor:
    """`x` in float32, or float64 if it is."""
    if x.dtype is torch.float32:
        return x  # what most calls come to, without two of torch's
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _rows(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(x.shape[-1:])


def layer_norm_result(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, eps: float
) -> torch.Tensor:
    """The first result of `layer_norm`."""
    return F.layer_norm(x, _rows(x), weight, bias, eps)


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, eps: float
) -> Results:
    """`x` [..., K], weight and bias [K]: the result, and mean and rstd [..., 1]."""
    variance, mean = torch.var_mean(wide(x), -1, correction=0, keepdim=True)
    return layer_norm_result(x, weight, bias, eps=eps), mean, torch.rsqrt(variance + eps)


def layer_norm_backward(
    g: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor | None
) -> Results:
    """`g` and `x` [..., K], mean and rstd [..., 1]: the gradients of x, weight and bias."""
    scale = torch.ones(_rows(x), dtype=mean.dtype, device=x.device) if weight is None else wide(weight)
    found = torch.ops.aten.native_layer_norm_backward(
        wide(g), wide(x), _rows(x), mean, rstd, scale, torch.zeros_like(scale), [True, True, True]
    )
    return tuple(gradient.to(x.dtype) for gradient in found)


def rms_norm_result(x: torch.Tensor, weight: torch.Tensor | None, *, eps: float) -> torch.Tensor:
    """The first result of `rms_norm`."""
    return F.rms_norm(x, _rows(x), weight, eps)


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, *, eps: float) -> Results:
    """`x` [..., K], weight [K]: the result, and rstd [..., 1]."""
    return rms_norm_result(x, weight, eps=eps), torch.rsqrt(wide(x).square().mean(-1, keepdim=True) + eps)


def rms_norm_backward(
    g: torch.Tensor, x: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor | None
) -> Results:
    """`g` and `x` [..., K], rstd [..., 1]: the gradients of x and weight."""
    xhat = wide(x) * rstd
    scaled = wide(g) if weight is None else wide(g) * wide(weight)
    dx = (scaled - xhat * (scaled * xhat).mean(-1, keepdim=True)) * rstd
    dweight = (wide(g) * xhat).reshape(-1, x.shape[-1]).sum(0)
    return dx.to(x.dtype), dweight.to(x.dtype)


def batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> Results:
    """`x` [N, C, ...], the others [C]: the result, mean, rstd, and what the running statistics become.

    Changes nothing in place. Raises torch's `ValueError` in training on one value per channel.
    """
    scale = None if weight is None else wide(weight)
    shift = None if bias is None else wide(bias)
    if not training:
        y = F.batch_norm(x, running_mean, running_var, scale, shift, False, momentum, eps)
        return y, running_mean, torch.rsqrt(running_var + eps), running_mean, running_var
    y = F.batch_norm(x, None, None, scale, shift, True, momentum, eps)
    axes = _without_channels(x)
    variance, mean = torch.var_mean(wide(x), axes, correction=0)
    count = x.numel() // x.shape[1]
    new_mean = torch.lerp(running_mean, mean, momentum)
    new_var = torch.lerp(running_var, variance * (count / (count - 1)), momentum)
    return y, mean, torch.rsqrt(variance + eps), new_mean, new_var


def batch_norm_backward(
    g: torch.Tensor,
    x: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    *,
    training: bool,
) -> Results:
    """`g` and `x` [N, C, ...], the others [C]: the gradients of x, weight and bias.

    training: whether mean and rstd depend on x.
    """
    axes, shape = _without_channels(x), (1, -1, *(1 for _ in x.shape[2:]))
    xhat = (wide(x) - mean.view(shape)) * rstd.view(shape)
    dweight, dbias = (wide(g) * xhat).sum(axes), wide(g).sum(axes)
    scale = rstd if weight is None else rstd * wide(weight)
    dx = wide(g)
    if training:
        count = x.numel() // x.shape[1]
        dx = dx - (dbias.view(shape) + xhat * dweight.view(shape)) / count
    return (dx * scale.view(shape)).to(x.dtype), dweight.to(x.dtype), dbias.to(x.dtype)


def _without_channels(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.dim()) if axis != 1)


def group_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, groups: int, eps: float
) -> Results:
    """`x` [N, C, ...], weight and bias [C]: the result, and mean and rstd [N, groups]."""
    variance, mean = torch.var_mean(wide(x).reshape(x.shape[0], groups, -1), -1, correction=0)
    return group_norm_result(x, weight, bias, groups=groups, eps=eps), mean, torch.rsqrt(variance + eps)


def group_norm_result(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, groups: int, eps: float
) -> torch.Tensor:
    """The first result of `group_norm`."""
    return torch.group_norm(x, groups, weight, bias, eps)


def group_norm_backward(
    g: torch.Tensor,
    x: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    *,
    groups: int,
) -> Results:
    """`g` and `x` [N, C, ...], mean and rstd [N, groups]: the gradients of x, weight and bias."""
    channels = (1, -1, *(1 for _ in x.shape[2:]))
    rows = (x.shape[0], groups, -1)
    inverse = rstd.unsqueeze(-1)
    xhat = (wide(x).reshape(rows) - mean.unsqueeze(-1)) * inverse
    scaled = (wide(g) if weight is None else wide(g) * wide(weight).view(channels)).reshape(rows)
    along = (scaled * xhat).mean(-1, keepdim=True)
    dx = (scaled - scaled.mean(-1, keepdim=True) - xhat * along) * inverse
    axes = _without_channels(x)
    dweight = (wide(g) * xhat.reshape(x.shape)).sum(axes)
    return dx.reshape(x.shape).to(x.dtype), dweight.to(x.dtype), wide(g).sum(axes).to(x.dtype)


def instance_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, eps: float
) -> torch.Tensor:
    """`x` [N, C, ...S] normalised over S."""
    scale, shift = (None if vector is None else wide(vector) for vector in (weight, bias))
    return torch.instance_norm(wide(x), scale, shift, None, None, True, 0.0, eps, False).to(x.dtype)
