"""Torch's recurrent layers, of one layer in one direction, from zero states."""

from __future__ import annotations

import torch


def rnn(
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
    y, h = torch.rnn_tanh(_directed(x, reverse), start, weights, len(weights) > 2, 1, 0.0, False, False, True)
    return _directed(y, reverse), h[0]


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


def lstm(
    x: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor | None,
    bias_hh: torch.Tensor | None,
    *,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weights = _given(weight_ih, weight_hh, bias_ih, bias_hh)
    start = (_start(x, weight_hh),) * 2
    y, h, c = torch.lstm(_directed(x, reverse), start, weights, len(weights) > 2, 1, 0.0, False, False, True)
    return _directed(y, reverse), h[0], c[0]


def _given(*weights: torch.Tensor | None) -> list[torch.Tensor]:
    return [weight for weight in weights if weight is not None]


def _start(x: torch.Tensor, weight_hh: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(1, x.shape[0], weight_hh.shape[1])


def _directed(x: torch.Tensor, reverse: bool) -> torch.Tensor:
    """A sequence [N, T, ...] in the order in which the loop reads it."""
    return x.flip(1) if reverse else x
