"""Look-ups, interpolation and positions: loads whose places are computed, judged in the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.ir.dims import Size
from esper.urza.compiler import Programs, make_programs
from esper.urza.program import make_program
from esper.urza.verify.simulate import simulate
from esper.urza.verify.verification import verify_programs

N, S, T = symbol("N"), symbol("S"), symbol("T")


def programs(build: Builder, **outputs: Value) -> Programs:
    return make_programs(build.finish(outputs))


def assert_verified(found: Programs, **sizes: int) -> None:
    verified = verify_programs(found, sizes=sizes)
    assert verified.ok, verified.kernels


def around(op: str, shape: tuple[Size, ...], dtype: DType = DType.F32, **attrs: Any) -> Programs:
    """`gelu(op(exp(x)))`"""
    build = Builder(op)
    x = build.op("exp", build.input("x", TensorType(dtype, shape)))
    build.input("sizes", TensorType(DType.F32, (N, S, T)))
    return programs(build, y=build.op("gelu", build.op(op, x, **attrs)))


INTERPOLATIONS: list[tuple[tuple[Size, ...], dict[str, Any]]] = [
    ((N, 3, 5), {"scale": 2}),
    ((N, 2, 5, 3), {"scale": 3, "mode": "linear"}),
    ((N, 2, 7), {"size": (3,), "mode": "linear"}),
    ((N, 2, 7, 1), {"size": (3, 4)}),
    ((N, 2, S, T), {"size": (T, S)}),
    ((N, 2, S), {"size": (T,), "mode": "linear"}),
    ((2, 1, 3, 4, 2), {"scale": 2, "mode": "linear"}),
]


@pytest.mark.parametrize("shape, attrs", INTERPOLATIONS, ids=str)
def test_interpolation_is_part_of_a_kernel(shape: tuple[Size, ...], attrs: dict[str, Any]) -> None:
    found = around("interpolate", shape, **attrs)
    assert found.outside_calls == ()
    assert len(found.forward.kernels) == 2
    assert_verified(found, N=2, S=4, T=11)


@pytest.mark.parametrize("axis, inverse, dtype", [(-2, False, DType.F32), (1, True, DType.BF16)])
def test_rotated_pairs_are_part_of_a_kernel(axis: int, inverse: bool, dtype: DType) -> None:
    attrs = {"axis": axis, "inverse": inverse, "base": 10000.0, "start": 300}
    found = around("rotary_embedding", (N, 5, T, 6), dtype, **attrs)
    assert found.outside_calls == ()
    assert_verified(found, N=2, T=9)


def test_angles_are_as_good_as_their_positions_at_a_thousand_radians() -> None:
    assert_verified(around("rotary_embedding", (N, 64), base=500000.0, start=4000), N=40)


def test_positions_need_no_elements() -> None:
    build = Builder("positions")
    x = build.input("x", TensorType(DType.F32, (N, T, 6)))
    waves = build.op("sinusoidal_encoding", x)
    assert_verified(programs(build, y=build.op("add", build.op("exp", x), waves)), N=2, T=7)


@pytest.mark.parametrize("heads", [1, 4, 6])
def test_biases_fall_with_the_distance(heads: int) -> None:
    build = Builder("alibi")
    q, k = (
        build.input(name, TensorType(DType.F32, (N, heads, size, 4))) for name, size in (("q", T), ("k", S))
    )
    bias = build.op("alibi_bias", q, k)
    scores = build.op("matmul", q, k, transpose_b=True)
    assert_verified(programs(build, y=build.op("add", scores, bias)), N=2, T=5, S=7)


def test_an_embedding_is_part_of_the_kernel_that_reads_it() -> None:
    build = Builder("embed")
    indices = build.input("indices", TensorType(DType.I64, (N, T)))
    weight = build.param("weight", TensorType(DType.BF16, (5, 6)), init="normal")
    found = programs(build, y=build.op("gelu", build.op("embedding", indices, weight)))
    assert found.outside_calls == ("embedding_backward",)
    assert_verified(found, N=3, T=5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_named_elements_are_part_of_the_kernel_that_reads_them(axis: int) -> None:
    shape: list[Size] = [4, 5, 6]
    shape[axis] = 3
    build = Builder("gather")
    x = build.op("exp", build.input("x", TensorType(DType.F32, (4, 5, 6))))
    indices = build.input("indices", TensorType(DType.I64, tuple(shape)))
    found = programs(build, y=build.op("gelu", build.op("gather", x, indices, axis=axis)))
    assert found.outside_calls == ()
    assert_verified(found)


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16, DType.I64, DType.BOOL])
def test_indicators_are_part_of_the_kernel_that_reads_them(dtype: DType) -> None:
    build = Builder("one_hot")
    x = build.input("x", TensorType(DType.F32, (N, 5)))
    indices = build.input("indices", TensorType(DType.I64, (N,)))
    hot = build.op("cast", build.op("one_hot", indices, classes=5, dtype=dtype), dtype=DType.F32)
    assert_verified(programs(build, y=build.op("mul", x, hot)), N=7)


def test_an_index_outside_makes_nan_and_reads_nothing() -> None:
    build = Builder("outside")
    indices = build.input("indices", TensorType(DType.I64, (3,)))
    weight = build.param("weight", TensorType(DType.F32, (4, 2)))
    program = make_program(build.finish({"y": build.op("embedding", indices, weight)}), "forward")
    leaves = {"indices": torch.tensor([1, 4, -1]), "weight": torch.ones(4, 2)}
    found = simulate(program, leaves, {})
    assert found.findings == ()
    assert found.results["y"].isnan().tolist() == [[False, False], [True, True], [True, True]]


@pytest.mark.parametrize("shape", [(N, 4), (N, 5, 3)], ids=str)
def test_the_loss_of_classes_has_no_library_call(shape: tuple[Size, ...]) -> None:
    build = Builder("loss")
    x = build.input("x", TensorType(DType.F32, shape))
    target = build.input("target", TensorType(DType.I64, (shape[0], *shape[2:])))
    found = programs(build, loss=build.op("nll_loss", x, target))
    assert found.outside_calls == ()
    assert_verified(found, N=6)


def test_a_single_element_can_be_looked_up() -> None:
    """Its offset is a number, while what it is compared with varies."""
    build = Builder("single")
    x = build.input("x", TensorType(DType.F32, (1, 5)))
    indices = build.input("indices", TensorType(DType.I64, (1, 1)))
    assert_verified(programs(build, y=build.op("gather", x, indices, axis=1)))


def test_a_mask_of_rows_and_a_condition_hold_both() -> None:
    """With smoothing the loss of a class is looked up beside a sum over all classes, one of each a column."""
    build = Builder("smoothed")
    x = build.input("x", TensorType(DType.F32, (3, 5, 3)))
    target = build.input("target", TensorType(DType.I64, (3, 3)))
    loss = build.op("cross_entropy", x, target, label_smoothing=0.1, reduction="none")
    assert_verified(programs(build, y=loss))
