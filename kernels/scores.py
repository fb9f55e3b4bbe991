"""What the kernels of attention share: which block a program has, tiles read by strides, scores and weights.

Blocks that no query of a program sees are skipped, and only blocks on the edge of what is seen compare
positions. A query that sees no key has zeros for its result, its log-sum-exp and its gradients.

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
def queries_of_program(T, heads, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr):
    """(batch * heads + head, batch, head, first row) of a program that holds BLOCK_M queries."""
    blocks = tl.cdiv(T, BLOCK_M)
    slice_index = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    if CAUSAL:
        block = blocks - 1 - block  # those that see most keys start first
    return slice_index, slice_index // heads, slice_index % heads, block * BLOCK_M


@triton.jit
def key_blocks(first, S, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """How many blocks of keys all of `row` see whole, and how many at least one of them sees a part of."""
    seen_by_all = S
    seen_by_one = S
    if CAUSAL:
        seen_by_all = tl.minimum(first + 1, S)
        seen_by_one = tl.minimum(first + BLOCK_M, S)
    return seen_by_all // BLOCK_N, tl.cdiv(seen_by_one, BLOCK_N)


@triton.jit
def head_slice(pointer, batch, head, strides):
    """`pointer` at one head of one batch element; offsets of 64 bits, since whole tensors may be large."""
    return pointer + (batch.to(tl.int64) * strides[0] + head.to(tl.int64) * strides[1])


@triton.jit
def mask_slice(mask, batch, head, strides):
    """As `head_slice`, for a mask that may be None or broadcast."""
    found = mask
    if mask is not None:
        if strides[0] is not None:
            found = found + batch.to(tl.int64) * strides[0]
        if strides[1] is not None:
            found = found + head.to(tl.int64) * strides[1]
    return found


@triton.jit
def load_tile(pointer, row, column, strides, rows, columns: tl.constexpr, ALL_ROWS: tl.constexpr):
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
def load_statistics(pointer, batch, head, row, strides, rows, outside: tl.constexpr):
    """One float32 number for each of `row`."""
    return tl.load(head_slice(pointer, batch, head, strides) + row * strides[2], row < rows, outside)


@triton.jit
def load_seed(seed):
    """The number at `seed`, or None."""
    found = seed
    if seed is not None:
        found = tl.load(seed)
    return found


@triton.jit
def store_tile(pointer, batch, head, heads, row, column, rows, columns: tl.constexpr, tile):
    """`tile` to contiguous [batch, rows, heads, columns], narrowed."""
    base = pointer + (batch.to(tl.int64) * rows * heads + head) * columns
    tl.store(base + row * heads * columns + column, tile, (row < rows) & (column < columns))


@triton.jit
def score_unit(mask, scale):
    """What `scores_of` must be multiplied by."""
    if mask is None or mask.dtype.element_ty == tl.int1:
        return scale
    else:
        return 1.0


@triton.jit
def scores_of(
    products, mask, mask_strides, query, key, T, S, scale, CAUSAL: tl.constexpr, INSIDE: tl.constexpr
):
    """Scores, in parts of `score_unit`, from products of queries and keys; -inf where a query sees no key.

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
def weights_of(scores, level, unit, EXACT: tl.constexpr):
    """exp(scores * unit - level), from 0 to 1.

    A power of 2 is one operation, and one less if log2(e) is part of both terms; but that rounds large
    terms, and the digits that are lost are seen where weights are not narrowed afterwards: EXACT.
    """
    if EXACT:
        return tl.exp(scores * unit - level)
    else:
        return tl.exp2(scores * (unit * _LOG2_E) - level * _LOG2_E)


@triton.jit
def kept(seed, dropout, offset, slice_index, query, key, T, S):
    """Which weights are not dropped, by their index in [batch * heads, T, S]."""
    return uniform(seed, offset, (slice_index * T + query) * S + key) >= dropout


@triton.jit
def add_product(sums, slope, factor, PRECISION: tl.constexpr):
    """The float32 `sums` plus the product of `slope`, narrowed to the type of `factor`, and `factor`.

    slope: a gradient of scores in float32. Its elements may be past float16's greatest number where their
    products with small factors add up to what float16 holds: rows that reach 2^15 are divided by a power of
    two before they are narrowed, which is exact for all but elements 2^28 times smaller than the row's
    greatest, and their products multiplied by it.
    """
    if factor.dtype == tl.float16:
        exponent = tl.max(tl.abs(slope), 1).to(tl.int32, bitcast=True) >> 23
        excess = tl.maximum(exponent - (127 + 14), 0)[:, None]
        down = ((127 - excess) << 23).to(tl.float32, bitcast=True)
        up = ((127 + excess) << 23).to(tl.float32, bitcast=True)
        product = tl.dot((slope * down).to(tl.float16), factor, input_precision=PRECISION)
        return sums + product * up
    else:
        return tl.dot(slope.to(factor.dtype), factor, sums, input_precision=PRECISION)
