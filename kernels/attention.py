"""Attention without its matrix of scores in memory: Dao 2023, "FlashAttention-2" (arXiv:2307.08691).

A program holds one block of queries and walks over blocks of keys. It keeps each query's greatest score m
and the sum l of exp(score - m) so far; when a block raises m, what was summed is scaled down:

    l = exp(m_old - m) l + sum(exp(s - m)),    o = exp(m_old - m) o + exp(s - m) v,    result = o / l

The backward pass gets the weights again from the saved m + log(l). One kernel walks over keys for the
gradient of q, another over queries for those of k and v: nobody adds to what another program writes, so
equal inputs give equal bits.

Operands are read by strides. Blocks that no query of a program sees are skipped, and only blocks on the
edge of what is seen compare positions. A query that sees no key has zeros for its result, its log-sum-exp
and its gradients.

Arguments that all kernels share:
q [B, heads, T, D], k [B, kv_heads, S, D], v [B, kv_heads, S, E]: pointers of one element type.
mask: None, or a pointer to [B, heads, T, S], int1 or of q's type.
`*_strides`: (batch, head, row, column) in elements; of a mask, None along axes where it is broadcast.
seed: None, or a pointer to an int64. dropout, offset: the probability that a weight is dropped, and the
stream of random numbers, which are counted by a weight's index in [B, heads, T, S].
scale: float above 0. CAUSAL: each query sees the keys up to its own position.
BLOCK_D, BLOCK_E: powers of two, at least 16, not below D and E.
PRECISION: of float32 products, "ieee", "tf32x3" or "tf32".
"""

import triton
import triton.language as tl

from esper.kernels.functions import uniform

