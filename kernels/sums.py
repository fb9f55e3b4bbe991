"""Tuples of running sums, as long as the tuple of buffers that they end in.

Triton unrolls these loops while it compiles: a tuple of sums is a handful of tiles in registers.
"""

import triton
import triton.language as tl


@triton.jit
def zero_sums(destinations, shape: tl.constexpr):
    """A float32 tile of zeros for each of `destinations`."""
    sums = ()
    for _ in tl.static_range(len(destinations)):
        sums = sums + (tl.zeros(shape, tl.float32),)
    return sums


@triton.jit
def add_terms(sums, terms, mask):
    """sums[i] + terms[i] where `mask` holds, sums[i] elsewhere."""
    total = ()
    for i in tl.static_range(len(sums)):
        total = total + (sums[i] + tl.where(mask, terms[i], 0.0),)
    return total


@triton.jit
def reduce_sums(sums, axis: tl.constexpr):
    """Each tile summed along `axis`."""
    totals = ()
    for i in tl.static_range(len(sums)):
        totals = totals + (tl.sum(sums[i], axis),)
    return totals


@triton.jit
def store_sums(sums, destinations, offsets, mask, axis: tl.constexpr):
    """Sums each tile along `axis` and stores it to its destination."""
    for i in tl.static_range(len(destinations)):
        tl.store(destinations[i] + offsets, tl.sum(sums[i], axis), mask)
