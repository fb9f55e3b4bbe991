"""Running sums along an axis that lies anywhere, of any size: [outer, along, inner].

A program has some of the elements beside the axis and walks along it in blocks, in the order of the sums,
with the sum of all blocks before as its only state. Sums of float32 are held in float64, as torch holds them.
"""

import triton
import triton.language as tl


@triton.jit
def running_rows(
    M,
    R,
    operands,
    store_operands,
    TERMS: tl.constexpr,
    STORE: tl.constexpr,
    REVERSE: tl.constexpr,
    SUM_TYPE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Sums along the rows of an [M, R] space; grid: (ceil(M / BLOCK_M),).

    TERMS(outer int32 [BLOCK_M, 1], along int32 [1, BLOCK_R], inner = 0, mask, operands): the float32 tile.
    STORE(tile float32 [BLOCK_M, BLOCK_R], outer, along, inner = 0, mask, store_operands): stores the sums.
    REVERSE: whether sums begin at the end. SUM_TYPE: in which they are held.
    """
    outer = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    total = tl.zeros([BLOCK_M, 1], SUM_TYPE)
    blocks = tl.cdiv(R, BLOCK_R)
    for step in range(blocks):
        first = (blocks - 1 - step if REVERSE else step) * BLOCK_R
        along = (first + tl.arange(0, BLOCK_R))[None, :]
        mask = (outer < M) & (along < R)
        tile = tl.where(mask, TERMS(outer, along, 0, mask, operands), 0.0).to(SUM_TYPE)
        sums = tl.cumsum(tile, 1, reverse=REVERSE) + total
        STORE(sums.to(tl.float32), outer, along, 0, mask, store_operands)
        total += tl.sum(tile, 1, keep_dims=True)


@triton.jit
def running_columns(
    R,
    C,
    operands,
    store_operands,
    TERMS: tl.constexpr,
    STORE: tl.constexpr,
    REVERSE: tl.constexpr,
    SUM_TYPE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Sums along the middle axis of an [outer, R, C] space; grid: (outer * ceil(C / BLOCK_C),).

    TERMS, STORE: as of `running_rows`, with outer an int32 scalar, along int32 [BLOCK_R, 1] and inner int32
    [1, BLOCK_C].
    """
    columns = tl.cdiv(C, BLOCK_C)
    outer = tl.program_id(0) // columns
    inner = ((tl.program_id(0) % columns) * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    total = tl.zeros([1, BLOCK_C], SUM_TYPE)
    blocks = tl.cdiv(R, BLOCK_R)
    for step in range(blocks):
        first = (blocks - 1 - step if REVERSE else step) * BLOCK_R
        along = (first + tl.arange(0, BLOCK_R))[:, None]
        mask = (along < R) & (inner < C)
        tile = tl.where(mask, TERMS(outer, along, inner, mask, operands), 0.0).to(SUM_TYPE)
        sums = tl.cumsum(tile, 0, reverse=REVERSE) + total
        STORE(sums.to(tl.float32), outer, along, inner, mask, store_operands)
        total += tl.sum(tile, 0, keep_dims=True)
