"""One pass over the elements of an iteration space, in row-major order.

`BODY(offsets, mask, operands)` loads, computes and stores; it sees flat offsets, so a row of a
[rows, K] space is ``offsets // K`` and a column is ``offsets % K``. Every element belongs to exactly one
program.
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
