"""Variances from one pass: few kernels, and as exact as two passes where data lie far from zero."""

from __future__ import annotations

import pytest
import torch

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value, symbol
from esper.lang import lower
from esper.urza.compiler import make_programs
from esper.urza.verify.simulate import simulate
from esper.urza.verify.verification import verify_programs

N = symbol("N")


def variance(shape: tuple[int, ...], axes: tuple[int, ...], scaled: bool = False) -> BlueprintIR:
    """The mean and the variance of x, or of the positive part of x plus a bias, over `axes`."""
    build = Builder("variance")
    x: Value = build.input("x", TensorType(DType.F32, (N, *shape)))
    if scaled:
        bias = build.param("bias", TensorType(DType.F32, (shape[0], *(1 for _ in shape[1:]))), "ones")
        x = build.op("relu", build.op("add", x, bias))
    type = build.type(x)
    count: object = 1
    for axis in axes:
        count = type.shape[axis] * count  # type: ignore[operator]
    n = build.op("size", value=count, dtype=DType.F32)  # type: ignore[arg-type]
    mean = build.op("div", build.op("sum", x, axes=axes, keepdims=True), n)
    centered = build.op("sub", x, mean)
    squares = build.op("sum", build.op("mul", centered, centered), axes=axes, keepdims=True)
    y = build.op("div", centered, build.op("sqrt", build.op("div", squares, n)))
    return build.finish({"y": y, "mean": mean, "variance": build.op("div", squares, n)})


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("shape", "axes"), [((5, 9), (0, 2)), ((7,), (0,)), ((3, 4, 5), (0, 2, 3))])
def test_a_mean_and_a_variance_are_one_pass_and_one_total(
    shape: tuple[int, ...], axes: tuple[int, ...], scaled: bool
) -> None:
    programs = make_programs(variance(shape, axes, scaled))
    assert len(programs.forward.kernels) == 3
    found = verify_programs(programs, sizes={"N": 19}).kernels
    assert all(kernel.ok for kernel in found if kernel.direction == "forward")


def test_what_lies_far_from_zero_keeps_its_variance() -> None:
    x = 1000 + torch.randn(50, 4, 6, generator=torch.Generator().manual_seed(0))
    program = make_programs(variance((4, 6), (0, 2))).forward
    found = simulate(program, {"x": x}, {"N": 50}).results["variance"].double()
    torch.testing.assert_close(found, x.double().var((0, 2), correction=0, keepdim=True), rtol=1e-4, atol=0)


def test_a_channel_that_never_varies_has_no_variance() -> None:
    x = torch.full((5, 4, 6), 0.1)
    program = make_programs(variance((4, 6), (0, 2))).forward
    assert not simulate(program, {"x": x}, {"N": 5}).results["variance"].any()


def test_batch_normalisation_is_three_kernels() -> None:
    forward = make_programs(lower("conv_enhance", precision="bf16")).forward
    assert len(forward.kernels) == 2 * 3 + 1


@pytest.mark.parametrize("places", [(0, -1), (20,)])
def test_a_few_outliers_do_not_blur_the_variance(places: tuple[int, ...]) -> None:
    x = torch.randn(41, 4, 6, generator=torch.Generator().manual_seed(0))
    for place in places:
        x[place] += 1e4
    program = make_programs(variance((4, 6), (0, 2))).forward
    found = simulate(program, {"x": x}, {"N": 41}).results["variance"].double()
    right = x.double().var((0, 2), correction=0, keepdim=True)
    eager = (x - x.mean((0, 2), keepdim=True)).square().mean((0, 2), keepdim=True).double()
    allowed = 2 * (eager - right).abs().max() + torch.finfo(torch.float32).eps * right.max()
    assert (found - right).abs().max() <= allowed


@pytest.mark.parametrize("count", [1.0, 10.0, 53.0])
def test_a_sum_divided_by_another_number_is_no_mean(count: float) -> None:
    build = Builder("offset")
    x = build.input("x", TensorType(DType.F32, (9, 4, 6)))
    center = build.op("div", build.op("sum", x, axes=(0, 2), keepdims=True), count)
    distance = build.op("sub", x, center)
    squares = build.op("sum", build.op("mul", distance, distance), axes=(0, 2), keepdims=True)
    program = make_programs(build.finish({"y": squares})).forward
    given = torch.randn(9, 4, 6, generator=torch.Generator().manual_seed(0))
    wide = given.double()
    right = (wide - wide.sum((0, 2), keepdim=True) / count).square().sum((0, 2), keepdim=True)
    found = simulate(program, {"x": given}, {}).results["y"].double()
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_large_values_have_a_variance() -> None:
    x = 6e16 * torch.randn(3000, 4, 6, generator=torch.Generator().manual_seed(0))
    program = make_programs(variance((4, 6), (0, 2))).forward
    found = simulate(program, {"x": x}, {"N": 3000}).results["variance"].double()
    torch.testing.assert_close(found, x.double().var((0, 2), correction=0, keepdim=True), rtol=1e-4, atol=0)


def test_no_examples_are_no_reads() -> None:
    program = make_programs(variance((4, 6), (0, 2))).forward
    assert not simulate(program, {"x": torch.zeros(0, 4, 6)}, {"N": 0}).findings


def test_a_long_chain_before_a_variance_is_planned_as_fast_as_a_short_one() -> None:
    build = Builder("chain")
    x: Value = build.input("x", TensorType(DType.F32, (N, 4, 6)))
    for _ in range(24):
        x = build.op("mul", x, build.op("sigmoid", x))
    n = build.op("size", value=N * 6, dtype=DType.F32)
    mean = build.op("div", build.op("sum", x, axes=(0, 2), keepdims=True), n)
    centered = build.op("sub", x, mean)
    squares = build.op("sum", build.op("mul", centered, centered), axes=(0, 2), keepdims=True)
    programs = make_programs(build.finish({"mean": mean, "variance": build.op("div", squares, n)}))
    assert len(programs.forward.ir.nodes) < 400


def test_statistics_of_any_map_are_read_in_vectors() -> None:
    kernels = make_programs(lower("conv_enhance", precision="bf16")).forward.kernels
    sums = next(kernel for kernel in kernels if kernel.name.startswith("sums_"))
    assert sums.aligned is not None
    firm = {a.name: 56 * 56 for a in sums.arguments if a.kind == "size" and not a.is_loose}
    loose = {a.name: 1606430 for a in sums.arguments if a.kind == "size" and a.is_loose}
    assert len(loose) == 3 and sums.at({**firm, **loose}) == sums.aligned
