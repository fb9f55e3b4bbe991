"""Reductions over any axes of any sizes: a kernel that reads its operand once, judged in the interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.ir.dims import Size
from esper.ops.reference.evaluate import evaluate
from esper.passes import run_passes
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import Programs, compile_ir, make_programs
from esper.urza.generate.writer import Launch
from esper.urza.program import make_program
from esper.urza.verify.simulate import simulate
from esper.urza.verify.verification import verify_programs

NAN, INF = float("nan"), float("inf")
N, S, T = symbol("N"), symbol("S"), symbol("T")
SIZES = {"N": 2, "S": 11, "T": 1031}


def programs(build: Builder, **outputs: Value) -> Programs:
    return make_programs(build.finish(outputs))


def assert_verified(found: Programs) -> None:
    known = {name: SIZES[name] for name in found.ir.symbols}
    verified = verify_programs(found, sizes=known)
    assert verified.ok, verified.kernels


SHAPES: list[tuple[tuple[Size, ...], tuple[int, ...]]] = [
    ((N, 5, S), (2,)),
    ((N, T), (1,)),
    ((N, 5, S), (1,)),
    ((N, S, 7), (1,)),
    ((S, N), (0,)),
    ((N, 64, 4, 2), (1, 2)),
    ((N, 2, S), (0, 2)),
    ((N, S), (0, 1)),
    ((T,), (0,)),
    ((N, 4, 1, 3), (1,)),
    ((N, 1, S), (0, 1)),
    ((1, 1, S), (1, 2)),
]


@pytest.mark.parametrize("shape, axes", SHAPES, ids=str)
def test_any_axes_can_be_reduced(shape: tuple[Size, ...], axes: tuple[int, ...]) -> None:
    """The operand of the maximum is exact, so that equal elements are equal in float64 too."""
    build = Builder("reduced")
    x = build.input("x", TensorType(DType.F32, shape))
    total = build.op("sum", build.op("gelu", x), axes=axes, keepdims=False)
    greatest = build.op("amax", build.op("relu", x), axes=axes, keepdims=True)
    found = programs(build, y=build.op("mul", total, total), z=build.op("mul", greatest, greatest))
    assert found.outside_calls == ()
    assert_verified(found)


def test_the_norm_of_groups_reads_its_map_twice() -> None:
    """Once for the statistics and once for the result, scale and shift included."""
    build = Builder("norm")
    x = build.input("x", TensorType(DType.BF16, (N, 6, S)))
    weights = [build.param(name, TensorType(DType.BF16, (6,)), init="ones") for name in ("weight", "bias")]
    found = programs(build, y=build.op("group_norm", x, *weights, groups=2))
    (step,) = found.forward.steps
    assert isinstance(step, Launch) and step.passes["x_ptr"] == 2
    assert found.outside_calls == ()
    assert_verified(found)


def test_sums_along_the_same_axes_share_a_kernel() -> None:
    build = Builder("shared")
    x = build.op("relu", build.input("x", TensorType(DType.F32, (N, S))))
    totals = [build.op("sum", value, axes=(1,), keepdims=True) for value in (x, build.op("mul", x, x))]
    found = programs(build, y=build.op("add", *totals))
    assert len(found.forward.kernels) == 1
    assert_verified(found)


@pytest.mark.parametrize("axis", [1, 2])
def test_folds_of_several_kinds_share_a_kernel(axis: int) -> None:
    build = Builder("kinds")
    x = build.input("x", TensorType(DType.F32, (N, 5, S)))
    total = build.op("sum", build.op("gelu", x), axes=(axis,), keepdims=True)
    place = build.op("argmax", x, axis=axis, keepdims=True)
    greatest = build.op("amax", build.op("relu", x), axes=(axis,), keepdims=True)
    found = programs(build, y=build.op("mul", total, greatest), z=build.op("cast", place, dtype=DType.F32))
    assert len(found.forward.kernels) == 1
    assert_verified(found)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_results_of_one_kernel_are_joined_as_it_stores_them(axis: int) -> None:
    build = Builder("joined")
    x = build.input("x", TensorType(DType.F32, (N, 5, S)))
    mean, greatest = (build.op(op, x, axes=(1,), keepdims=True) for op in ("mean", "amax"))
    y = build.op("concat", mean, greatest, build.op("neg", mean), axis=axis)
    found = programs(build, y=y)
    assert len(found.forward.kernels) == 1
    assert {value.node for value in found.forward.plan.stored} == {greatest.node, y.node}
    assert_verified(found)


def test_values_of_another_frame_are_joined_by_a_kernel_of_their_own() -> None:
    build = Builder("apart")
    x = build.input("x", TensorType(DType.F32, (N, 5, S)))
    greatest = build.op("amax", x, axes=(1,), keepdims=True)
    found = programs(build, y=build.op("concat", build.op("exp", x), greatest, axis=1))
    assert len(found.forward.kernels) == 2
    assert_verified(found)


def test_a_softmax_along_any_axis_has_no_library_call() -> None:
    build = Builder("softmax")
    x = build.input("x", TensorType(DType.F32, (N, S, 5)))
    found = programs(build, y=build.op("softmax", x, axis=1), z=build.op("log_softmax", x, axis=0))
    assert found.outside_calls == ()
    assert_verified(found)


def test_a_fold_reads_through_views_and_stores_what_others_need() -> None:
    build = Builder("turned")
    x = build.op("exp", build.input("x", TensorType(DType.F32, (N, 4, S))))
    turned = build.op("permute", x, axes=(2, 0, 1))
    total = build.op("sum", turned, axes=(0,), keepdims=False)
    part = build.op("slice", x, axes=(2,), start=(0,), stop=(1,))
    other = build.op("reshape", build.op("sum", x, axes=(2,), keepdims=True), shape=(N, 4))
    y = build.op("add", build.op("add", total, other), build.op("reshape", part, shape=(N, 4)))
    assert_verified(programs(build, y=y))


@pytest.mark.parametrize("op", ["argmax", "argmin"])
@pytest.mark.parametrize("shape, axis", [((N, 5, S), 2), ((N, 5, S), 1), ((N, 7), -1), ((1, 4), 0)], ids=str)
def test_places_of_extremes(shape: tuple[Size, ...], axis: int, op: str) -> None:
    build = Builder(op)
    x = build.input("x", TensorType(DType.F32, shape))
    place = build.op(op, build.op("relu", x), axis=axis, keepdims=False)
    hot = build.op("cast", place, dtype=DType.F32)
    found = programs(build, y=build.op("sum", x, axes=(0,), keepdims=False), z=hot)
    assert found.outside_calls == ()
    assert_verified(found)


@pytest.mark.parametrize("shape, axes", [((N, 5, 3), (1,)), ((N, 3), (0, 1)), ((2, 3, 2), (0, 2))], ids=str)
def test_products(shape: tuple[Size, ...], axes: tuple[int, ...]) -> None:
    """Of powers of two, which are exact in any order."""
    build = Builder("prod")
    x = build.input("x", TensorType(DType.F32, shape))
    two, half = (build.constant(value, DType.F32) for value in (2.0, 0.5))
    powers = build.op("where", build.op("greater", x, 0.0), two, half)
    found = programs(build, y=build.op("prod", powers, axes=axes, keepdims=False), z=build.op("exp", x))
    assert found.outside_calls == ()
    assert_verified(found)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape, axis", [((N, 5, S), 1), ((N, T), -1), ((S, 3), 0), ((3, 1), 1)], ids=str)
def test_running_sums(shape: tuple[Size, ...], axis: int, reverse: bool) -> None:
    build = Builder("cumsum")
    x = build.op("exp", build.input("x", TensorType(DType.F32, shape)))
    found = programs(build, y=build.op("gelu", build.op("cumsum", x, axis=axis, reverse=reverse)))
    assert found.outside_calls == ()
    assert_verified(found)


SPECIALS = {(0, 1): NAN, (1, 0): INF, (1, 2): -INF, (2, 3): NAN, (2, 4): INF}
"""In a matrix of five columns; row 3 has none."""


@pytest.mark.parametrize("shape", [(N, 5), (N, S)], ids=["rows", "folds"])
@pytest.mark.parametrize("axis", [0, 1])
def test_nan_and_infinity_come_out_of_reductions_as_out_of_torchs(shape: tuple[Size, ...], axis: int) -> None:
    build = Builder("special")
    x = build.input("x", TensorType(DType.F32, shape))
    found = {op: build.op(op, x, axes=(axis,)) for op in ("amax", "amin", "sum", "mean", "logsumexp", "prod")}
    found |= {
        op: build.op(op, x, axis=axis) for op in ("argmax", "argmin", "softmax", "log_softmax", "cumsum")
    }
    program = make_program(
        run_passes(build.finish({f"{op}_of_x": value for op, value in found.items()})), "forward"
    )
    assert program.outside == ()
    values = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    for place, value in SPECIALS.items():
        values[place] = value
    simulated = simulate(program, {"x": values}, {"N": 4, "S": 5})
    assert simulated.findings == ()
    for name, expected in evaluate(program.ir, {"x": values}, {}).items():
        torch.testing.assert_close(simulated.results[name], expected, equal_nan=True)


@pytest.mark.parametrize("op, infinity", [("argmax", INF), ("argmin", -INF)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", [6, 1031])
def test_the_first_nan_is_the_extreme_before_or_after_an_infinity(
    op: str, infinity: float, axis: int, length: int
) -> None:
    """Also where the two lie in different lanes, or in one lane of different blocks."""
    lines = torch.randn(7, length, generator=torch.Generator().manual_seed(0))
    early, late = 1, length - 2
    for line, (of_nan, of_infinity) in enumerate(
        [((early,), (late,)), ((late,), (early,)), ((early, late), ())]
    ):
        lines[line, list(of_nan)] = NAN
        lines[line, list(of_infinity)] = infinity
    lines[3, 2:4] = lines[4, 1] = infinity
    lines[5] = NAN
    lines[6] = -infinity
    values = lines if axis == 1 else lines.T.contiguous()
    build = Builder(op)
    x = build.input("x", TensorType(DType.F32, (N, S)))
    program = make_program(run_passes(build.finish({"y": build.op(op, x, axis=axis)})), "forward")
    sizes = dict(zip(("N", "S"), values.shape, strict=True))
    found = simulate(program, {"x": values}, sizes).results["y"]
    expected = getattr(torch, op)(values, axis)
    assert expected[:3].tolist() == [early, late, early]
    assert found.flatten().tolist() == expected.flatten().tolist()


@pytest.mark.parametrize("axis", [1, 2])
def test_places_of_extremes_spill_nothing(tmp_path: Path, axis: int) -> None:
    build = Builder("places")
    x = build.input("x", TensorType(DType.BF16, (N, S, 64)))
    ir = build.finish({op: build.op(op, x, axis=axis) for op in ("argmax", "argmin")})
    report = compile_ir(ir, ["sm_90"], cache=KernelCache(tmp_path)).report()
    assert report["kernels"] and all(kernel["spill_bytes"] == 0 for kernel in report["kernels"])


def test_the_greatest_of_all_is_loaded_in_vectors_and_spills_nothing(tmp_path: Path) -> None:
    build = Builder("greatest")
    x = build.input("x", TensorType(DType.BF16, (N, 512)))
    y = build.input("y", TensorType(DType.BF16, (N, S, 64)))
    rows = build.op("amax", x, axes=(1,), keepdims=True)
    ir = build.finish({"y": build.op("sub", x, rows), "z": build.op("amax", y, axes=(1,), keepdims=True)})
    report = compile_ir(ir, ["sm_80", "sm_90", "gfx942"], cache=KernelCache(tmp_path)).report()
    greatest = [kernel for kernel in report["kernels"] if kernel["direction"] == "forward"]
    assert len(greatest) >= 6
    assert all(kernel["spill_bytes"] == 0 and kernel["vector_bits"] > 120 for kernel in greatest)


def test_gradients_of_products_that_hold_zeros() -> None:
    build = Builder("prod")
    x = build.op("relu", build.input("x", TensorType(DType.F32, (N, 3, S))))
    found = programs(build, y=build.op("prod", x, axes=(1,), keepdims=True))
    assert found.outside_calls == ()
    assert_verified(found)
