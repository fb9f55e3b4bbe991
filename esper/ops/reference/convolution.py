"""References of convolutions: `x` [N, C, ...S], one to three axes S, `weight` [channels, C / groups, ...]."""

from __future__ import annotations

import torch
import torch.nn.functional as F

_SHORT = (torch.bfloat16, torch.float16)
_BY_AXES = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED_BY_AXES = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def convolution(
    x: torch.Tensor, weight: torch.Tensor, *, stride: int, padding: int, dilation: int, groups: int
) -> torch.Tensor:
    """The cross-correlation, without a bias."""
    y = _BY_AXES[x.dim() - 2](_safe(x), _safe(weight), None, stride, padding, dilation, groups)
    return y.to(x.dtype)


def _safe(x: torch.Tensor) -> torch.Tensor:
    """`x`, in float32 where it is of a 16-bit type on a CPU.

    oneDNN's 16-bit convolutions crash where a window meets padding alone, and leave a weight's gradient unset
    where no element meets the weight: in bf16 with channels last on any CPU, in both types and all layouts
    where there are instructions for them. They sum in float32, so what is rounded at the end is the same.
    """
    return x.float() if x.dtype in _SHORT and x.device.type == "cpu" else x


def convolution_input_grad(
    g: torch.Tensor,
    weight: torch.Tensor,
    *,
    shape: tuple[int, ...],
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
) -> torch.Tensor:
    """The gradient of x, of `shape`."""
    x = g.new_empty(1).expand(shape)
    return backward(g, x, weight, stride, padding, dilation, groups, wanted=0)


def convolution_weight_grad(
    g: torch.Tensor,
    x: torch.Tensor,
    *,
    shape: tuple[int, ...],
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
) -> torch.Tensor:
    """The gradient of weight, of `shape`."""
    weight = g.new_empty(1).expand(shape)
    return backward(g, x, weight, stride, padding, dilation, groups, wanted=1)


def backward(
    g: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    *,
    wanted: int,
) -> torch.Tensor:
    """The gradient of x (`wanted` 0) or weight (1); the other one's values are read, its own are not."""
    mask = [wanted == index for index in range(3)]
    steps = ([value] * (x.dim() - 2) for value in (stride, padding, dilation))
    found: tuple[torch.Tensor, ...] = torch.ops.aten.convolution_backward(
        _safe(g), _safe(x), _safe(weight), None, *steps, False, [0] * (x.dim() - 2), groups, mask
    )
    return found[wanted].to(g.dtype)


def conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
) -> torch.Tensor:
    """The cross-correlation plus `bias` [features]; `padding` -1 is `dilation * (kernel // 2)`."""
    if padding == -1:
        padding = dilation * (weight.shape[2] // 2)
    given = None if bias is None else _safe(bias)
    y = _BY_AXES[x.dim() - 2](_safe(x), _safe(weight), given, stride, padding, dilation, groups)
    return y.to(x.dtype)


def depthwise_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    stride: int,
    padding: int,
    dilation: int,
) -> torch.Tensor:
    """`conv` with a group for each channel; weight [C, 1, ...]."""
    return conv(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=x.shape[1])


def conv_transpose(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    channels: int,
    stride: int,
    padding: int,
    output_padding: int,
    dilation: int,
    groups: int,
) -> torch.Tensor:
    """The transposed convolution; weight [C, channels / groups, ...kernel], `bias` [channels]."""
    transposed = _TRANSPOSED_BY_AXES[x.dim() - 2]
    given = None if bias is None else _safe(bias)
    y = transposed(_safe(x), _safe(weight), given, stride, padding, output_padding, groups, dilation)
    return y.to(x.dtype)
