"""Graphs at the edges of what templates expect: each kernel is judged in the interpreter."""

from __future__ import annotations

import pytest

from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.urza.compiler import make_programs
from esper.urza.verify import verify_programs

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
