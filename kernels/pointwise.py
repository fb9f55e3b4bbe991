"""One pass over the elements of an iteration space, in row-major order.

`BODY` loads, computes and stores; it sees flat offsets, so a row of a [rows, K] space is ``offsets // K`` and
a column is ``offsets % K``. Every element belongs to exactly one program. Where K is a multiple of VECTOR, so
many elements side by side share their row: the row of the first of them is that of all, and what belongs to
a row is loaded once for them.
"""

import triton
import triton.language as tl


@triton.jit
def pointwise(numel, operands, BODY: tl.constexpr, BLOCK: tl.constexpr):
    """Runs `BODY` once for each of `numel` elements; grid: (ceil(numel / BLOCK),).

    numel: int32 size of the iteration space. operands: tuple of pointers and scalars, handed to `BODY`.
    BODY(offsets int32 [BLOCK], mask bool [BLOCK], operands): returns nothing.
    """
    elements(tl.program_id(0), numel, operands, BODY, BLOCK)


@triton.jit
def elements(program, numel, operands, BODY: tl.constexpr, BLOCK: tl.constexpr):
    """As `pointwise`, for elements program * BLOCK and after."""
    offsets = program * BLOCK + tl.arange(0, BLOCK)
    BODY(offsets, offsets < numel, operands)


@triton.jit
def pointwise_vectors(numel, operands, BODY: tl.constexpr, BLOCK: tl.constexpr, VECTOR: tl.constexpr):
    """The same over vectors of VECTOR elements, which is 1 or divides numel; grid: (ceil(numel / BLOCK),).

    BODY(offsets, first, mask, operands): offsets and mask are [BLOCK / VECTOR, VECTOR], first holds the first
    offset of each vector, [BLOCK / VECTOR, 1]. Where VECTOR is 1 all of them are [BLOCK].
    """
    elements_of_vectors(tl.program_id(0), numel, operands, BODY, BLOCK, VECTOR)


@triton.jit
def elements_of_vectors(
    program, numel, operands, BODY: tl.constexpr, BLOCK: tl.constexpr, VECTOR: tl.constexpr
):
    """As `pointwise_vectors`, for elements program * BLOCK and after."""
    if VECTOR == 1:
        offsets = program * BLOCK + tl.arange(0, BLOCK)
        BODY(offsets, offsets, offsets < numel, operands)
    else:
        vector = program * (BLOCK // VECTOR) + tl.arange(0, BLOCK // VECTOR)
        first = (vector * VECTOR)[:, None]
        offsets = first + tl.arange(0, VECTOR)[None, :]
        BODY(offsets, first, offsets < numel, operands)
