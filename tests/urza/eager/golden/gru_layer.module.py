"""`gru_layer`, written by `esperc compile --emit torch`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GruLayer(nn.Module):
    """Residual layer of gated recurrent units over a sequence, one way or both.

    Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder" (arXiv:1406.1078), with
    residual connections as in Wu et al. 2016 (arXiv:1609.08144). The projection of the states starts at zero:
    the seed starts as the identity.

    x: float32 [N, T, 64]
    Returns float32 [N, T, 64]; 29,120 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.ParameterDict()
        self.gru["weight_ih"] = nn.Parameter(torch.empty(192, 64))
        self.gru["weight_hh"] = nn.Parameter(torch.empty(192, 64))
        self.gru["bias_ih"] = nn.Parameter(torch.empty(192))
        self.gru["bias_hh"] = nn.Parameter(torch.empty(192))
        self.linear = nn.Linear(64, 64)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            nn.init.uniform_(self.gru[name], -0.125, 0.125)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = gru(
            x,
            self.gru["weight_ih"],
            self.gru["weight_hh"],
            self.gru["bias_ih"],
            self.gru["bias_hh"],
            reverse=False,
        )[0]
        h = self.linear(h)
        return x + h


def gru(
    x: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor | None,
    bias_hh: torch.Tensor | None,
    *,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    weights = _given(weight_ih, weight_hh, bias_ih, bias_hh)
    start = _start(x, weight_hh)
    y, h = torch.gru(_directed(x, reverse), start, weights, len(weights) > 2, 1, 0.0, False, False, True)
    return _directed(y, reverse), h[0]


def _given(*weights: torch.Tensor | None) -> list[torch.Tensor]:
    return [weight for weight in weights if weight is not None]


def _start(x: torch.Tensor, weight_hh: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(1, x.shape[0], weight_hh.shape[1])


def _directed(x: torch.Tensor, reverse: bool) -> torch.Tensor:
    """A sequence [N, T, ...] in the order in which the loop reads it."""
    return x.flip(1) if reverse else x