_LOG2_E = tl.constexpr(1.4426950408889634)


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
    slice_index, batch, head, first = _queries(T, heads, CAUSAL, BLOCK_M)
    row = first + tl.arange(0, BLOCK_M)
    kv_head = head // (heads // kv_heads)
    q = _slice(q, batch, head, q_strides)
    k = _slice(k, batch, kv_head, k_strides)
    v = _slice(v, batch, kv_head, v_strides)
    mask = _mask_slice(mask, batch, head, mask_strides)
    random = _load_seed(seed)
    query, column, v_column = row[:, None], tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_E)[None, :]

    q_tile = _load(q, query, column[None, :], q_strides, T, D, False)
    unit = _unit(mask, scale)
    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sums = tl.zeros([BLOCK_M, BLOCK_E], tl.float32)
    inside, end = _key_blocks(first, S, CAUSAL, BLOCK_M, BLOCK_N)
    for part in tl.static_range(2):
        for block in range(0 if part == 0 else inside, inside if part == 0 else end):
            position = block * BLOCK_N + tl.arange(0, BLOCK_N)
            key = position[None, :]
            k_tile = _load(k, key, column[:, None], k_strides, S, D, part == 0)
            v_tile = _load(v, position[:, None], v_column, v_strides, S, E, part == 0)
            products = tl.dot(q_tile, k_tile, input_precision=PRECISION)
            scores = _scores(products, mask, mask_strides, query, key, T, S, scale, CAUSAL, part == 0)
            raised = tl.maximum(peak, tl.max(scores, 1))
            level = raised * unit
            if mask is not None:
                level = tl.where(raised == float("-inf"), 0.0, level)
            weights = _weights(scores, level[:, None], unit, q.dtype.element_ty == tl.float32)
            shrink = _weights(peak, level, unit, q.dtype.element_ty == tl.float32)
            total = total * shrink + tl.sum(weights, 1)
            peak = raised
            if seed is not None:
                weights = tl.where(
                    _keep(random, dropout, offset, slice_index, query, key, T, S), weights, 0.0
                )
            sums = tl.dot(weights.to(v_tile.dtype), v_tile, sums * shrink[:, None], input_precision=PRECISION)

    safe = tl.where(total == 0.0, 1.0, total)
    sums = sums / safe[:, None]
    if seed is not None:
        sums *= 1.0 / (1.0 - dropout)
    _store(result, batch, head, heads, query, v_column, T, E, sums)
    if logsumexp is not None:
        found = tl.where(total == 0.0, 0.0, peak * unit + tl.log(safe))
        tl.store(logsumexp + slice_index * T + row, found, row < T)


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

    g: the gradient of the results [B, heads, T, E]. logsumexp, delta: float32 [B, heads, T], with strides
    (batch, head, row); delta is the sum of g * result over E. dq: pointer to contiguous [B, T, heads, D].
    """
    slice_index, batch, head, first = _queries(T, heads, CAUSAL, BLOCK_M)
    row = first + tl.arange(0, BLOCK_M)
    kv_head = head // (heads // kv_heads)
    q = _slice(q, batch, head, q_strides)
    k = _slice(k, batch, kv_head, k_strides)
    v = _slice(v, batch, kv_head, v_strides)
    g = _slice(g, batch, head, g_strides)
    mask = _mask_slice(mask, batch, head, mask_strides)
    random = _load_seed(seed)
    query = row[:, None]
    column, v_column = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_E)

    q_tile = _load(q, query, column[None, :], q_strides, T, D, False)
    g_tile = _load(g, query, v_column[None, :], g_strides, T, E, False)
    level = _load_rows(logsumexp, batch, head, row, logsumexp_strides, T, float("inf"))
    center = _load_rows(delta, batch, head, row, delta_strides, T, 0.0)
    unit = _unit(mask, scale)
    sums = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    inside, end = _key_blocks(first, S, CAUSAL, BLOCK_M, BLOCK_N)
    for part in tl.static_range(2):
        for block in range(0 if part == 0 else inside, inside if part == 0 else end):
            key = (block * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
            k_tile = _load(k, key, column[:, None], k_strides, S, D, part == 0)
            v_tile = _load(v, key, v_column[:, None], v_strides, S, E, part == 0)
            products = tl.dot(q_tile, k_tile, input_precision=PRECISION)
            scores = _scores(products, mask, mask_strides, query, key, T, S, scale, CAUSAL, part == 0)
            weights = _weights(scores, level[:, None], unit, q.dtype.element_ty == tl.float32)
            slope = tl.dot(g_tile, v_tile, input_precision=PRECISION)
            if seed is not None:
                keep = _keep(random, dropout, offset, slice_index, query, key, T, S)
                slope = tl.where(keep, slope * (1.0 / (1.0 - dropout)), 0.0)
            slope = weights * (slope - center[:, None])
            sums = tl.dot(slope.to(k_tile.dtype), tl.trans(k_tile), sums, input_precision=PRECISION)
    _store(dq, batch, head, heads, query, column[None, :], T, D, sums * scale)


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
    g, logsumexp, delta: as for `attention_query_grad`. dk, dv: pointers to contiguous
    [B, S, kv_heads, D] and [B, S, kv_heads, E], each None if nobody needs it.
    """
    blocks = tl.cdiv(S, BLOCK_N)
    slice_index = tl.program_id(0) // blocks
    batch = slice_index // kv_heads
    kv_head = slice_index % kv_heads
    first_key = tl.program_id(0) % blocks * BLOCK_N
    key = (first_key + tl.arange(0, BLOCK_N))[:, None]
    k = _slice(k, batch, kv_head, k_strides)
    v = _slice(v, batch, kv_head, v_strides)
    random = _load_seed(seed)
    column, v_column = tl.arange(0, BLOCK_D)[None, :], tl.arange(0, BLOCK_E)[None, :]

    k_tile = _load(k, key, column, k_strides, S, D, False)
    v_tile = _load(v, key, v_column, v_strides, S, E, False)
    unit = _unit(mask, scale)
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
        head_q = _slice(q, batch, head, q_strides)
        head_g = _slice(g, batch, head, g_strides)
        head_mask = _mask_slice(mask, batch, head, mask_strides)
        for part in tl.static_range(2 if CAUSAL else 1):
            for block in range(inside if part == 0 else begin, end if part == 0 else inside):
                row = block * BLOCK_M + tl.arange(0, BLOCK_M)
                query = row[None, :]
                q_tile = _load(head_q, row[:, None], column, q_strides, T, D, False)
                g_tile = _load(head_g, row[:, None], v_column, g_strides, T, E, False)
                level = _load_rows(logsumexp, batch, head, row, logsumexp_strides, T, float("inf"))
                products = tl.dot(k_tile, tl.trans(q_tile), input_precision=PRECISION)
                scores = _scores(
                    products, head_mask, mask_strides, query, key, T, S, scale, CAUSAL, part == 0
                )
                weights = _weights(scores, level[None, :], unit, q.dtype.element_ty == tl.float32)
                dropped = weights
                if seed is not None:
                    keep = _keep(random, dropout, offset, batch * heads + head, query, key, T, S)
                    dropped = tl.where(keep, weights, 0.0)
                if dv is not None:
                    v_sums = tl.dot(dropped.to(g_tile.dtype), g_tile, v_sums, input_precision=PRECISION)
                if dk is not None:
                    center = _load_rows(delta, batch, head, row, delta_strides, T, 0.0)
                    slope = tl.dot(v_tile, tl.trans(g_tile), input_precision=PRECISION)
                    if seed is not None:
                        slope = tl.where(keep, slope * (1.0 / (1.0 - dropout)), 0.0)
                    slope = weights * (slope - center[None, :])
                    k_sums = tl.dot(slope.to(q_tile.dtype), q_tile, k_sums, input_precision=PRECISION)
    if dk is not None:
        _store(dk, batch, kv_head, kv_heads, key, column, S, D, k_sums * scale)
    if dv is not None:
        if seed is not None:
            v_sums *= 1.0 / (1.0 - dropout)
        _store(dv, batch, kv_head, kv_heads, key, v_column, S, E, v_sums)


@triton.jit
def _queries(T, heads, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr):
    """(batch * heads + head, batch, head, first row) of a program that holds BLOCK_M queries."""
    blocks = tl.cdiv(T, BLOCK_M)
    slice_index = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    if CAUSAL:
        block = blocks - 1 - block  # those that see most keys start first
    return slice_index, slice_index // heads, slice_index % heads, block * BLOCK_M


