"""`resnet_block`, written by `esperc compile --emit torch`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResnetBlock(nn.Module):
    """The basic block of ResNet-18 and -34: two convolutions, a shortcut, and the activation after the sum.

    He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385). The scale of the last
    normalisation starts at zero, as in Goyal et al. 2017 (arXiv:1706.02677): the seed starts as `act(x)`,
    which after a ReLU of the host is the identity.

    x: float32 [N, 64, S.0, S.1]
    Returns float32 [N, 64, S.0, S.1]; 73,984 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.batch_norm = nn.BatchNorm2d(64)
        self.conv_2 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.batch_norm_2 = nn.BatchNorm2d(64)
        nn.init.zeros_(self.batch_norm_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        h = self.batch_norm(h)
        h = F.relu(h)
        h = self.conv_2(h)
        h = self.batch_norm_2(h)
        h = x + h
        return F.relu(h)
