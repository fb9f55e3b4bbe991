"""References of attention: `q` [B, H, T, D], `k` [B, K, S, D], `v` [B, K, S, E], `mask` to [B, H, T, S].

A row of scores that are all -inf, a query that sees no key, has weights of zero: the softmax is computed on
zeros in its place, so that no NaN arises on the way. Its log-sum-exp is given as 0, from which the gradient
computes weights of zero again.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from esper.ops.reference.normalization import wide
from esper.ops.reference.random import dropout as dropout_of

Tensor = torch.Tensor


def attention_result(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """`softmax(q k' * scale + mask) v` [B, H, T, E] by torch's fastest kernel; scale 0 is `1 / sqrt(D)`."""
    grouped = q.shape[1] != k.shape[1]
    if dropout and (mask is not None or grouped):
        return attention(q, k, v, mask, seed, causal=causal, scale=scale, dropout=dropout, offset=offset)[0]
    if dropout:
        assert seed is not None
        return dropped_attention(q, k, v, seed, causal=causal, scale=scale, dropout=dropout, offset=offset)
    if mask is None:
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=scale or None, enable_gqa=grouped
        )
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    if causal:
        mask = _hidden(mask, ~_past(q, k))
    sees_none = ~(mask if mask.dtype is torch.bool else mask > -math.inf).any(-1, keepdim=True)
    safe = mask | sees_none if mask.dtype is torch.bool else mask.masked_fill(sees_none, 0.0)
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=safe, scale=scale or None, enable_gqa=grouped)
    return found.masked_fill(sees_none, 0.0)


def dropped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seed: Tensor,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """`dropout(softmax(q k' * scale)) v` [B, H, T, E], for k of H heads; scale 0 is `1 / sqrt(D)`.

    Examples and heads are one axis on the way, which spares torch a dozen views.
    """
    batch, heads, queries, features = q.shape
    scores = torch.bmm(wide(q).flatten(0, 1), wide(k).flatten(0, 1).mT)
    scores = scores * (scale or 1.0 / math.sqrt(features))
    if causal:
        past = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~past, -math.inf)
    weights = dropout_of(torch.softmax(scores, -1), seed, p=dropout, offset=offset)
    found = torch.bmm(weights, wide(v).flatten(0, 1)).view(batch, heads, queries, v.shape[3])
    return found if found.dtype is q.dtype else found.to(q.dtype)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> tuple[Tensor, Tensor]:
    """The result, and the log-sum-exp of the scores [B, H, T] in float32 (float64 for float64 operands)."""
    heads = q.shape[1]
    scores = _scores(q, _for_each_head(k, heads), mask, causal, scale)
    sees_none = None if mask is None else (scores == -math.inf).all(-1, keepdim=True)
    if sees_none is not None:
        scores = scores.masked_fill(sees_none, 0.0)
    logsumexp = torch.logsumexp(scores, -1, keepdim=True)
    weights = torch.exp(scores - logsumexp)
    if sees_none is not None:
        weights = weights.masked_fill(sees_none, 0.0)
        logsumexp = logsumexp.masked_fill(sees_none, 0.0)
    weights = _dropped(weights, seed, dropout, offset)
    return (weights @ wide(_for_each_head(v, heads))).to(q.dtype), logsumexp.squeeze(-1)


def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> tuple[Tensor, Tensor]:
    """As `attention`, the result as [B, T, H, E]."""
    found, logsumexp = attention(
        q, k, v, mask, seed, causal=causal, scale=scale, dropout=dropout, offset=offset
    )
    return found.transpose(1, 2), logsumexp


def attention_forward_result(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """As `attention_result`, as [B, T, H, E]."""
    return attention_result(
        q, k, v, mask, seed, causal=causal, scale=scale, dropout=dropout, offset=offset
    ).transpose(1, 2)


def attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    result: Tensor,
    logsumexp: Tensor,
    g: Tensor | None,
    g_logsumexp: Tensor | None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
    mask_gradient: bool,
) -> tuple[Tensor, ...]:
    """The gradients of q, k, v and, if asked for, the added mask; g and g_logsumexp are those of the results.

    With P = exp(scores - logsumexp) and the dropped, scaled weights P * K: dv = (P * K)' g, and the scores
    have the gradient dS = P * (K * (g v') - rowsum(g * result) + g_logsumexp).
    """
    if g is None:
        g = torch.zeros_like(result)
    delta = (wide(g) * wide(result)).sum(-1)
    if g_logsumexp is not None:
        delta = delta - g_logsumexp
    weights = _weights(q, k, mask, logsumexp, causal, scale)
    slope = _slope(weights, v, seed, g, delta, dropout, offset)
    dq = slope @ wide(_for_each_head(k, q.shape[1])) * _factor(q, scale)
    dk = slope.mT @ wide(q) * _factor(q, scale)
    dv = _dropped(weights, seed, dropout, offset).mT @ wide(g)
    gradients: tuple[Tensor, ...] = (dq.to(q.dtype), _of_groups(dk, k), _of_groups(dv, v))
    if not mask_gradient:
        return gradients
    assert mask is not None
    return (*gradients, slope.sum_to_size(mask.shape).to(mask.dtype))


