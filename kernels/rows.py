"""Kernels that keep whole rows in registers: row reductions and all that stands around them.

A program takes BLOCK_M rows of K columns (K is specialised, BLOCK_K its next power of two), so a norm or
a softmax reads its input once. `rows_with_sums` also adds up columns over all rows: each program walks
over many row blocks, keeps one partial sum a column in registers, and writes it to its own line of a
[programs, K] buffer that `columns.finish` adds up. No atomics: results do not depend on timing.
"""

import triton
import triton.language as tl

from esper.kernels.sums import add_terms, store_sums, zero_sums


@triton.jit
def rows(M, operands, BODY: tl.constexpr, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    """Runs `BODY` once for each block of rows; grid: (ceil(M / BLOCK_M),).

    M: int32 number of rows. BODY(row int32 [BLOCK_M, 1], column int32 [1, BLOCK_K],
    mask bool [BLOCK_M, BLOCK_K], operands): loads, reduces along axis 1, stores; returns nothing.
    """
    row = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    column = tl.arange(0, BLOCK_K)[None, :]
    BODY(row, column, (row < M) & (column < K), operands)


@triton.jit
def rows_with_sums(
    M,
    operands,
    partials,
    BODY: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Like `rows`, and adds up what `BODY` returns over all rows; grid: (programs,), any number of them.

    partials: tuple of float32 pointers to [programs, K], one for each sum.
    BODY(row, column, mask, operands): returns a tuple of float32 [BLOCK_M, BLOCK_K] terms, one for each of
    `partials`; terms outside the mask are ignored.
    """
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK_K)[None, :]
    sums = zero_sums(partials, [BLOCK_M, BLOCK_K])
    for block in range(program, tl.cdiv(M, BLOCK_M), tl.num_programs(0)):
        row = (block * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
        mask = (row < M) & (column < K)
        sums = add_terms(sums, BODY(row, column, mask, operands), mask)
    index = tl.arange(0, BLOCK_K)
    store_sums(sums, partials, program * K + index, index < K, 0)
