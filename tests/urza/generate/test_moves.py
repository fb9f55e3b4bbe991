"""Operators that move elements: loads in the kernel that needs them, each judged in the interpreter."""

from __future__ import annotations

from typing import Any

import pytest

from esper.ir import Builder, DType, TensorType, symbol
from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.urza.compiler import Programs, make_programs
from esper.urza.verify.verification import verify_programs

N, T = symbol("N"), symbol("T")
Case = tuple[str, tuple[Size, ...], dict[str, Any]]


def programs(build: Builder, **outputs: Value) -> Programs:
    return make_programs(build.finish(outputs))


def assert_verified(found: Programs, **sizes: int) -> None:
    verified = verify_programs(found, sizes=sizes or None)
    assert verified.ok, verified.kernels


def around(case: Case, dtype: DType = DType.F32) -> Programs:
    """`gelu(op(exp(x)))`: a kernel before the node, one around it, and their gradients.

    Of slices there is one kernel: their elements of x are read, and `exp` is computed of these alone.
    """
    op, shape, attrs = case
    build = Builder(op)
    x = build.op("exp", build.input("x", TensorType(dtype, shape)))
    return programs(build, y=build.op("gelu", build.op(op, x, **attrs)))


CASES: list[Case] = [
    ("slice", (N, 7), {"axes": (1,), "start": (2,), "stop": (6,)}),
    ("slice", (N, 13, T), {"axes": (1, 2), "start": (-5, 0), "stop": (), "step": (3, 2)}),
    ("slice", (N, 5), {"axes": (0,), "start": (N - 1,), "stop": (N,)}),
    ("slice", (N, 64), {"axes": (1,), "start": (32,), "stop": (64,)}),
    ("flip", (N, 5, 3), {"axes": (1, 2)}),
    ("flip", (N,), {"axes": (0,)}),
    ("roll", (N, 5, 3), {"shifts": (2, -4), "axes": (1, 2)}),
    ("roll", (N, 3), {"shifts": (-2,), "axes": (0,)}),
    ("pad", (N, 5), {"pad": (2, 1), "value": 0.5}),
    ("pad", (N, 3, 4), {"pad": (0, 2, 3, 0), "value": -1.0}),
    ("pad", (N, 5, 4), {"pad": (2, 1, 3, 0), "mode": "reflect"}),
    ("pad", (N, 1, 4), {"pad": (2, 1, 0, 3), "mode": "replicate"}),
    ("pad", (N, T), {"pad": (1, 2), "mode": "circular"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{list(map(str, case[1]))}")
def test_a_node_that_moves_elements_is_part_of_a_kernel(case: Case) -> None:
    found = around(case)
    assert found.outside_calls == ()
    assert len(found.forward.kernels) == (1 if case[0] == "slice" else 2)
    assert_verified(found, N=5, **({"T": 6} if T in case[1] else {}))


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_moved_elements_of_narrow_types_are_bits_of_the_operand(dtype: DType) -> None:
    assert_verified(around(CASES[1], dtype), N=3, T=9)


def test_parts_are_joined_in_the_kernel_that_reads_them() -> None:
    build = Builder("joined")
    parts = [build.input(f"x{i}", TensorType(DType.F32, (N, width, 3))) for i, width in enumerate((5, 1, 4))]
    found = programs(build, y=build.op("gelu", build.op("concat", *parts, axis=1)))
    assert found.outside_calls == ()
    assert len(found.forward.kernels) == 1
    assert_verified(found)


def test_a_symbolic_axis_can_be_joined() -> None:
    build = Builder("joined")
    parts = [build.input(name, TensorType(DType.F32, (size, 3))) for name, size in (("a", N), ("b", T))]
    assert_verified(programs(build, y=build.op("concat", *parts, axis=0)), N=4, T=7)


def test_one_tensor_alone_can_be_joined() -> None:
    build = Builder("joined")
    x = build.input("x", TensorType(DType.F32, (N, 1)))
    assert_verified(programs(build, y=build.op("concat", x, axis=1)))


def test_integers_and_booleans_move_too() -> None:
    build = Builder("masks")
    x = build.input("x", TensorType(DType.F32, (N, 6)))
    halves = [
        build.op("slice", build.op("greater", x, 0.0), axes=(1,), start=(start,), stop=(start + 3,))
        for start in (0, 3)
    ]
    mask = build.op("concat", halves[1], halves[0], axis=1)
    assert_verified(programs(build, y=build.op("where", mask, x, build.constant(0.0, DType.F32))))


def test_halves_are_read_by_the_kernel_that_gates_them() -> None:
    build = Builder("glu")
    x = build.input("x", TensorType(DType.F32, (N, 16)))
    a, b = (build.op("slice", x, axes=(1,), start=(s,), stop=(s + 8,)) for s in (0, 8))
    found = programs(build, y=build.op("mul", a, build.op("sigmoid", b)))
    assert (len(found.forward.kernels), len(found.backward.kernels)) == (1, 1)
    assert_verified(found)


def test_a_part_of_a_product_is_read_from_memory_by_its_own_kernel() -> None:
    build = Builder("split")
    x = build.input("x", TensorType(DType.F32, (N, 8)))
    product = build.op("matmul", x, build.param("w", TensorType(DType.F32, (8, 12)), init="normal"))
    part = build.op("slice", product, axes=(1,), start=(4,), stop=(12,))
    total = build.op("sum", part, axes=(1,), keepdims=True)
    assert_verified(programs(build, y=build.op("mul", part, total), z=build.op("exp", product)))


def test_a_part_of_a_part_and_of_a_view() -> None:
    build = Builder("nested")
    x = build.op("exp", build.input("x", TensorType(DType.F32, (N, 4, 6))))
    turned = build.op("permute", x, axes=(2, 0, 1))
    part = build.op("slice", turned, axes=(0,), start=(1,), stop=(5,))
    again = build.op("slice", part, axes=(2,), start=(1,), stop=(4,), step=(2,))
    assert_verified(programs(build, y=build.op("reshape", again, shape=(N * 8,))))


def test_a_part_of_what_is_constant_is_constant() -> None:
    build = Builder("constant")
    x = build.input("x", TensorType(DType.F32, (N, 4)))
    ones = build.op("broadcast_to", build.constant(1.0, DType.F32), shape=(N, 6))
    part = build.op("slice", ones, axes=(1,), start=(2,), stop=(6,))
    padded = build.op("pad", build.op("mul", part, x), pad=(1, 1))
    assert_verified(programs(build, y=padded))


def test_a_sum_of_what_a_loop_adds_up_is_right() -> None:
    """A resampled column's gradient is a loop in the body: no line of it is done before the rows' loop."""
    build = Builder("column")
    x, w = (
        build.input(name, TensorType(DType.F32, shape))
        for name, shape in (("x", (N, 4, 3, 3)), ("w", (4, 3, 3)))
    )
    scale = build.input("scale", TensorType(DType.F32, (4, 1, 1)))
    summed = build.op("sum", build.op("mul", x, w), axes=(0,), keepdims=True)
    y = build.op("interpolate", build.op("mul", summed, scale), size=(6, 6))
    assert_verified(programs(build, y=y), N=5)
