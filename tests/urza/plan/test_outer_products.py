"""Products with an inner dimension of 1 are multiplications in the kernels that read them."""

from __future__ import annotations

import pytest
import torch

from esper.ir import Builder, DType, TensorType, symbol, verify
from esper.ir.dims import Size
from esper.ops.reference.evaluate import evaluate
from esper.testing import random_values
from esper.urza.compiler import make_programs
from esper.urza.plan.outer_products import with_outer_products
from esper.urza.verify.verification import verify_programs

N = symbol("N")
Shape = tuple[Size, ...]


@pytest.mark.parametrize(
    "transpose_a, transpose_b", [(False, False), (True, False), (False, True), (True, True)]
)
@pytest.mark.parametrize("batch", [(), (N,), (N, 2)], ids=str)
def test_an_outer_product_is_a_multiplication(batch: Shape, transpose_a: bool, transpose_b: bool) -> None:
    build = Builder("b")
    a = build.input("a", TensorType(DType.F32, (*batch, *((1, 5) if transpose_a else (5, 1)))))
    b = build.input("b", TensorType(DType.F32, (*batch, *((7, 1) if transpose_b else (1, 7)))))
    y = build.op("matmul", a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    ir = build.finish({"y": y})
    found = with_outer_products(ir)
    verify(found)
    assert not found.of("matmul")
    values = random_values(ir)
    expected, result = (evaluate(one, values.inputs, {})["y"] for one in (ir, found))
    assert torch.equal(expected, result)


def test_a_matrix_serves_every_batch() -> None:
    build = Builder("b")
    x, w = build.input("x", TensorType(DType.F32, (N, 3, 1))), build.param("w", TensorType(DType.F32, (1, 4)))
    found = with_outer_products(build.finish({"y": build.op("matmul", x, w)}))
    verify(found)
    assert not found.of("matmul")


def test_other_products_stay() -> None:
    build = Builder("b")
    x, w = build.input("x", TensorType(DType.F32, (1, 3))), build.param("w", TensorType(DType.F32, (3, 4)))
    ir = build.finish({"y": build.op("matmul", x, w)})
    assert with_outer_products(ir) == ir


def test_it_is_computed_where_it_is_read() -> None:
    """And stored nowhere, though nothing else is done to it in memory."""
    build = Builder("b")
    a, b = (
        build.input("a", TensorType(DType.F32, (N, 5, 1))),
        build.input("b", TensorType(DType.F32, (N, 1, 7))),
    )
    y = build.op("gelu", build.op("matmul", a, b))
    programs = make_programs(
        build.finish({"y": build.op("add", y, build.input("z", TensorType(DType.F32, (N, 5, 7))))})
    )
    assert len(programs.forward.kernels) == 1
    found = verify_programs(programs, sizes={"N": 3})
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]
