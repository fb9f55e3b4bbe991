"""Reductions along axes that lie side by side, of any size, anywhere in a tensor: [outer, along, inner].

A program has some of the elements that stay, runs along the axis in blocks, and keeps for each element of
a tile what was folded into it so far; then it reduces its tile. It may run along the axis again with what it
found in hand: to fold something else, or to compute each element. Where the axis comes last (inner is 1) the
lanes lie along it, else along the inner axis, so that they read side by side.

KINDS: of each fold "sum", "max", "prod", "argmax" or "argmin". Of several equal elements, the first; NaN is
the greatest to "max" and "argmax" and the least to "argmin". values: a tuple of what earlier runs found, each
a tile of the elements that stay.
"""

import triton
import triton.language as tl

from esper.kernels.functions import larger, largest

_FAR = tl.constexpr(2147483647)


@triton.jit
def rows_of_program(BLOCK_M: tl.constexpr):
    """The rows of an [M, R] space that a program has, int32 [BLOCK_M, 1]; grid: (ceil(M / BLOCK_M),)."""
    return (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]


@triton.jit
def columns_of_program(C, BLOCK_C: tl.constexpr):
    """(outer int32 scalar, inner int32 [1, BLOCK_C]) of a program; grid: (outer * ceil(C / BLOCK_C),)."""
    blocks = tl.cdiv(C, BLOCK_C)
    inner = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    return tl.program_id(0) // blocks, inner[None, :]


@triton.jit
def fold_rows(
    outer,
    M,
    R,
    values,
    operands,
    finish_operands,
    TERMS: tl.constexpr,
    FINISH: tl.constexpr,
    KINDS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Folds the rows `outer` of an [M, R] space; what FINISH returns.

    TERMS(values, outer, along int32 [1, BLOCK_R], inner = 0, mask, operands): a tuple of float32 tiles
    [BLOCK_M, BLOCK_R], one for each of KINDS; it may store.
    FINISH(totals: tuple of tiles [BLOCK_M, 1], values, outer, inner = 0, mask, finish_operands): stores the
    results; the values for later runs.
    """
    states = _start(KINDS, [BLOCK_M, BLOCK_R])
    for first in range(0, R, BLOCK_R):
        along = (first + tl.arange(0, BLOCK_R))[None, :]
        mask = (outer < M) & (along < R)
        states = _folded(states, TERMS(values, outer, along, 0, mask, operands), along, mask, KINDS)
    return FINISH(_ended(states, KINDS, 1), values, outer, 0, outer < M, finish_operands)


@triton.jit
def fold_columns(
    outer,
    inner,
    R,
    C,
    values,
    operands,
    finish_operands,
    TERMS: tl.constexpr,
    FINISH: tl.constexpr,
    KINDS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Folds the middle axis of an [outer, R, C] space at `outer` and `inner`; what FINISH returns.

    TERMS, FINISH: as of `fold_rows`, with along int32 [BLOCK_R, 1], tiles [BLOCK_R, BLOCK_C] and totals
    [1, BLOCK_C].
    """
    states = _start(KINDS, [BLOCK_R, BLOCK_C])
    for first in range(0, R, BLOCK_R):
        along = (first + tl.arange(0, BLOCK_R))[:, None]
        mask = (along < R) & (inner < C)
        states = _folded(states, TERMS(values, outer, along, inner, mask, operands), along, mask, KINDS)
    return FINISH(_ended(states, KINDS, 0), values, outer, inner, inner < C, finish_operands)


@triton.jit
def each_of_rows(outer, M, R, values, operands, BODY: tl.constexpr, BLOCK_R: tl.constexpr):
    """Runs BODY(values, outer, along, inner = 0, mask, operands), which stores, over the rows `outer`."""
    for first in range(0, R, BLOCK_R):
        along = (first + tl.arange(0, BLOCK_R))[None, :]
        BODY(values, outer, along, 0, (outer < M) & (along < R), operands)


@triton.jit
def each_of_columns(outer, inner, R, C, values, operands, BODY: tl.constexpr, BLOCK_R: tl.constexpr):
    """Runs BODY(values, outer, along, inner, mask, operands), which stores, over columns of [outer, R, C]."""
    for first in range(0, R, BLOCK_R):
        along = (first + tl.arange(0, BLOCK_R))[:, None]
        BODY(values, outer, along, inner, (along < R) & (inner < C), operands)


@triton.jit
def _neutral(KIND: tl.constexpr):
    """What changes nothing when it is folded in."""
    if KIND == "sum":
        return 0.0
    elif KIND == "prod":
        return 1.0
    elif KIND == "argmin":
        return float("inf")
    else:
        return float("-inf")


@triton.jit
def _start(KINDS: tl.constexpr, shape: tl.constexpr):
    """For each fold a tuple of a tile of values, and one of places where its kind asks for them."""
    states = ()
    for i in tl.static_range(len(KINDS)):
        state = (tl.full(shape, _neutral(KINDS[i]), tl.float32),)
        if KINDS[i] == "argmax" or KINDS[i] == "argmin":
            state = state + (tl.full(shape, _FAR, tl.int32),)
        states = states + (state,)
    return states


@triton.jit
def _folded(states, terms, along, mask, KINDS: tl.constexpr):
    """`states` with one more tile of terms folded in."""
    result = ()
    for i in tl.static_range(len(KINDS)):
        term = tl.where(mask, terms[i], _neutral(KINDS[i]))
        if KINDS[i] == "sum":
            result = result + ((states[i][0] + term,),)
        elif KINDS[i] == "prod":
            result = result + ((states[i][0] * term,),)
        elif KINDS[i] == "max":
            result = result + ((larger(states[i][0], term),),)
        else:
            best = states[i][0]
            place = states[i][1]
            ahead = (term > best) if KINDS[i] == "argmax" else (term < best)
            better = mask & ((place == _FAR) | ((best == best) & (ahead | (term != term))))
            result = result + ((tl.where(better, term, best), tl.where(better, along, place)),)
    return result


@triton.jit
def _ended(states, KINDS: tl.constexpr, axis: tl.constexpr):
    """The states reduced along `axis`, which stays with size 1."""
    totals = ()
    for i in tl.static_range(len(KINDS)):
        tile = states[i][0]
        if KINDS[i] == "sum":
            total = tl.sum(tile, axis, keep_dims=True)
        elif KINDS[i] == "prod":
            total = tl.reduce(tile, axis, _times, keep_dims=True)
        elif KINDS[i] == "max":
            total = largest(tile, axis)
        else:
            best = largest(tile, axis) if KINDS[i] == "argmax" else -largest(-tile, axis)
            is_best = (tile == best) | ((tile != tile) & (best != best))
            total = tl.min(tl.where(is_best, states[i][1], _FAR), axis, keep_dims=True)
        totals = totals + (total,)
    return totals


@triton.jit
def _times(a, b):
    return a * b
