"""Reductions along axes that lie side by side, of any size, anywhere in a tensor: [outer, along, inner].

A program has some of the elements that stay, runs along the axis in blocks, and keeps for each element of
a tile what was folded into it so far; then it reduces its tile. Where the axis comes last (inner is 1) the
lanes lie along it, else along the inner axis, so that they read side by side.

KIND: "sum", "max", "prod", "argmax" or "argmin". Of several equal elements, the first; NaN is the greatest
to "argmax" and the least to "argmin".
"""

import triton
import triton.language as tl

_FAR = tl.constexpr(2147483647)


@triton.jit
def fold_rows(
    M,
    R,
    operands,
    finish_operands,
    TERMS: tl.constexpr,
    FINISH: tl.constexpr,
    COUNT: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Folds the rows of an [M, R] space; grid: (ceil(M / BLOCK_M),).

    TERMS(outer int32 [BLOCK_M, 1], along int32 [1, BLOCK_R], inner = 0, mask, operands): a tuple of COUNT
    float32 tiles, [BLOCK_M, BLOCK_R]; it may store.
    FINISH(totals: tuple of COUNT tiles [BLOCK_M, 1], outer, inner = 0, mask, finish_operands): stores the
    results.
    """
    outer = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    states = _start(COUNT, KIND, [BLOCK_M, BLOCK_R])
    for first in range(0, R, BLOCK_R):
        along = (first + tl.arange(0, BLOCK_R))[None, :]
        mask = (outer < M) & (along < R)
        states = _folded(states, TERMS(outer, along, 0, mask, operands), along, mask, COUNT, KIND)
    FINISH(_ended(states, COUNT, KIND, 1), outer, 0, outer < M, finish_operands)


@triton.jit
def fold_columns(
    R,
    C,
    operands,
    finish_operands,
    TERMS: tl.constexpr,
    FINISH: tl.constexpr,
    COUNT: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Folds the middle axis of an [outer, R, C] space; grid: (outer * ceil(C / BLOCK_C),).

    TERMS(outer int32 scalar, along int32 [BLOCK_R, 1], inner int32 [1, BLOCK_C], mask, operands): as of
    `fold_rows`. FINISH(totals: tiles [1, BLOCK_C], outer, inner, mask, finish_operands): stores the results.
    """
    blocks = tl.cdiv(C, BLOCK_C)
    outer = tl.program_id(0) // blocks
    inner = ((tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    states = _start(COUNT, KIND, [BLOCK_R, BLOCK_C])
    for first in range(0, R, BLOCK_R):
        along = (first + tl.arange(0, BLOCK_R))[:, None]
        mask = (along < R) & (inner < C)
        states = _folded(states, TERMS(outer, along, inner, mask, operands), along, mask, COUNT, KIND)
    FINISH(_ended(states, COUNT, KIND, 0), outer, inner, inner < C, finish_operands)


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
def _start(COUNT: tl.constexpr, KIND: tl.constexpr, shape: tl.constexpr):
    """For each of COUNT folds a tile of values, and one of places where KIND asks for them."""
    states = ()
    for _ in tl.static_range(COUNT):
        states = states + (tl.full(shape, _neutral(KIND), tl.float32),)
        if KIND == "argmax" or KIND == "argmin":
            states = states + (tl.full(shape, _FAR, tl.int32),)
    return states


@triton.jit
def _folded(states, terms, along, mask, COUNT: tl.constexpr, KIND: tl.constexpr):
    """`states` with one more tile of terms folded in."""
    result = ()
    for i in tl.static_range(COUNT):
        term = tl.where(mask, terms[i], _neutral(KIND))
        if KIND == "sum":
            result = result + (states[i] + term,)
        elif KIND == "prod":
            result = result + (states[i] * term,)
        elif KIND == "max":
            result = result + (tl.maximum(states[i], term),)
        else:
            best = states[2 * i]
            place = states[2 * i + 1]
            if KIND == "argmax":
                term = tl.where(term != term, float("inf"), term)
                better = mask & ((term > best) | (place == _FAR))
            else:
                term = tl.where(term != term, float("-inf"), term)
                better = mask & ((term < best) | (place == _FAR))
            result = result + (tl.where(better, term, best), tl.where(better, along, place))
    return result


@triton.jit
def _ended(states, COUNT: tl.constexpr, KIND: tl.constexpr, axis: tl.constexpr):
    """The states reduced along `axis`, which stays with size 1."""
    totals = ()
    for i in tl.static_range(COUNT):
        if KIND == "sum":
            total = tl.sum(states[i], axis, keep_dims=True)
        elif KIND == "prod":
            total = tl.reduce(states[i], axis, _times, keep_dims=True)
        elif KIND == "max":
            total = tl.max(states[i], axis, keep_dims=True)
        else:
            if KIND == "argmax":
                best = tl.max(states[2 * i], axis, keep_dims=True)
            else:
                best = tl.min(states[2 * i], axis, keep_dims=True)
            total = tl.min(tl.where(states[2 * i] == best, states[2 * i + 1], _FAR), axis, keep_dims=True)
        totals = totals + (total,)
    return totals


@triton.jit
def _times(a, b):
    return a * b
