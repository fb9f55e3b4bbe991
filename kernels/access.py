"""Loads and stores of operands that vary along one axis of a two-dimensional tile, widened to float32.

They go through a one-dimensional tile: in the layout of the full tile, each thread would load the same
row statistic or bias once for each of its elements.
"""

import triton
import triton.language as tl


@triton.jit
def load_rows(pointer, row, M):
    """pointer[row] as float32 [BLOCK_M, 1], 0 past M. row: int32 [BLOCK_M, 1]."""
    index = tl.reshape(row, [row.shape[0]])
    return tl.load(pointer + index, index < M, 0.0).to(tl.float32)[:, None]


@triton.jit
def load_columns(pointer, column, K):
    """pointer[column] as float32 [1, BLOCK_K], 0 past K. column: int32 [1, BLOCK_K].

    From 1024 columns on a tile has few rows, and the layout of the tile itself is best.
    """
    if column.shape[1] >= 1024:
        return tl.load(pointer + column, column < K, 0.0).to(tl.float32)
    else:
        index = tl.reshape(column, [column.shape[1]])
        return tl.load(pointer + index, index < K, 0.0).to(tl.float32)[None, :]


@triton.jit
def store_rows(pointer, row, values, M):
    """Stores values [BLOCK_M, 1] to pointer[row] below M."""
    index = tl.reshape(row, [row.shape[0]])
    tl.store(pointer + index, tl.reshape(values, [row.shape[0]]), index < M)


@triton.jit
def store_columns(pointer, column, values, K):
    """Stores values [1, BLOCK_K] to pointer[column] below K."""
    index = tl.reshape(column, [column.shape[1]])
    tl.store(pointer + index, tl.reshape(values, [column.shape[1]]), index < K)
