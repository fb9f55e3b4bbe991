"""How large a tile each kernel takes, and with how many warps: a small model of the GPU, no measurements.

A thread should hold 16 elements or so and load 16 bytes at once; a grid should fill about 128
multiprocessors; a product's tile should be as large as the grid and the registers allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from esper.urza.kernel import Configuration, Constant

MULTIPROCESSORS = 128
"""About as many as the GPUs have that kernels are built for."""

ROW_LIMIT = 8192
"""The widest row that is kept in registers."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A configuration and what to try when it spills; the fields of `KernelSource` bear the same names."""

    constexprs: dict[str, Constant]
    num_warps: int
    num_stages: int = 3
    alternatives: tuple[Configuration, ...] = ()


def power_of_two(size: int) -> int:
    """The least power of two that is not below `size`."""
    return 1 << max(0, size - 1).bit_length()


def pointwise_tile() -> Tile:
    """For `pointwise` and `channels`: BLOCK."""
    return Tile({"BLOCK": 1024}, 4, alternatives=(Configuration({"BLOCK": 512}, 4, 3),))


def rows_tile(width: int) -> Tile:
    """For `rows` and `rows_with_sums` over rows of `width` (at most ROW_LIMIT): BLOCK_M, BLOCK_K."""
    block_k = power_of_two(width)
    block_m = max(1, min(32, 2048 // block_k))
    warps = max(1, min(16, block_m * block_k // 512))
    more = tuple(Configuration({"BLOCK_M": max(1, block_m // 4)}, w, 3) for w in (warps, min(32, 2 * warps)))
    return Tile({"BLOCK_M": block_m, "BLOCK_K": block_k}, warps, alternatives=more)


def columns_tile(width: int) -> Tile:
    """For `columns` over rows of `width`: BLOCK_M, BLOCK_K."""
    block_k = min(128, power_of_two(width))
    smaller = Configuration({"BLOCK_M": 1024 // block_k}, 4, 3)
    return Tile({"BLOCK_M": 4096 // block_k, "BLOCK_K": block_k}, 4, alternatives=(smaller,))


def finish_tile(parts: int) -> Tile:
    """For `finish` over `parts` lines: BLOCK_P, BLOCK_W."""
    block_p = min(32, power_of_two(parts))
    return Tile({"BLOCK_P": block_p, "BLOCK_W": max(64, 4096 // block_p // 4)}, 4)


def product_tile(rows: int, columns: int, inner: int, element_bytes: int, *, slices: int = 1) -> Tile:
    """For `matmul` of about [rows, inner] by [inner, columns]: BLOCK_M, BLOCK_N, BLOCK_K.

    slices: batch or splits. Tiles shrink to few columns or a short inner dimension, never to few rows: rows
    are run-time sizes, and the matrix instructions of sm_90 take 64 of them.
    """
    choices = [(128, 128, 8), (128, 64, 4), (64, 64, 4), (64, 32, 4), (32, 32, 4)]
    block_k = 64 if element_bytes == 2 else 32
    fitting = [
        _product_configuration(columns, inner, m, n, block_k, warps)
        for m, n, warps in choices
        if math.ceil(rows / m) * math.ceil(columns / n) * slices >= MULTIPROCESSORS or m <= 64
    ]
    distinct = [fitting[0], *(after for before, after in pairwise(fitting) if after != before)]
    first, *rest = distinct
    return Tile(dict(first.constexprs), first.num_warps, first.num_stages, tuple(rest))


def _product_configuration(
    columns: int, inner: int, block_m: int, block_n: int, block_k: int, warps: int
) -> Configuration:
    blocks: dict[str, Constant] = {
        "BLOCK_M": block_m,
        "BLOCK_N": max(16, min(block_n, power_of_two(columns))),
        "BLOCK_K": max(16, min(block_k, power_of_two(inner))),
    }
    return Configuration(blocks, warps, 3)


def attention_tile(op: str, width: int, element_bytes: int) -> Tile:
    """For a step of attention over heads of `width`, at most 256: BLOCK_M queries, BLOCK_N keys at a time.

    What a program holds while it loops grows with the width, and most of all for the gradients of k and v,
    which hold two blocks and two sums. Float32 products run without matrix instructions, from registers.
    """
    table = _ATTENTION_F32 if element_bytes == 4 else _ATTENTION
    choices = table[op][max(16, power_of_two(width))]
    stages = 1 if element_bytes == 4 and width > 64 else 2
    first, *rest = (Configuration({"BLOCK_M": m, "BLOCK_N": n}, warps, stages) for m, n, warps in choices)
    return Tile(dict(first.constexprs), first.num_warps, first.num_stages, tuple(rest))


def scan_tile(element_bytes: int, holds_matrices: bool) -> Tile:
    """For `scan`: BLOCK_M rows of the state, STAGES of the loads of its loop.

    Few rows, so that many programs share out a small batch: a step waits for the one before it in any case.
    Where steps load matrices, copies of the next step's would take the room of whole matrices.
    """
    stages, warps = (2, 4) if holds_matrices else (1, 8)
    warps = 8 if element_bytes == 4 else warps
    more = [Configuration({"BLOCK_M": 16, "STAGES": 1}, wide, 1) for wide in (4, 8, 16) if wide != warps]
    return Tile({"BLOCK_M": 16, "STAGES": stages}, warps, stages, tuple(more))


_Choices = Mapping[str, Mapping[int, Sequence[tuple[int, int, int]]]]
"""Step of attention -> width of a head -> (queries, keys, warps), the preferred first."""

_ATTENTION: _Choices = {
    "attention_forward": {
        16: [(128, 64, 4), (64, 64, 4), (64, 32, 4)],
        32: [(128, 64, 8), (64, 64, 4), (64, 32, 4)],
        64: [(128, 64, 8), (64, 32, 4)],
        128: [(128, 64, 8), (64, 32, 4), (64, 32, 8)],
        256: [(64, 32, 8), (32, 32, 8)],
    },
    "attention_query_grad": {
        16: [(64, 64, 4), (64, 32, 4)],
        32: [(128, 64, 8), (64, 32, 4)],
        64: [(64, 64, 4), (64, 32, 4), (128, 32, 8)],
        128: [(64, 64, 4), (64, 32, 4), (32, 32, 4)],
        256: [(64, 32, 8), (32, 32, 8)],
    },
    "attention_key_value_grad": {
        16: [(64, 64, 4), (32, 64, 4)],
        32: [(64, 128, 8), (64, 64, 4), (32, 64, 4)],
        64: [(64, 64, 4), (32, 64, 4), (32, 64, 8)],
        128: [(32, 64, 4), (32, 64, 8), (16, 64, 8)],
        256: [(16, 64, 8), (32, 32, 8)],
    },
    "attention_mask_grad": {
        16: [(64, 64, 4), (64, 32, 4)],
        32: [(64, 64, 4), (64, 32, 4)],
        64: [(64, 64, 4), (64, 32, 4)],
        128: [(64, 64, 4), (64, 32, 4)],
        256: [(64, 32, 4), (32, 32, 4)],
    },
}
_ATTENTION_F32: _Choices = {
    "attention_forward": {
        16: [(64, 32, 8), (32, 32, 4)],
        32: [(64, 32, 8), (32, 32, 4)],
        64: [(32, 32, 4), (32, 16, 8)],
        128: [(32, 16, 8), (16, 16, 4)],
        256: [(16, 16, 4), (16, 16, 8)],
    },
    "attention_query_grad": {
        16: [(64, 32, 8), (32, 32, 4)],
        32: [(64, 32, 8), (32, 32, 4)],
        64: [(32, 32, 4), (32, 16, 8)],
        128: [(32, 16, 8), (16, 16, 4)],
        256: [(32, 16, 8), (16, 16, 8)],
    },
    "attention_key_value_grad": {
        16: [(32, 64, 8), (32, 32, 4)],
        32: [(32, 32, 4), (32, 64, 8)],
        64: [(16, 32, 4), (16, 32, 8), (16, 16, 4)],
        128: [(16, 32, 8), (16, 16, 8)],
        256: [(16, 32, 8), (16, 16, 8)],
    },
    "attention_mask_grad": {
        16: [(32, 32, 4), (32, 16, 4)],
        32: [(32, 32, 4), (32, 16, 4)],
        64: [(32, 32, 4), (32, 16, 8)],
        128: [(32, 16, 8), (16, 16, 4)],
        256: [(16, 16, 4), (16, 16, 8)],
    },
}


STEP_NS = 4.0
"""How long a program takes for one step along the inner dimension of a 64 x 64 tile, about."""

BYTES_PER_NS = 4000.0
"""How fast partial sums are written and read again; they seldom leave the cache."""


def splits(rows: int, columns: int, inner: int) -> int:
    """Into how many parts to split the inner dimension of a [rows, columns] product, a power of two.

    Waves of programs over the GPU, each as long as its part of `inner`, against the bytes of partial sums:
    a product that fills the GPU without is not split.
    """
    tiles = math.ceil(rows / 64) * math.ceil(columns / 64)
    choices = [1 << power for power in range(6) if 1 << power <= max(1, inner // 128)]

    def nanoseconds(parts: int) -> float:
        waves = math.ceil(tiles * parts / MULTIPROCESSORS)
        partial_bytes = 2 * 4 * rows * columns * parts if parts > 1 else 0
        return waves * inner / parts * STEP_NS + partial_bytes / BYTES_PER_NS

    return min(choices, key=nanoseconds)
