"""Loops over time whose state stays in registers: a program holds some rows of it and walks over all steps.

Rows do not depend on each other, so nothing crosses programs. What a step multiplies the state with is
loaded before the loop where it fits, and waits in shared memory; what a step reads of sequences does not
depend on the state, so that copies of the next step's run while this one is computed.
"""

import triton
import triton.language as tl


@triton.jit
def scan(
    rows,
    steps,
    start_operands,
    operands,
    finish_operands,
    START: tl.constexpr,
    STEP: tl.constexpr,
    FINISH: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Loops of BLOCK_M rows; grid: (ceil(rows / BLOCK_M),).

    rows, steps: sizes. REVERSE: begins with the last step. STAGES: of the pipeline of loads.
    START(row int32 [BLOCK_M, 1], mask bool alike, start_operands): (state, held), two tuples of tiles: the
    float32 state before the first step, and what the steps read again and again.
    STEP(state, held, row, mask, step int32, operands): the state after a step; stores what it yields.
    FINISH(state, row, mask, finish_operands): stores the state after the last step.
    """
    row = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    mask = row < rows
    state, held = START(row, mask, start_operands)
    for turn in tl.range(0, steps, num_stages=STAGES):
        step = steps - 1 - turn if REVERSE else turn
        state = STEP(state, held, row, mask, step, operands)
    FINISH(state, row, mask, finish_operands)
