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
    return conv(x, weight, None, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _is_guarded(x: torch.Tensor, weight: torch.Tensor, padding: int, dilation: int) -> bool:
    """Whether oneDNN is to see row-major float32 alone, and no bias.

    It crashes where a window meets padding alone: in 16-bit types, and in float32 with channels last and a
    bias. In 16-bit types, which autocast makes of float32, it leaves a weight's gradient unset where no
    element meets the weight, too, and at times results. It sums those in float32 itself, so what is rounded
    at the end is the same.
    """
    if x.device.type != "cpu":
        return False
    if x.dtype in _SHORT or torch.is_autocast_enabled("cpu"):
        return True
    sides = zip(x.shape[2:], weight.shape[2:], strict=True)
    return any(
        padding > dilation * (taps - 1) or (padding > 0 and dilation > 1 and dilation > size)
        for size, taps in sides
    )


def _plain(x: torch.Tensor) -> torch.Tensor:
    return x.float().contiguous() if x.dtype in _SHORT else x.contiguous()


def _biased(y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return y if bias is None else y + bias.to(y.dtype).reshape(-1, *[1] * (y.dim() - 2))


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
    operands = (g, x, weight)
    if _is_guarded(x, weight, padding, dilation):
        operands = (_plain(g), _plain(x), _plain(weight))
    found: tuple[torch.Tensor, ...] = torch.ops.aten.convolution_backward(
        *operands, None, *steps, False, [0] * (x.dim() - 2), groups, mask
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
    function = _BY_AXES[x.dim() - 2]
    if not _is_guarded(x, weight, padding, dilation):
        return function(x, weight, bias, stride, padding, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        y = function(_plain(x), _plain(weight), None, stride, padding, dilation, groups)
        return _biased(y, bias).to(x.dtype)


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
    if x.device.type != "cpu" or not (x.dtype in _SHORT or torch.is_autocast_enabled("cpu")):
        return transposed(x, weight, bias, stride, padding, output_padding, groups, dilation)
    with torch.autocast("cpu", enabled=False):
        y = transposed(_plain(x), _plain(weight), None, stride, padding, output_padding, groups, dilation)
        return _biased(y, bias).to(x.dtype)
