"""Graphs at the edges of what templates expect: each kernel is judged in the interpreter."""

from __future__ import annotations

import pytest

from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.ir.dims import Size
from esper.urza.compiler import make_programs
from esper.urza.verify.verification import verify_programs

N = symbol("N")


def assert_verified(build: Builder, output: Value) -> None:
    found = verify_programs(make_programs(build.finish({"y": output})))
    assert found.ok, found.kernels


@pytest.mark.parametrize("axes", [(2,), (1,)])
def test_a_reduction_may_drop_its_axes(axes: tuple[int, ...]) -> None:
    build = Builder("dropped")
    x = build.input("x", TensorType(DType.F32, (N, 4, 6)))
    total = build.op("sum", build.op("gelu", x), axes=axes, keepdims=False)
    assert_verified(build, build.op("mul", total, total))


@pytest.mark.parametrize("shape", [(), (1,), (N, 1), (1, 8), (N, 1, 8)], ids=str)
def test_axes_may_have_size_1(shape: tuple[Size, ...]) -> None:
    build = Builder("single")
    x = build.op("exp", build.input("x", TensorType(DType.F32, shape)))
    total = build.op("sum", x, axes=(len(shape) - 1,), keepdims=True) if shape else x
    assert_verified(build, build.op("mul", x, total))


def test_a_scale_may_be_a_single_number() -> None:
    build = Builder("scaled")
    x = build.input("x", TensorType(DType.F32, (1, 1)))
    assert_verified(build, build.op("mul", x, build.param("scale", TensorType(DType.F32, ()))))


def test_a_product_may_have_one_column() -> None:
    build = Builder("narrow")
    x = build.input("x", TensorType(DType.F32, (N, 1)))
    weight = build.param("weight", TensorType(DType.F32, (1, 1)))
    assert_verified(build, build.op("gelu", build.op("matmul", x, weight)))


def test_a_node_may_be_called_like_a_buffer_of_partial_sums() -> None:
    build = Builder("partial")
    x = build.input("partials.0.0", TensorType(DType.F32, (N, 8)))
    assert_verified(build, build.op("sum", build.op("exp", x), axes=(0,), keepdims=False))
