"""How many programs share the inner dimension of a product."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import Builder, DType, TensorType, symbol
from esper.ir.dims import Size
from esper.urza.plan.products import RUN_TIME_SIZE, inner_slices

SIZES = st.integers(1, 2048)
ROWS = symbol("N") * symbol("T")


def slices(rows: int, columns: int, dtype: DType, inner: Size = ROWS) -> int:
    """Of the product that is the gradient of a weight [rows, columns]."""
    build = Builder("b")
    a, b = (build.input(n, TensorType(dtype, (inner, s))) for n, s in (("a", rows), ("b", columns)))
    build.op("matmul", a, b, transpose_a=True, name="product")
    ir = build.finish({"y": build.node("product").result()})
    return inner_slices(ir, ir.node("product"))


@given(rows=SIZES, columns=SIZES, dtype=st.sampled_from([DType.BF16, DType.F32]))
def test_partial_sums_are_no_more_bytes_than_the_factors(rows: int, columns: int, dtype: DType) -> None:
    found = slices(rows, columns, dtype)
    moved = 2 * 4 * rows * columns * found
    assert found == 1 or moved <= (rows + columns) * RUN_TIME_SIZE * dtype.bytes


@pytest.mark.parametrize(
    "rows, columns, dtype, expected",
    [
        (64, 64, DType.BF16, 16),
        (256, 256, DType.BF16, 4),
        (256, 256, DType.F32, 8),
        (1024, 1024, DType.BF16, 1),
    ],
)
def test_small_products_are_shared_by_many_programs(
    rows: int, columns: int, dtype: DType, expected: int
) -> None:
    assert slices(rows, columns, dtype) == expected


def test_a_batch_alone_is_not_shared() -> None:
    assert slices(64, 64, DType.BF16, symbol("N")) == 1
