"""Gradients of attention without its matrix of scores in memory (Dao et al. 2022, arXiv:2205.14135, B.2).

The weights P come again from the saved log-sum-exp. With dP = g v' and delta = rowsum(g * result), the
gradient of the scores is dS = P * (dP - delta); then dq = dS k, dk = dS' q, dv = P' g. One kernel walks over
keys for dq, another over queries for dk and dv, a third over batch and heads for an added mask: nobody adds
to what another program writes, so equal inputs give equal bits.

Operands and arguments are those that `scores` describes. g is the gradient of the results [B, heads, T, E];
logsumexp and delta are float32 [B, heads, T], with strides (batch, head, row).
"""

import triton
import triton.language as tl

from esper.kernels.scores import (
    add_product,
    head_slice,
    kept,
    key_blocks,
    load_seed,
    load_statistics,
    load_tile,
    mask_slice,
    queries_of_program,
    score_unit,
    scores_of,
    store_tile,
    weights_of,
)


@triton.jit
def attention_query_grad(
    q,
    k,
    v,
    mask,
    seed,
    logsumexp,
    g,
    delta,
    dq,
    heads,
    kv_heads,
    T,
    S,
    q_strides,
    k_strides,
    v_strides,
    mask_strides,
    logsumexp_strides,
    g_strides,
    delta_strides,
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
    """The gradient of BLOCK_M queries of one head; grid: (ceil(T / BLOCK_M) * B * heads,).

    dq: pointer to contiguous [B, T, heads, D].
    """
    slice_index, batch, head, first = queries_of_program(T, heads, CAUSAL, BLOCK_M)
    row = first + tl.arange(0, BLOCK_M)
    kv_head = head // (heads // kv_heads)
    q = head_slice(q, batch, head, q_strides)
    k = head_slice(k, batch, kv_head, k_strides)
    v = head_slice(v, batch, kv_head, v_strides)
    g = head_slice(g, batch, head, g_strides)
    mask = mask_slice(mask, batch, head, mask_strides)
    random = load_seed(seed)
    query = row[:, None]
    column, v_column = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_E)

    q_tile = load_tile(q, query, column[None, :], q_strides, T, D, False)
    g_tile = load_tile(g, query, v_column[None, :], g_strides, T, E, False)
    level = load_statistics(logsumexp, batch, head, row, logsumexp_strides, T, float("inf"))
    center = load_statistics(delta, batch, head, row, delta_strides, T, 0.0)
    unit = score_unit(mask, scale)
    sums = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    inside, end = key_blocks(first, S, CAUSAL, BLOCK_M, BLOCK_N)
    for part in tl.static_range(2):
        for block in range(0 if part == 0 else inside, inside if part == 0 else end):
            key = (block * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
            k_tile = load_tile(k, key, column[:, None], k_strides, S, D, part == 0)
            v_tile = load_tile(v, key, v_column[:, None], v_strides, S, E, part == 0)
            products = tl.dot(q_tile, k_tile, input_precision=PRECISION)
            scores = scores_of(products, mask, mask_strides, query, key, T, S, scale, CAUSAL, part == 0)
            weights = weights_of(scores, level[:, None], unit, q.dtype.element_ty == tl.float32)
            slope = tl.dot(g_tile, v_tile, input_precision=PRECISION)
            if seed is not None:
                keep = kept(random, dropout, offset, slice_index, query, key, T, S)
                slope = tl.where(keep, slope * (1.0 / (1.0 - dropout)), 0.0)
            slope = weights * (slope - center[:, None])
            sums = add_product(sums, slope, tl.trans(k_tile), PRECISION)
    store_tile(dq, batch, head, heads, query, column[None, :], T, D, sums * scale)


@triton.jit
def attention_key_value_grad(
    q,
    k,
    v,
    mask,
    seed,
    logsumexp,
    g,
    delta,
    dk,
    dv,
    heads,
    kv_heads,
    T,
    S,
    q_strides,
    k_strides,
    v_strides,
    mask_strides,
    logsumexp_strides,
    g_strides,
    delta_strides,
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
    """The gradients of BLOCK_N keys and values; grid: (ceil(S / BLOCK_N) * B * kv_heads,).

    A program adds up over all queries of all heads that share its keys. Tiles are [keys, queries].
    dk, dv: pointers to contiguous [B, S, kv_heads, D] and [B, S, kv_heads, E], each None if nobody needs it.
    """
    blocks = tl.cdiv(S, BLOCK_N)
    slice_index = tl.program_id(0) // blocks
    batch = slice_index // kv_heads
    kv_head = slice_index % kv_heads
    first_key = tl.program_id(0) % blocks * BLOCK_N
    key = (first_key + tl.arange(0, BLOCK_N))[:, None]
    k = head_slice(k, batch, kv_head, k_strides)
    v = head_slice(v, batch, kv_head, v_strides)
    random = load_seed(seed)
    column, v_column = tl.arange(0, BLOCK_D)[None, :], tl.arange(0, BLOCK_E)[None, :]

    k_tile = load_tile(k, key, column, k_strides, S, D, False)
    v_tile = load_tile(v, key, v_column, v_strides, S, E, False)
    unit = score_unit(mask, scale)
    k_sums = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    v_sums = tl.zeros([BLOCK_N, BLOCK_E], tl.float32)
    end = tl.cdiv(T, BLOCK_M)
    begin = 0
    inside = 0
    if CAUSAL:
        begin = tl.minimum(first_key // BLOCK_M, end)
        inside = tl.minimum(tl.cdiv(first_key + BLOCK_N - 1, BLOCK_M), end)
    for member in range(heads // kv_heads):
        head = kv_head * (heads // kv_heads) + member
        head_q = head_slice(q, batch, head, q_strides)
        head_g = head_slice(g, batch, head, g_strides)
        head_mask = mask_slice(mask, batch, head, mask_strides)
        for part in tl.static_range(2 if CAUSAL else 1):
            for block in range(inside if part == 0 else begin, end if part == 0 else inside):
                row = block * BLOCK_M + tl.arange(0, BLOCK_M)
                query = row[None, :]
                q_tile = load_tile(head_q, row[:, None], column, q_strides, T, D, False)
                g_tile = load_tile(head_g, row[:, None], v_column, g_strides, T, E, False)
                level = load_statistics(logsumexp, batch, head, row, logsumexp_strides, T, float("inf"))
                products = tl.dot(k_tile, tl.trans(q_tile), input_precision=PRECISION)
                scores = scores_of(
                    products, head_mask, mask_strides, query, key, T, S, scale, CAUSAL, part == 0
                )
                weights = weights_of(scores, level[None, :], unit, q.dtype.element_ty == tl.float32)
                dropped = weights
                if seed is not None:
                    keep = kept(random, dropout, offset, batch * heads + head, query, key, T, S)
                    dropped = tl.where(keep, weights, 0.0)
                if dv is not None:
                    v_sums = tl.dot(dropped.to(g_tile.dtype), g_tile, v_sums, input_precision=PRECISION)
                if dk is not None:
                    center = load_statistics(delta, batch, head, row, delta_strides, T, 0.0)
                    slope = tl.dot(v_tile, tl.trans(g_tile), input_precision=PRECISION)
                    if seed is not None:
                        slope = tl.where(keep, slope * (1.0 / (1.0 - dropout)), 0.0)
                    slope = weights * (slope - center[None, :])
                    k_sums = add_product(k_sums, slope, q_tile, PRECISION)
    if dk is not None:
        store_tile(dk, batch, kv_head, kv_heads, key, column, S, D, k_sums * scale)
    if dv is not None:
        if seed is not None:
            v_sums *= 1.0 / (1.0 - dropout)
        store_tile(dv, batch, kv_head, kv_heads, key, v_column, S, E, v_sums)


@triton.jit
def attention_mask_grad(
    q,
    k,
    v,
    mask,
    seed,
    logsumexp,
    g,
    delta,
    dmask,
    batches,
    heads,
    kv_heads,
    T,
    S,
    q_strides,
    k_strides,
    v_strides,
    mask_strides,
    logsumexp_strides,
    g_strides,
    delta_strides,
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
    """The gradient of an added mask; grid: (ceil(T / BLOCK_M) * ceil(S / BLOCK_N) * slices of the mask,).

    A program adds up one block over the batch, or the heads, or both, along which the mask is broadcast.
    dmask: pointer to contiguous [slices, T, S].
    """
    blocks_wide = tl.cdiv(S, BLOCK_N)
    blocks = tl.cdiv(T, BLOCK_M) * blocks_wide
    slice_index = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    first = block // blocks_wide * BLOCK_M
    first_key = block % blocks_wide * BLOCK_N
    row = first + tl.arange(0, BLOCK_M)
    query = row[:, None]
    key = (first_key + tl.arange(0, BLOCK_N))[None, :]
    first_batch = slice_index
    head_count = heads
    if mask_strides[1] is not None:
        first_batch = slice_index // heads
        head_count = 1
    batch_count = batches
    if mask_strides[0] is not None:
        batch_count = 1
    if CAUSAL:
        batch_count = tl.where(first_key < first + BLOCK_M, batch_count, 0)
    random = load_seed(seed)
    column, v_column = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_E)
    unit = score_unit(mask, scale)

    sums = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for batch_step in range(batch_count):
        for head_step in range(head_count):
            batch = first_batch + batch_step
            head = slice_index * 0 + head_step
            if mask_strides[1] is not None:
                head = slice_index % heads
            kv_head = head // (heads // kv_heads)
            q_tile = load_tile(
                head_slice(q, batch, head, q_strides), query, column[None, :], q_strides, T, D, False
            )
            k_tile = load_tile(
                head_slice(k, batch, kv_head, k_strides), key, column[:, None], k_strides, S, D, False
            )
            products = tl.dot(q_tile, k_tile, input_precision=PRECISION)
            scores = scores_of(
                products,
                mask_slice(mask, batch, head, mask_strides),
                mask_strides,
                query,
                key,
                T,
                S,
                scale,
                CAUSAL,
                not CAUSAL,
            )
            level = load_statistics(logsumexp, batch, head, row, logsumexp_strides, T, float("inf"))
            weights = weights_of(scores, level[:, None], unit, q.dtype.element_ty == tl.float32)
            g_tile = load_tile(
                head_slice(g, batch, head, g_strides), query, v_column[None, :], g_strides, T, E, False
            )
            v_tile = load_tile(
                head_slice(v, batch, kv_head, v_strides), key, v_column[:, None], v_strides, S, E, False
            )
            slope = tl.dot(g_tile, v_tile, input_precision=PRECISION)
            if seed is not None:
                keep = kept(random, dropout, offset, batch * heads + head, query, key, T, S)
                slope = tl.where(keep, slope * (1.0 / (1.0 - dropout)), 0.0)
            center = load_statistics(delta, batch, head, row, delta_strides, T, 0.0)
            sums += weights * (slope - center[:, None])
    store_tile(dmask, slice_index, 0, 1, query, key, T, S, sums)
