"""Launches that several kernels of one kind share: which of them a program belongs to.

The first programs are the first member's, as many as it has tiles, and so on. What differs between members
is chosen by the member's number: a pointer or a size by `pick`, a generated body by `if`.
"""

import triton
import triton.language as tl


@triton.jit
def pick(values, index):
    """values[index], of a tuple of pointers or of numbers; index: int32 scalar."""
    chosen = values[0]
    for i in tl.static_range(1, len(values)):
        chosen = tl.where(index == i, values[i], chosen)
    return chosen


@triton.jit
def member_of_program(tiles):
    """(which of several products that share a launch, which tile of it) this program computes.

    tiles: how many each has.
    """
    program = tl.program_id(0)
    member = 0
    start = 0
    end = tiles[0]
    for i in tl.static_range(1, len(tiles)):
        later = program >= end
        member = tl.where(later, i, member)
        start = tl.where(later, end, start)
        end += tiles[i]
    return member, program - start