@triton.jit
def _key_blocks(first, S, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """How many blocks of keys all of `row` see whole, and how many at least one of them sees a part of."""
    seen_by_all = S
    seen_by_one = S
    if CAUSAL:
        seen_by_all = tl.minimum(first + 1, S)
        seen_by_one = tl.minimum(first + BLOCK_M, S)
    return seen_by_all // BLOCK_N, tl.cdiv(seen_by_one, BLOCK_N)


@triton.jit
def _slice(pointer, batch, head, strides):
    """`pointer` at one head of one batch element; offsets of 64 bits, since whole tensors may be large."""
    return pointer + (batch.to(tl.int64) * strides[0] + head.to(tl.int64) * strides[1])


@triton.jit
def _mask_slice(mask, batch, head, strides):
    """As `_slice`, for a mask that may be None or broadcast."""
    found = mask
    if mask is not None:
        if strides[0] is not None:
            found = found + batch.to(tl.int64) * strides[0]
        if strides[1] is not None:
            found = found + head.to(tl.int64) * strides[1]
    return found


@triton.jit
def _load(pointer, row, column, strides, rows, columns: tl.constexpr, ALL_ROWS: tl.constexpr):
    """The tile of `row` and `column`, of which one is [:, None] and one [None, :]; zeros outside.

    ALL_ROWS: none of `row` is outside.
    """
    offsets = row * strides[2] + column * strides[3]
    ALL_COLUMNS: tl.constexpr = column.numel == columns
    if ALL_ROWS and ALL_COLUMNS:
        return tl.load(pointer + offsets)
    elif ALL_COLUMNS:
        return tl.load(pointer + offsets, row < rows, 0.0)
    elif ALL_ROWS:
        return tl.load(pointer + offsets, column < columns, 0.0)
    else:
        return tl.load(pointer + offsets, (row < rows) & (column < columns), 0.0)


@triton.jit
def _load_rows(pointer, batch, head, row, strides, rows, outside: tl.constexpr):
    """One float32 number for each of `row`."""
    return tl.load(_slice(pointer, batch, head, strides) + row * strides[2], row < rows, outside)


@triton.jit
def _load_seed(seed):
    if seed is None:
        return None
    else:
        return tl.load(seed)


@triton.jit
def _store(pointer, batch, head, heads, row, column, rows, columns: tl.constexpr, tile):
    """`tile` to contiguous [batch, rows, heads, columns], narrowed."""
    base = pointer + (batch.to(tl.int64) * rows * heads + head) * columns
    tl.store(base + row * heads * columns + column, tile, (row < rows) & (column < columns))


@triton.jit
def _unit(mask, scale):
    """What `_scores` must be multiplied by."""
    if mask is None or mask.dtype.element_ty == tl.int1:
        return scale
    else:
        return 1.0


@triton.jit
def _scores(
    products, mask, mask_strides, query, key, T, S, scale, CAUSAL: tl.constexpr, INSIDE: tl.constexpr
):
    """Scores, in parts of `_unit`, from products of queries and keys; -inf where a query sees no key.

    INSIDE: each query of the tile sees all its keys, the mask apart.
    """
    scores = products
    if mask is not None:
        entry = _mask_entry(mask, mask_strides, query, key, T, S)
        if mask.dtype.element_ty == tl.int1:
            scores = tl.where(entry, scores, float("-inf"))
        else:
            scores = scores * scale + entry.to(tl.float32)
    if not INSIDE:
        seen = key < S
        if CAUSAL:
            seen = seen & (key <= query)
        scores = tl.where(seen, scores, float("-inf"))
    return scores


@triton.jit
def _mask_entry(mask, strides, query, key, T, S):
    """The mask of a tile, 0 outside; it keeps the axes along which it is broadcast at size 1."""
    if strides[2] is None and strides[3] is None:
        return tl.load(mask)
    elif strides[2] is None:
        return tl.load(mask + key * strides[3], key < S, 0)
    elif strides[3] is None:
        return tl.load(mask + query * strides[2], query < T, 0)
    else:
        return tl.load(mask + (query * strides[2] + key * strides[3]), (query < T) & (key < S), 0)


@triton.jit
def _weights(scores, level, unit, EXACT: tl.constexpr):
    """exp(scores * unit - level), from 0 to 1.

    A power of 2 is one operation, and one less if log2(e) is part of both terms; but that rounds large
    terms, and the digits that are lost are seen where weights are not narrowed afterwards: EXACT.
    """
    if EXACT:
        return tl.exp(scores * unit - level)
    else:
        return tl.exp2(scores * (unit * _LOG2_E) - level * _LOG2_E)


@triton.jit
def _keep(seed, dropout, offset, slice_index, query, key, T, S):
    """Which weights are not dropped, by their index in [batch * heads, T, S]."""
    return uniform(seed, offset, (slice_index * T + query) * S + key) >= dropout
