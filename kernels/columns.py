"""Sums over rows and over everything but a channel, in two deterministic steps.

First `columns` or `channels` adds up a part of the rows a program and writes partial sums, a line a part,
to a float32 [parts, width] buffer; then `finish` adds the lines up in a fixed order. There are no atomics,
so equal inputs give equal bits. `finish` also ends products whose inner dimension was split.
"""

import triton
import triton.language as tl

from esper.kernels.sums import add_terms, reduce_sums, store_sums, zero_sums


@triton.jit
def columns(
    M,
    operands,
    partials,
    BODY: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BEFORE_LOOP: tl.constexpr = None,
):
    """Sums over the rows of a [M, K] space; grid: (ceil(K / BLOCK_K), parts), any number of parts.

    partials: tuple of float32 pointers to [parts, K].
    BODY(row int32 [BLOCK_M, 1], column int32 [1, BLOCK_K], mask, operands): returns a tuple of float32
    [BLOCK_M, BLOCK_K] terms, one for each of `partials`, and may store.
    BEFORE_LOOP(column, operands), or None: a tuple of what BODY finds behind its operands.
    """
    index = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    column = index[None, :]
    part = tl.program_id(1)
    sums = zero_sums(partials, [BLOCK_M, BLOCK_K])
    if M > 0:
        given = operands if BEFORE_LOOP is None else operands + BEFORE_LOOP(column, operands)
        for block in range(part, tl.cdiv(M, BLOCK_M), tl.num_programs(1)):
            row = (block * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
            mask = (row < M) & (column < K)
            sums = add_terms(sums, BODY(row, column, mask, given), mask)
    store_sums(sums, partials, part * K + index, index < K, 0)


@triton.jit
def channels(
    A,
    B,
    operands,
    partials,
    BODY: tl.constexpr,
    C: tl.constexpr,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr = 1,
    BEFORE_LOOP: tl.constexpr = None,
):
    """Sums over the first and last axis of an [A, C, B] space; grid: (C, parts), any number of parts.

    A, B: int32 run-time sizes. partials: tuple of float32 pointers to [parts, C].
    BODY(before int32 [BLOCK], channel int32 scalar, after int32 [BLOCK], mask bool [BLOCK], operands): the
    indices of an element of the space; returns a tuple of float32 [BLOCK] terms, and may store.
    VECTOR: 1 or a divisor of B; then `after` and the terms are [BLOCK / VECTOR, VECTOR], and the elements of
    a line share `before` and the mask, [BLOCK / VECTOR, 1].
    BEFORE_LOOP(channel, operands), or None: a tuple of what BODY finds behind its operands.
    """
    channel = tl.program_id(0)
    part = tl.program_id(1)
    line = B // VECTOR
    sums = zero_sums(partials, [BLOCK] if VECTOR == 1 else [BLOCK // VECTOR, VECTOR])
    if A * B > 0:
        given = operands if BEFORE_LOOP is None else operands + BEFORE_LOOP(channel, operands)
        for block in range(part, tl.cdiv(A * B, BLOCK), tl.num_programs(1)):
            vector = block * (BLOCK // VECTOR) + tl.arange(0, BLOCK // VECTOR)
            before = vector // line
            after = vector % line * VECTOR
            mask = vector < A * line
            if VECTOR > 1:
                before = before[:, None]
                after = after[:, None] + tl.arange(0, VECTOR)[None, :]
                mask = mask[:, None]
            sums = add_terms(sums, BODY(before, channel, after, mask, given), mask)
    if VECTOR > 1:
        sums = reduce_sums(sums, 1)
    store_sums(sums, partials, part * C + channel, True, 0)


@triton.jit
def finish(
    parts,
    width,
    partials,
    operands,
    BODY: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Adds up the lines of [parts, width] buffers; grid: (ceil(width / BLOCK_W),).

    parts, width: int32 or constants. partials: tuple of float32 pointers.
    BODY(totals: tuple of float32 [BLOCK_W], offsets int32 [BLOCK_W], mask, operands): stores the results.
    """
    totals_of_lines(tl.program_id(0), parts, width, partials, operands, BODY, BLOCK_P, BLOCK_W)


@triton.jit
def totals_of_lines(
    program,
    parts,
    width,
    partials,
    operands,
    BODY: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """As `finish`, for columns program * BLOCK_W and after."""
    offsets = program * BLOCK_W + tl.arange(0, BLOCK_W)
    mask = offsets < width
    sums = zero_sums(partials, [BLOCK_P, BLOCK_W])
    for first in range(0, parts, BLOCK_P):
        line = (first + tl.arange(0, BLOCK_P))[:, None]
        tile_mask = (line < parts) & mask[None, :]
        terms = ()
        for i in tl.static_range(len(partials)):
            terms = terms + (tl.load(partials[i] + line * width + offsets[None, :], tile_mask, 0.0),)
        sums = add_terms(sums, terms, tile_mask)
    BODY(reduce_sums(sums, 0), offsets, mask, operands)
