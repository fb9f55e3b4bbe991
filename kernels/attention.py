"""Attention without its matrix of scores in memory: Dao 2023, "FlashAttention-2" (arXiv:2307.08691).

A program holds one block of queries and walks over blocks of keys. It keeps each query's greatest score m
and the sum l of exp(score - m) so far; when a block raises m, what was summed is scaled down:

    l = exp(m_old - m) l + sum(exp(s - m)),    o = exp(m_old - m) o + exp(s - m) v,    result = o / l

Operands and arguments are those that `scores` describes.
"""

import triton
import triton.language as tl

from esper.kernels.scores import (
    head_slice,
    kept,
    key_blocks,
    load_seed,
    load_tile,
    mask_slice,
    queries_of_program,
    score_unit,
    scores_of,
    store_tile,
    weights_of,
)


@triton.jit
def attention_forward(
    q,
    k,
    v,
    mask,
    seed,
    result,
    logsumexp,
    heads,
    kv_heads,
    T,
    S,
    q_strides,
    k_strides,
    v_strides,
    mask_strides,
    scale,
    dropout,
    offset,
    CAUSAL: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Results of BLOCK_M queries of one head; grid: (ceil(T / BLOCK_M) * B * heads,).

    result: pointer to contiguous [B, T, heads, E]. logsumexp: None, or pointer to float32 [B, heads, T].
    """
    slice_index, batch, head, first = queries_of_program(T, heads, CAUSAL, BLOCK_M)
    row = first + tl.arange(0, BLOCK_M)
    kv_head = head // (heads // kv_heads)
    q = head_slice(q, batch, head, q_strides)
    k = head_slice(k, batch, kv_head, k_strides)
    v = head_slice(v, batch, kv_head, v_strides)
    mask = mask_slice(mask, batch, head, mask_strides)
    random = load_seed(seed)
    query, column, v_column = row[:, None], tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_E)[None, :]

    q_tile = load_tile(q, query, column[None, :], q_strides, T, D, False)
    unit = score_unit(mask, scale)
    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sums = tl.zeros([BLOCK_M, BLOCK_E], tl.float32)
    inside, end = key_blocks(first, S, CAUSAL, BLOCK_M, BLOCK_N)
    for part in tl.static_range(2):
        for block in range(0 if part == 0 else inside, inside if part == 0 else end):
            position = block * BLOCK_N + tl.arange(0, BLOCK_N)
            key = position[None, :]
            k_tile = load_tile(k, key, column[:, None], k_strides, S, D, part == 0)
            v_tile = load_tile(v, position[:, None], v_column, v_strides, S, E, part == 0)
            products = tl.dot(q_tile, k_tile, input_precision=PRECISION)
            scores = scores_of(products, mask, mask_strides, query, key, T, S, scale, CAUSAL, part == 0)
            raised = tl.maximum(peak, tl.max(scores, 1))
            level = raised * unit
            if mask is not None:
                level = tl.where(raised == float("-inf"), 0.0, level)
            weights = weights_of(scores, level[:, None], unit, q.dtype.element_ty == tl.float32)
            shrink = weights_of(peak, level, unit, q.dtype.element_ty == tl.float32)
            total = total * shrink + tl.sum(weights, 1)
            peak = raised
            if seed is not None:
                weights = tl.where(kept(random, dropout, offset, slice_index, query, key, T, S), weights, 0.0)
            sums = tl.dot(weights.to(v_tile.dtype), v_tile, sums * shrink[:, None], input_precision=PRECISION)

    safe = tl.where(total == 0.0, 1.0, total)
    sums = sums / safe[:, None]
    if seed is not None:
        sums *= 1.0 / (1.0 - dropout)
    store_tile(result, batch, head, heads, query, v_column, T, E, sums)
    if logsumexp is not None:
        found = tl.where(total == 0.0, 0.0, peak * unit + tl.log(safe))
        tl.store(logsumexp + slice_index * T + row, found, row < T)
