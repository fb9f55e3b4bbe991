"""References of attention: `q` [B, H, T, D], `k` [B, H, S, D], `v` [B, H, S, E]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from esper.ops.reference.normalization import wide


def attention_result(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, scale: float
) -> torch.Tensor:
    """`softmax(q k' * scale) v` [B, H, T, E] by torch's fastest kernel; scale 0 is `1 / sqrt(D)`."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale or None)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and the log-sum-exp of the scores [B, H, T] in float32 (float64 for float64 operands)."""
    scores = _scores(q, k, causal, scale)
    logsumexp = torch.logsumexp(scores, -1)
    weights = torch.exp(scores - logsumexp.unsqueeze(-1))
    return (weights @ wide(v)).to(q.dtype), logsumexp


def attention_backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    result: torch.Tensor,
    logsumexp: torch.Tensor,
    g: torch.Tensor | None,
    g_logsumexp: torch.Tensor | None,
    *,
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of q, k and v, where g and g_logsumexp are those of the results.

    With P = exp(scores - logsumexp): dv = P' g, and the scores have the gradient
    dS = P * (g v' - rowsum(g * result) + g_logsumexp).
    """
    weights = torch.exp(_scores(q, k, causal, scale) - logsumexp.unsqueeze(-1))
    slope = torch.zeros_like(weights) if g_logsumexp is None else g_logsumexp.unsqueeze(-1)
    dv = torch.zeros_like(v)
    if g is not None:
        slope = slope + wide(g) @ wide(v).mT - (wide(g) * wide(result)).sum(-1, keepdim=True)
        dv = (weights.mT @ wide(g)).to(v.dtype)
    slope = weights * slope * _factor(q, scale)
    return (slope @ wide(k)).to(q.dtype), (slope.mT @ wide(q)).to(k.dtype), dv


def _scores(q: torch.Tensor, k: torch.Tensor, causal: bool, scale: float) -> torch.Tensor:
    scores = wide(q) @ wide(k).mT * _factor(q, scale)
    if causal:
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    return scores


def _factor(q: torch.Tensor, scale: float) -> float:
    return scale or 1.0 / math.sqrt(q.shape[3])
