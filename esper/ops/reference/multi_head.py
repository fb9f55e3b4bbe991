"""The reference of multi-head attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esper.ops.reference.attention import attention_result

Tensor = torch.Tensor


def multi_head_attention(
    x: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    seed: Tensor | None,
    weight_q: Tensor,
    bias_q: Tensor | None,
    weight_k: Tensor,
    bias_k: Tensor | None,
    weight_v: Tensor,
    bias_v: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    heads: int,
    kv_heads: int,
    causal: bool,
    dropout: float,
    offset: int,
) -> Tensor:
    """`x` [N, T, features], `context` [N, S, any]: [N, T, features]."""
    source = x if context is None else context

    def split(y: Tensor, count: int) -> Tensor:
        examples, length, features = y.shape
        return y.reshape(examples, length, count, features // count).transpose(1, 2)

    attended = attention_result(
        split(F.linear(x, weight_q, bias_q), heads),
        split(F.linear(source, weight_k, bias_k), kv_heads or heads),
        split(F.linear(source, weight_v, bias_v), kv_heads or heads),
        mask,
        seed,
        causal=causal,
        scale=0.0,
        dropout=dropout,
        offset=offset,
    )
    return F.linear(attended.transpose(1, 2).flatten(2), weight, bias)
