"""Products as kernels see them: their sizes, and how many programs share an inner dimension."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Size, default_size, evaluate_size, product, size_symbols
from esper.ir.graph import BlueprintIR, Node
from esper.ir.types import DType
from esper.urza.plan.tiles import splits

RUN_TIME_SIZE = 2048
"""What a run-time size is taken for where a configuration depends on it; at most, where programs share it."""


def product_sizes(ir: BlueprintIR, node: Node) -> tuple[tuple[Size, ...], Size, Size, Size]:
    """(batch axes, M, N, K) of a matmul; a shared right factor makes the batch axes rows of M."""
    a, b = (ir.type(operand) for operand in node.operands if operand is not None)
    m, k = a.shape[-2:]
    if node.attrs["transpose_a"]:
        m, k = k, m
    n = node.type.shape[-1]
    if b.rank > 2:
        return a.shape[:-2], m, n, k
    return (), product(a.shape[:-2]) * m, n, k


def inner_slices(ir: BlueprintIR, node: Node) -> int:
    """How many programs share the inner dimension: as many as fill a GPU where M and N alone do not.

    But not so many that their partial sums, written and read, are more bytes than the factors.
    """
    batch, m, n, k = product_sizes(ir, node)
    if batch or not isinstance(m, int) or not isinstance(n, int) or isinstance(k, int):
        return 1
    factors = (m + n) * _shared(k) * node.type.dtype.bytes
    slices = splits(m, n, _shared(k))
    while slices > 1 and 2 * DType.F32.bytes * m * n * slices > factors:
        slices //= 2
    return slices


def shared_slices(ir: BlueprintIR, nodes: Sequence[Node]) -> int:
    """As `inner_slices`, at least 2, for products of one launch that need partial sums each by itself."""
    sizes = [product_sizes(ir, node) for node in nodes]
    columns, inner = max(about(n) for _, _, n, _ in sizes), max(_shared(k) for _, _, _, k in sizes)
    return max(2, splits(sum(about(m * n) for _, m, n, _ in sizes) // columns, columns, inner))


def _shared(size: Size) -> int:
    """An inner dimension that programs may share, at default sizes: a batch alone is too short for it."""
    values = {name: default_size(name) for name in size_symbols(size)}
    return min(RUN_TIME_SIZE, evaluate_size(size, values))


def about(size: Size) -> int:
    """`size`, or a usual value for a run-time size."""
    return size if isinstance(size, int) else RUN_TIME_SIZE
