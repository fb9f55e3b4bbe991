"""Matrix products: any transposes, batched or split along the inner dimension, float32 accumulation.

One program computes one BLOCK_M x BLOCK_N tile and hands it to a generated epilogue, which adds biases,
applies activations, and stores one or several outputs. Transposes are strides. When the inner dimension
is long and the output small (weight gradients), SPLITS programs share it: each stores its own float32
slice of a [SPLITS, M, N] buffer, and `columns.finish` adds the slices up in a fixed order.

Several products of one shape whose results are added (the gradients that parallel projections give their
input) are *terms* of one product: one accumulator, an inner dimension that runs through all of them. The
sum of a factor along the inner dimension (the gradient of a bias, beside that of its weight) is taken from
the tiles that the programs of the first row or column of tiles read anyway.
"""

import triton
import triton.language as tl


@triton.jit
def keep_tile(tile, slice_index, row, column, mask, operands):
    """The prologue that changes nothing."""
    return tile


@triton.jit
def matmul(
    program,
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
    SPREAD: tl.constexpr = False,
    SUM_OF: tl.constexpr = "",
    SUM: tl.constexpr = None,
    sum_operands=(),
):
    """C = A[0] B[0] + A[1] B[1] + ...; grid: (ceil(M / BLOCK_M) * ceil(N / BLOCK_N), slices).

    program: the number of the tile. slices: SPLITS or the batch size.
    a, b: pointers to bf16, f16 or f32 elements. M, N, K: sizes, constants where they are specialised.
    a_strides, b_strides: (slice, row, column) strides in elements; slice strides are 0 when SPLITS > 1
    or nothing is batched. a, b, K and strides are tuples with one entry for each term.
    EPILOGUE(tile float32 [BLOCK_M, BLOCK_N], slice int32, row int32 [BLOCK_M, 1],
    column int32 [1, BLOCK_N], mask bool [BLOCK_M, BLOCK_N], operands): stores the outputs.
    PROLOGUE_A(tile, slice, row [BLOCK_M, 1], inner [1, BLOCK_K], mask, operands): returns the tile of A
    to multiply, in the element type of B; PROLOGUE_B likewise with inner [BLOCK_K, 1] and
    column [1, BLOCK_N]. Elements outside the mask must stay zero.
    EVEN_K: each of K is a multiple of BLOCK_K, so the inner dimension needs no mask.
    SPREAD: the epilogue's tile is spread evenly over the threads, a row side by side. Matrix instructions of
    AMD's GPUs leave a thread four columns of a row, half of what one access could store of a narrow type.
    PRECISION: of float32 products: "ieee", "tf32x3" or "tf32"; narrow types ignore it.
    SUM_OF: "a" or "b" to sum that factor along the inner dimension, "" for none; one term, and no batch.
    SUM(sums float32 [BLOCK_M] or [BLOCK_N], slice int32, offsets int32 alike, mask, sum_operands):
    stores the sums, of this slice's part of the inner dimension.
    """
    row_block, column_block = _tile_of_program(program, M, N, BLOCK_M, BLOCK_N, GROUP_M)
    slice_index = tl.program_id(1)
    row = (row_block * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    column = (column_block * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    inner = tl.arange(0, BLOCK_K)

    blocks = tl.cdiv(K[0], BLOCK_K)
    for i in tl.static_range(1, len(K)):
        blocks += tl.cdiv(K[i], BLOCK_K)
    first = 0
    if SPLITS > 1:
        share = tl.cdiv(blocks, SPLITS)
        first = slice_index * share
        blocks = tl.minimum(first + share, blocks)

    if SUM_OF == "a":
        terms = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    elif SUM_OF == "b":
        terms = tl.zeros([BLOCK_K, BLOCK_N], tl.float32)
    accumulator = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(first, blocks):
        if len(K) == 1:
            a_term, b_term, inner_size, start = a[0], b[0], K[0], 0
            a_slice, a_row, a_column = a_strides[0]
            b_slice, b_row, b_column = b_strides[0]
        else:
            a_term, a_slice, a_row, a_column = _term(a, a_strides, K, block, BLOCK_K)
            b_term, b_slice, b_row, b_column = _term(b, b_strides, K, block, BLOCK_K)
            inner_size, start = _span(K, block, BLOCK_K)
        a_inner = ((block - start) * BLOCK_K + inner)[None, :]
        b_inner = ((block - start) * BLOCK_K + inner)[:, None]
        a_mask = row < M
        b_mask = column < N
        if not EVEN_K:
            a_mask = a_mask & (a_inner < inner_size)
            b_mask = b_mask & (b_inner < inner_size)
        a_tile = tl.load(a_term + slice_index * a_slice + (row * a_row + a_inner * a_column), a_mask, 0.0)
        b_tile = tl.load(b_term + slice_index * b_slice + (b_inner * b_row + column * b_column), b_mask, 0.0)
        if SUM_OF == "a":
            terms = _plus(terms, a_tile, column_block == 0)
        elif SUM_OF == "b":
            terms = _plus(terms, b_tile, row_block == 0)
        a_tile = PROLOGUE_A(a_tile, slice_index, row, a_inner, a_mask, operands)
        b_tile = PROLOGUE_B(b_tile, slice_index, b_inner, column, b_mask, operands)
        accumulator = tl.dot(a_tile, b_tile, accumulator, input_precision=PRECISION)
    if SPREAD:
        # What is flat has another layout. Two reshapes alone would be none: adding zero stands between them.
        flat = tl.reshape(accumulator, [BLOCK_M * BLOCK_N]) + 0.0
        accumulator = tl.reshape(flat, [BLOCK_M, BLOCK_N])
    EPILOGUE(accumulator, slice_index, row, column, (row < M) & (column < N), operands)
    if SUM_OF == "a":
        offsets = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (offsets < M) & (column_block == 0)
        SUM(tl.sum(terms, 1), slice_index, offsets, mask, sum_operands)
    elif SUM_OF == "b":
        offsets = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
        mask = (offsets < N) & (row_block == 0)
        SUM(tl.sum(terms, 0), slice_index, offsets, mask, sum_operands)


@triton.jit
def _plus(terms, tile, here):
    """`terms` and `tile` added up where `here` holds, `terms` elsewhere."""
    if here:
        terms += tile.to(tl.float32)
    return terms


@triton.jit
def _term(factors, strides, K, block, BLOCK_K: tl.constexpr):
    """(pointer, slice, row and column strides) of the factor whose term has the block `block` of all K."""
    factor, step, row, column = factors[0], strides[0][0], strides[0][1], strides[0][2]
    end = tl.cdiv(K[0], BLOCK_K)
    for i in tl.static_range(1, len(K)):
        later = block >= end
        factor = tl.where(later, factors[i], factor)
        step = tl.where(later, strides[i][0], step)
        row = tl.where(later, strides[i][1], row)
        column = tl.where(later, strides[i][2], column)
        end += tl.cdiv(K[i], BLOCK_K)
    return factor, step, row, column


@triton.jit
def _span(K, block, BLOCK_K: tl.constexpr):
    """(inner size, first block) of the term that has the block `block` of all K."""
    size, start = K[0], 0
    end = tl.cdiv(K[0], BLOCK_K)
    for i in tl.static_range(1, len(K)):
        later = block >= end
        size = tl.where(later, K[i], size)
        start = tl.where(later, end, start)
        end += tl.cdiv(K[i], BLOCK_K)
    return size, start


@triton.jit
def _tile_of_program(program, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """(row block, column block) of a program: GROUP_M row blocks at a time share columns in the cache."""
    row_blocks = tl.cdiv(M, BLOCK_M)
    column_blocks = tl.cdiv(N, BLOCK_N)
    group = program // (GROUP_M * column_blocks)
    first_row_block = group * GROUP_M
    height = tl.minimum(row_blocks - first_row_block, GROUP_M)
    within = program % (GROUP_M * column_blocks)
    return first_row_block + within % height, within // height
