"""References of larger pieces of networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from esper.ops.reference import gated
from esper.ops.reference.random import dropout as dropout_of

Tensor = torch.Tensor

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "glu": F.glu,
    "swiglu": partial(gated.swiglu, axis=-1),
    "geglu": partial(gated.geglu, axis=-1),
    "reglu": partial(gated.reglu, axis=-1),
}


def feed_forward(
    x: Tensor,
    seed: Tensor | None,
    weight_in: Tensor,
    bias_in: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    activation: str,
    dropout: float,
    offset: int,
) -> Tensor:
    """`x` [..., features] through `weight_in`, the activation, dropout and `weight` [features, hidden]."""
    hidden = _ACTIVATIONS[activation](F.linear(x, weight_in, bias_in))
    return F.linear(_dropped(hidden, seed, dropout, offset), weight, bias)


def add_and_norm(
    x: Tensor,
    y: Tensor,
    seed: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    eps: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """`layer_norm(x + dropout(y))` over the last axis."""
    return F.layer_norm(x + _dropped(y, seed, dropout, offset), x.shape[-1:], weight, bias, eps)


def squeeze_excite(
    x: Tensor, weight_in: Tensor, bias_in: Tensor | None, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """`x` [N, C, ...S] with each channel scaled."""
    squeezed = x.flatten(2).mean(-1)
    scale = torch.sigmoid(F.linear(F.relu(F.linear(squeezed, weight_in, bias_in)), weight, bias))
    return x * scale.reshape(*scale.shape, *[1] * (x.ndim - 2))


def _dropped(x: Tensor, seed: Tensor | None, p: float, offset: int) -> Tensor:
    return x if seed is None else dropout_of(x, seed, p=p, offset=offset)
