"""Verification passes what is right and catches each planted fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.graph import Node
from esper.lang import lower
from esper.urza.compiler import Programs, make_programs
from esper.urza.generate.writer import Launch
from esper.urza.plan import planner
from esper.urza.plan.moments import with_one_pass_moments
from esper.urza.verify.draws import places_among
from esper.urza.verify.verification import Verification, compare, verify_aligned, verify_programs

LIBRARY = ("mlp_block", "norm", "conv_enhance", "depthwise", "attention")
SMALL = ("norm", "mlp_block")
"""Blueprints that are tried on more than normal tensors, with eight features."""


def altered(programs: Programs, old: str, new: str) -> Programs:
    """The programs with one piece of text replaced in the first kernel that has it."""
    for program in programs.both:
        steps = list(program.steps)
        for position, step in enumerate(steps):
            if isinstance(step, Launch) and old in step.kernel.source:
                kernel = replace(step.kernel, source=step.kernel.source.replace(old, new))
                steps[position] = replace(step, kernel=kernel)
                changed = replace(program, steps=tuple(steps))
                if program.direction == "forward":
                    return replace(programs, forward=changed)
                return replace(programs, backward=changed)
    raise AssertionError(f"no kernel holds {old!r}")


def gelu_twice() -> Programs:
    build = Builder("twice")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 5)))
    return make_programs(build.finish({"y": build.op("gelu", build.op("gelu", x))}))


def faults(found: Verification) -> set[str]:
    return {finding.fault for kernel in found.kernels for finding in kernel.findings}


@pytest.mark.parametrize("name", LIBRARY)
def test_every_kernel_of_the_library_passes(name: str) -> None:
    found = verify_programs(make_programs(lower(name)))
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]
    assert found.launches == len(found.kernels) > 0


@pytest.mark.parametrize("name", SMALL)
def test_kernels_pass_on_outliers_and_special_values(name: str) -> None:
    programs = make_programs(lower(name, precision="bf16", features=8))
    found = verify_programs(programs, sizes={"N": 5, "S": (3, 2)}, draws=("outliers", "special"))
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]
    assert {one.draw for kernel in found.kernels for one in kernel.comparisons} == {"outliers", "special"}


def test_bf16_kernels_pass_at_odd_sizes() -> None:
    found = verify_programs(make_programs(lower("mlp_block", features=24, precision="bf16")), sizes={"N": 7})
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]


@pytest.mark.parametrize("name", ["conv_enhance", "unet_down"])
def test_kernels_that_are_built_for_aligned_sizes_pass_at_such_sizes(name: str) -> None:
    programs = make_programs(lower(name, precision="bf16"))
    found = verify_aligned(programs, sizes={"N": 2})
    assert found.ok and all(kernel.name.endswith("_aligned") for kernel in found.kernels)
    assert not verify_aligned(programs, sizes={"N": 2, "S": (9, 7)}).ok  # none holds there


def test_what_is_right_passes() -> None:
    assert verify_programs(gelu_twice()).ok


def test_a_wrong_value_is_caught() -> None:
    found = verify_programs(altered(gelu_twice(), "gelu(x_value)", "gelu(x_value) * 1.0001"))
    assert not found.ok and not faults(found)


def test_what_is_wrong_of_large_numbers_alone_is_caught_by_outliers() -> None:
    programs = altered(gelu_twice(), "gelu(x_value)", "gelu(x_value) + tl.where(x_value > 1e3, 1.0, 0.0)")
    assert verify_programs(programs, sizes={"N": 40}).ok
    assert not verify_programs(programs, sizes={"N": 40}, draws=("normal", "outliers")).ok


def test_a_greatest_element_that_leaves_nan_out_is_caught_by_special_values() -> None:
    build = Builder("greatest")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 5)))
    programs = make_programs(build.finish({"y": build.op("amax", x, axes=(1,))}))
    row = 'tl.where(mask, x_value, float("-inf")), 1)'
    programs = altered(programs, f"largest({row}", f"tl.max({row}[:, None]")
    assert verify_programs(programs).ok
    assert not verify_programs(programs, sizes={"N": 7}, draws=("special",)).ok


GREATER = ("x_value > y_value", "x_value >= y_value")
SLOPE = ("tl.where(x_value > 0.0, 1.0, tl", "tl.where(x_value >= 0.0, 1.0, tl")
SUM = ("x_value + y_value", "(x_value + y_value).to(tl.int32)")


@pytest.mark.parametrize(
    ("op", "dtype", "fault"),
    [("greater", DType.F32, GREATER), ("abs", DType.F32, SLOPE), ("add", DType.I64, SUM)],
)
def test_what_is_wrong_of_equals_zeros_and_long_integers_is_caught_by_few_values(
    op: str, dtype: DType, fault: tuple[str, str]
) -> None:
    build = Builder("tied")
    x, y = (build.input(name, TensorType(dtype, (symbol("N"), 9))) for name in ("x", "y"))
    programs = make_programs(build.finish({"result": build.op(op, x) if op == "abs" else build.op(op, x, y)}))
    assert verify_programs(programs, draws=("ties",)).ok
    wrong = altered(programs, *fault)
    assert verify_programs(wrong).ok and not verify_programs(wrong, draws=("ties",)).ok


def test_integers_that_pass_through_float32_are_caught() -> None:
    build = Builder("count")
    ids = build.input("ids", TensorType(DType.I64, (symbol("N"), 5)))
    programs = make_programs(build.finish({"y": build.op("add", ids, 1.0)}))
    assert verify_programs(programs).ok
    assert not verify_programs(altered(programs, "ids_value + 1", "ids_value + 1.0")).ok


def test_integers_that_are_places_stay_within_the_tensor() -> None:
    build = Builder("lookup")
    ids = build.input("ids", TensorType(DType.I64, (symbol("N"),)))
    counts = build.input("counts", TensorType(DType.I64, (symbol("N"),)))
    table = build.param("table", TensorType(DType.F32, (4, 3)))
    y = build.op("embedding", build.op("sub", ids, 0.0), table)
    ir = build.finish({"y": y, "z": build.op("add", counts, counts)})
    assert places_among([ir]) == {"ids"} and verify_programs(make_programs(ir)).ok


STORE = "tl.store(gelu_2_ptr + offsets, gelu_2, mask)"


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (f"{STORE}\n    {STORE}", "double write"),
        ("tl.store(gelu_2_ptr + offsets, gelu_2, mask & (offsets != 3))", "missing write"),
        ("tl.store(gelu_2_ptr + offsets, gelu_2)", "write out of bounds"),
    ],
)
def test_a_fault_in_writing_is_caught(planted: str, fault: str) -> None:
    found = verify_programs(altered(gelu_twice(), STORE, planted))
    assert not found.ok and fault in faults(found)


def test_a_read_out_of_bounds_is_caught() -> None:
    found = verify_programs(
        altered(gelu_twice(), "tl.load(x_ptr + offsets, mask, 0)", "tl.load(x_ptr + offsets)")
    )
    assert not found.ok and "read out of bounds" in faults(found)


def test_where_no_kernel_ran_nothing_is_verified() -> None:
    programs = gelu_twice()
    empty = replace(
        programs,
        forward=replace(programs.forward, steps=(), outputs={}),
        backward=replace(programs.backward, steps=(), outputs={}),
    )
    assert not verify_programs(empty).ok


def test_a_buffer_with_a_wrong_sum_is_told_from_one_that_is_rounded() -> None:
    """A kernel stores its results in bf16 and sums them in float32; another one adds the partial sums up."""
    build = Builder("rounded")
    x = build.input("x", TensorType(DType.BF16, (symbol("N"), 16)))
    h = build.op("gelu", x)
    total = build.op("sum", build.op("cast", h, dtype=DType.F32), axes=(0,), keepdims=False)
    programs = make_programs(build.finish({"h": h, "total": total}))
    assert [kernel.name.split("_")[0] for kernel in programs.forward.kernels] == ["sums", "total"]
    assert verify_programs(programs, sizes={"N": 70}).ok
    wrong = verify_programs(altered(programs, ", totals[0],", ", totals[0] * 1.0001,"), sizes={"N": 70})
    assert [kernel.name for kernel in wrong.kernels if not kernel.ok] == ["total_1_sum"]


def test_a_wrong_rewrite_is_caught_where_each_kernel_does_what_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The square of the mean is added to the mean of squares, not subtracted."""

    def wrong(ir: BlueprintIR, rows: Callable[[Node], bool]) -> BlueprintIR:
        rewritten = with_one_pass_moments(ir, rows)
        excess = {operand.node for relu in rewritten.of("relu") for operand in relu.operands if operand}
        return rewritten.replace(
            nodes=[replace(node, op="add") if node.name in excess else node for node in rewritten.nodes]
        )

    build = Builder("group")
    x = build.input("x", TensorType(DType.BF16, (symbol("N"), 4, symbol("S"))))
    weights = [build.param(name, TensorType(DType.BF16, (4,)), init="ones") for name in ("weight", "bias")]
    ir = build.finish({"y": build.op("group_norm", x, *weights, groups=2)})
    right = verify_programs(make_programs(ir))
    assert [(whole.direction, whole.ok) for whole in right.wholes] == [("forward", True), ("backward", True)]
    monkeypatch.setattr(planner, "with_one_pass_moments", wrong)
    found = verify_programs(make_programs(ir))
    assert all(kernel.ok for kernel in found.kernels)
    assert [whole.ok for whole in found.wholes] == [False, True] and not found.ok


