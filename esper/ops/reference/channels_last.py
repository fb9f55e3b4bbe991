"""References of convolutions with channels last: torch's, on views of maps [N, ...S, C] as [N, C, ...S].

Such a view has the strides of torch's channels-last memory, which its convolutions read and write as it is.
"""

from __future__ import annotations

import torch

from esper.ops.reference import convolution as first


def convolution(
    x: torch.Tensor, weight: torch.Tensor, *, stride: int, padding: int, dilation: int, groups: int
) -> torch.Tensor:
    """`convolution` of x [N, ...S, C]."""
    y = first.convolution(
        x.movedim(-1, 1), weight, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return y.movedim(1, -1)


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
    """The gradient of x, of `shape` [N, ...S, C]."""
    x = g.new_empty(shape).movedim(-1, 1)  # never read, but its strides say how dx is laid out
    dx = first.backward(g.movedim(-1, 1), x, weight, stride, padding, dilation, groups, wanted=0)
    return dx.movedim(1, -1)


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
    return first.convolution_weight_grad(
        g.movedim(-1, 1),
        x.movedim(-1, 1),
        shape=shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