def attention_query_grad(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    logsumexp: Tensor,
    g: Tensor,
    delta: Tensor,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """The gradient of q as [B, T, H, D]; delta [B, H, T] is rowsum(g * result) - g_logsumexp."""
    weights = _weights(q, k, mask, logsumexp, causal, scale)
    slope = _slope(weights, v, seed, g, delta, dropout, offset)
    dq = slope @ wide(_for_each_head(k, q.shape[1])) * _factor(q, scale)
    return dq.to(q.dtype).transpose(1, 2)


def attention_key_value_grad(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    logsumexp: Tensor,
    g: Tensor,
    delta: Tensor,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of k and v as [B, S, K, D] and [B, S, K, E]."""
    weights = _weights(q, k, mask, logsumexp, causal, scale)
    slope = _slope(weights, v, seed, g, delta, dropout, offset)
    dk = slope.mT @ wide(q) * _factor(q, scale)
    dv = _dropped(weights, seed, dropout, offset).mT @ wide(g)
    return _of_groups(dk, k).transpose(1, 2), _of_groups(dv, v).transpose(1, 2)


def attention_mask_grad(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    seed: Tensor | None,
    logsumexp: Tensor,
    g: Tensor,
    delta: Tensor,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """The gradient of the added mask, in its shape."""
    weights = _weights(q, k, mask, logsumexp, causal, scale)
    slope = _slope(weights, v, seed, g, delta, dropout, offset)
    return slope.sum_to_size(mask.shape).to(mask.dtype)


def _weights(
    q: Tensor, k: Tensor, mask: Tensor | None, logsumexp: Tensor, causal: bool, scale: float
) -> Tensor:
    """The weights [B, H, T, S] again, from the log-sum-exp of the scores."""
    scores = _scores(q, _for_each_head(k, q.shape[1]), mask, causal, scale)
    return torch.exp(scores - logsumexp.unsqueeze(-1))


def _slope(
    weights: Tensor, v: Tensor, seed: Tensor | None, g: Tensor, delta: Tensor, dropout: float, offset: int
) -> Tensor:
    """The gradient of the scores [B, H, T, S]."""
    of_weights = wide(g) @ wide(_for_each_head(v, g.shape[1])).mT
    return weights * (_dropped(of_weights, seed, dropout, offset) - delta.unsqueeze(-1))


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    scores = wide(q) @ wide(k).mT * _factor(q, scale)
    if mask is not None:
        scores = _hidden(scores, ~mask) if mask.dtype is torch.bool else scores + wide(mask)
    return _hidden(scores, ~_past(q, k)) if causal else scores


def _hidden(scores: Tensor, unseen: Tensor) -> Tensor:
    """`scores`, or a mask, with what `unseen` says taken from sight."""
    if scores.dtype is torch.bool:
        return scores & ~unseen
    scores, unseen = torch.broadcast_tensors(scores, unseen)
    return scores.masked_fill(unseen, -math.inf)


def _past(q: Tensor, k: Tensor) -> Tensor:
    """[T, S]: whether key s is not after query t, both counted from the first."""
    return torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()


def _for_each_head(x: Tensor, heads: int) -> Tensor:
    """The keys or values of `x` [B, K, ...] that each of `heads` heads reads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _of_groups(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient of `x` [B, K, ...] from that of each head's copy of it."""
    batch, groups, *rest = x.shape
    return gradient.reshape(batch, groups, -1, *rest).sum(2).to(x.dtype)


def _dropped(weights: Tensor, seed: Tensor | None, p: float, offset: int) -> Tensor:
    """`weights` [B, H, T, S] after dropout; as they are without a seed."""
    return weights if seed is None else dropout_of(weights, seed, p=p, offset=offset)


def _factor(q: Tensor, scale: float) -> float:
    return scale or 1.0 / math.sqrt(q.shape[3])
