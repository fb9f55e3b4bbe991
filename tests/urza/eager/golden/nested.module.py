"""`outer`, written by `esperc compile --emit torch`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Outer(nn.Module):
    """The blueprint `outer`.

    x: float32 [N, 8]
    Returns float32 [N, 1, 8]; 744 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.middle: Any = nn.Module()
        self.middle.inner = nn.Module()
        self.middle.inner.linear = nn.Linear(8, 8)
        self.middle.inner.batch_norm = nn.BatchNorm1d(8)
        self.middle.linear = nn.Linear(8, 8, bias=False)
        self.inner: Any = nn.Module()
        self.inner.linear = nn.Linear(8, 8)
        self.inner.batch_norm = nn.BatchNorm1d(8)
        self.gru_layer: Any = nn.Module()
        self.gru_layer.gru = nn.ParameterDict()
        self.gru_layer.gru["weight_ih"] = nn.Parameter(torch.empty(24, 8))
        self.gru_layer.gru["weight_hh"] = nn.Parameter(torch.empty(24, 8))
        self.gru_layer.gru["bias_ih"] = nn.Parameter(torch.empty(24))
        self.gru_layer.gru["bias_hh"] = nn.Parameter(torch.empty(24))
        self.gru_layer.linear = nn.Linear(8, 8)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            nn.init.uniform_(self.gru_layer.gru[name], -0.3535533905932738, 0.3535533905932738)
        nn.init.zeros_(self.gru_layer.linear.weight)
        nn.init.zeros_(self.gru_layer.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.middle.inner.linear(x)
        h = self.middle.inner.batch_norm(h)
        h = rms_norm_result(h, None, eps=1e-05)
        h = self.middle.linear(h)
        h = self.inner.linear(h)
        h = self.inner.batch_norm(h)
        h = rms_norm_result(h, None, eps=1e-05)
        unsqueeze_2 = h.unsqueeze(1)
        h = gru(
            unsqueeze_2,
            self.gru_layer.gru["weight_ih"],
            self.gru_layer.gru["weight_hh"],
            self.gru_layer.gru["bias_ih"],
            self.gru_layer.gru["bias_hh"],
            reverse=False,
        )[0]
        h = self.gru_layer.linear(h)
        return unsqueeze_2 + h


def rms_norm_result(x: torch.Tensor, weight: torch.Tensor | None, *, eps: float) -> torch.Tensor:
    """The first result of `rms_norm`."""
    return F.rms_norm(x, _rows(x), weight, eps)


def _rows(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(x.shape[-1:])


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
