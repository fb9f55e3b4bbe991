"""Matrix products: any transposes, batched or split along the inner dimension, float32 accumulation.

One program computes one BLOCK_M x BLOCK_N tile and hands it to a generated epilogue, which adds biases,
applies activations, and stores one or several outputs. Transposes are strides. When the inner dimension
is long and the output small (weight gradients), SPLITS programs share it: each stores its own float32
slice of a [SPLITS, M, N] buffer, and `columns.finish` adds the slices up in a fixed order.
"""

import triton
import triton.language as tl


@triton.jit
def keep_tile(tile, slice_index, row, column, mask, operands):
    """The prologue that changes nothing."""
    return tile


@triton.jit
def matmul(
    a,
    b,
    M,
    N,
    K,
    a_strides,
    b_strides,
    operands,
    EPILOGUE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
    GROUP_M: tl.constexpr = 8,
    SPLITS: tl.constexpr = 1,
    EVEN_K: tl.constexpr = False,
    PROLOGUE_A: tl.constexpr = keep_tile,
    PROLOGUE_B: tl.constexpr = keep_tile,
):
    """C = A B; grid: (ceil(M / BLOCK_M) * ceil(N / BLOCK_N), slices), slices = SPLITS or the batch size.

    a, b: pointers to bf16, f16 or f32 elements. M, N, K: sizes, constants where they are specialised.
    a_strides, b_strides: (slice, row, column) strides in elements; slice strides are 0 when SPLITS > 1
    or nothing is batched.
    EPILOGUE(tile float32 [BLOCK_M, BLOCK_N], slice int32, row int32 [BLOCK_M, 1],
    column int32 [1, BLOCK_N], mask bool [BLOCK_M, BLOCK_N], operands): stores the outputs.
    PROLOGUE_A(tile, slice, row [BLOCK_M, 1], inner [1, BLOCK_K], mask, operands): returns the tile of A
    to multiply, in the element type of B; PROLOGUE_B likewise with inner [BLOCK_K, 1] and
    column [1, BLOCK_N]. Elements outside the mask must stay zero.
    EVEN_K: K is a multiple of BLOCK_K, so the inner dimension needs no mask.
    PRECISION: of float32 products: "ieee", "tf32x3" or "tf32"; narrow types ignore it.
    """
    row_block, column_block = _tile_of_program(M, N, BLOCK_M, BLOCK_N, GROUP_M)
    slice_index = tl.program_id(1)
    row = (row_block * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    column = (column_block * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    inner = tl.arange(0, BLOCK_K)

    blocks = tl.cdiv(K, BLOCK_K)
    first = 0
    if SPLITS > 1:
        share = tl.cdiv(blocks, SPLITS)
        first = slice_index * share
        blocks = tl.minimum(first + share, blocks)

    a_slice = a + slice_index * a_strides[0]
    b_slice = b + slice_index * b_strides[0]
    accumulator = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(first, blocks):
        a_inner = (block * BLOCK_K + inner)[None, :]
        b_inner = (block * BLOCK_K + inner)[:, None]
        a_mask = row < M
        b_mask = column < N
        if not EVEN_K:
            a_mask = a_mask & (a_inner < K)
            b_mask = b_mask & (b_inner < K)
        a_tile = tl.load(a_slice + (row * a_strides[1] + a_inner * a_strides[2]), a_mask, 0.0)
        b_tile = tl.load(b_slice + (b_inner * b_strides[1] + column * b_strides[2]), b_mask, 0.0)
        a_tile = PROLOGUE_A(a_tile, slice_index, row, a_inner, a_mask, operands)
        b_tile = PROLOGUE_B(b_tile, slice_index, b_inner, column, b_mask, operands)
        accumulator = tl.dot(a_tile, b_tile, accumulator, input_precision=PRECISION)
    EPILOGUE(accumulator, slice_index, row, column, (row < M) & (column < N), operands)


@triton.jit
def _tile_of_program(M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """(row block, column block) of this program: GROUP_M row blocks at a time share columns in the cache."""
    program = tl.program_id(0)
    row_blocks = tl.cdiv(M, BLOCK_M)
    column_blocks = tl.cdiv(N, BLOCK_N)
    group = program // (GROUP_M * column_blocks)
    first_row_block = group * GROUP_M
    height = tl.minimum(row_blocks - first_row_block, GROUP_M)
    within = program % (GROUP_M * column_blocks)
    return first_row_block + within % height, within // height
