"""Tensor types: bytes, broadcasting by NumPy's rule, and sizes that have no value yet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import DType, TensorType, parse_type, symbol
from esper.ir.errors import UnboundSize
from esper.ir.types import broadcast_shapes
from esper.testing import tensor_types

N = symbol("N")
SHAPES = st.lists(st.integers(1, 3), max_size=4).map(tuple)


@given(SHAPES, SHAPES)
def test_concrete_shapes_broadcast_as_in_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected: tuple[int, ...] | None = np.broadcast_shapes(a, b)
    except ValueError:
        expected = None
    assert broadcast_shapes(a, b) == expected


def test_a_symbol_broadcasts_with_one_and_itself_only() -> None:
    assert broadcast_shapes((N, 4), (4,)) == (N, 4)
    assert broadcast_shapes((N,), (1,)) == (N,)
    assert broadcast_shapes((N,), (N,)) == (N,)
    assert broadcast_shapes((N,), (4,)) is None
    assert broadcast_shapes((N,), (symbol("M"),)) is None


@given(tensor_types())
def test_bytes_are_elements_times_the_width_of_one(type: TensorType) -> None:
    sizes = {"N": 3, "M": 5}
    count = int(np.prod(type.concrete_shape(sizes), dtype=np.int64))
    assert TensorType(type.dtype, type.concrete_shape(sizes)).bytes == count * type.dtype.bytes


@pytest.mark.parametrize(
    ("text", "dtype", "shape"),
    [
        ("f32[]", DType.F32, ()),
        ("bf16[N, 4]", DType.BF16, (N, 4)),
        ("i64[2*N + 1]", DType.I64, (2 * N + 1,)),
        ("bool[(N - 1)//2]", DType.BOOL, ((N - 1) // 2,)),
    ],
)
def test_a_type_is_read_as_it_is_printed(text: str, dtype: DType, shape: tuple[int, ...]) -> None:
    assert parse_type(text) == TensorType(dtype, shape)
    assert str(parse_type(text)) == text


def test_a_shape_without_values_names_the_symbol() -> None:
    with pytest.raises(UnboundSize, match="the size `N`"):
        TensorType(DType.F32, (N,)).concrete_shape({"M": 2})