def test_an_output_that_is_read_from_another_buffer_is_caught() -> None:
    build = Builder("read")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 5)))
    programs = make_programs(build.finish({"y": build.op("exp", x), "z": build.op("gelu", x)}))
    y, z = programs.forward.outputs["y"], programs.forward.outputs["z"]
    crossed = replace(programs.forward, outputs={**programs.forward.outputs, "y": z, "z": y})
    found = verify_programs(replace(programs, forward=crossed))
    assert [whole.ok for whole in found.wholes] == [False, True] and not found.ok


def test_the_allowance_is_twice_eagers_error_and_one_ulp() -> None:
    truth = torch.tensor([3.0], dtype=torch.float64)
    eager = torch.tensor([3.5])
    assert compare("y", torch.tensor([4.0]), eager, truth).ok
    assert not compare("y", torch.tensor([4.001]), eager, truth).ok
    assert not compare("y", torch.tensor([torch.nan]), eager, truth).ok


def test_nan_and_infinity_are_right_where_torch_has_them() -> None:
    truth = torch.tensor([1e39, 1e39, torch.nan, 2.0], dtype=torch.float64)
    eager = torch.tensor([torch.inf, torch.nan, torch.nan, 2.0])
    inf, nan = torch.inf, torch.nan
    for right in ([inf, nan, nan, 2.0], [inf, inf, nan, 2.0]):
        assert compare("y", torch.tensor(right), eager, truth).ok
    for wrong in ([-inf, inf, nan, 2.0], [inf, inf, inf, 2.0], [inf, inf, 1.0, 2.0], [inf, inf, nan, 2.1]):
        assert not compare("y", torch.tensor(wrong), eager, truth).ok


def test_a_kernel_may_be_free_of_an_overflow_that_eager_has() -> None:
    truth, eager = torch.tensor([3.0], dtype=torch.float64), torch.tensor([torch.inf])
    assert compare("y", torch.tensor([3.0]), eager, truth).ok and compare("y", eager, eager, truth).ok
    assert not compare("y", torch.tensor([3.1]), eager, truth).ok


def test_where_a_wide_sum_overflows_its_narrow_result_it_counts_as_that_overflow() -> None:
    truth, eager = torch.tensor([1e9, 2.0], dtype=torch.float64), torch.tensor([torch.inf, 2.0]).half()
    assert compare("y", torch.tensor([1e9 + 128.0, 2.0]), eager, truth).ok
    for wrong in ([-1e9, 2.0], [1e3, 2.0], [1e9, 2.1]):
        assert not compare("y", torch.tensor(wrong), eager, truth).ok


def test_integers_that_float64_cannot_tell_apart_are_told_apart() -> None:
    truth = torch.tensor([2**60 + 1])
    assert compare("y", truth, truth, truth).ok
    assert not compare("y", truth - 1, truth, truth).ok
