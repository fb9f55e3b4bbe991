"""`mlp_block`, written by `esperc compile --emit torch`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class MlpBlock(nn.Module):
    """Pre-norm residual block of two linear layers, as in the transformer's feed-forward part.

    Vaswani et al. 2017, "Attention Is All You Need" (arXiv:1706.03762), normalised first as in Xiong et
    al. 2020 (arXiv:2002.04745). The second projection starts at zero: the seed starts as the identity.

    x: float32 [N, S.0, S.1, 256]
    Returns float32 [N, S.0, S.1, 256]; 526,080 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(256)
        self.linear = nn.Linear(256, 1024)
        self.linear_2 = nn.Linear(1024, 256)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer_norm(x)
        h = self.linear(h)
        h = F.gelu(h)
        h = self.linear_2(h)
        return x + h
