"""What follows a fold in its own launch: counted in kernels, with reasons, judged in the interpreter."""

from __future__ import annotations

import pytest

from esper.ir import Builder, DType, TensorType, Value, symbol
from esper.ir.dims import Size
from esper.urza.compiler import Programs, make_programs
from esper.urza.generate.writer import Launch
from esper.urza.verify.verification import verify_programs

N, S = symbol("N"), symbol("S")
SIZES = {"N": 2, "S": 1031}


def programs(build: Builder, **outputs: Value) -> Programs:
    return make_programs(build.finish(outputs))


def assert_verified(found: Programs, **sizes: int) -> None:
    known = SIZES | sizes
    verified = verify_programs(found, sizes={name: known[name] for name in found.ir.symbols})
    assert verified.ok, verified.kernels


def kernels(found: Programs) -> list[list[str]]:
    """The kinds of the kernels of both directions."""
    return [[kernel.name.split("_")[0] for kernel in program.kernels] for program in found.both]


def reasons(found: Programs) -> set[str]:
    return {refusal.reason for program in found.both for refusal in program.plan.refusals}


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape, axis", [((N, 3, S), 2), ((N, S, 3), 1), ((N, S, 5, 2), 1)], ids=str)
def test_a_softmax_along_an_axis_of_any_size_is_one_kernel(
    shape: tuple[Size, ...], axis: int, op: str
) -> None:
    build = Builder("softmax")
    x = build.input("x", TensorType(DType.F32, shape))
    found = programs(build, y=build.op(op, x, axis=axis))
    assert kernels(found) == [["fold"], ["fold"]]
    assert_verified(found)


def test_a_kernel_goes_through_its_operand_once_for_each_pass() -> None:
    build = Builder("softmax")
    x = build.input("x", TensorType(DType.BF16, (N, S)))
    (step,) = programs(build, y=build.op("softmax", x, axis=1)).forward.steps
    assert isinstance(step, Launch) and step.passes == {"x_ptr": 3}


def test_what_an_earlier_pass_stores_is_computed_again_by_the_next() -> None:
    build = Builder("shares")
    x = build.op("sigmoid", build.input("x", TensorType(DType.F32, (N, S))))
    total = build.op("sum", x, axes=(1,), keepdims=True)
    found = programs(build, x=x, y=build.op("div", x, total), z=total)
    (kernel,) = found.forward.kernels
    assert kernel.source.count("tl.store(") == 3
    assert_verified(found)


def test_what_was_found_is_still_at_hand_after_a_map() -> None:
    build = Builder("on")
    x = build.input("x", TensorType(DType.F32, (N, S)))
    greatest = build.op("amax", build.op("relu", x), axes=(1,), keepdims=True)
    difference = build.op("sub", x, greatest)
    turned = build.op("flip", difference, axes=(1,))
    total = build.op("sum", build.op("mul", build.op("sigmoid", x), greatest), axes=(1,), keepdims=True)
    found = programs(build, y=turned, z=build.op("mul", total, greatest))
    assert kernels(found)[0] == ["fold", "map"]
    (fold, _) = found.forward.plan.groups
    assert [run.kind for run in fold.passes] == ["tile", "fold"]
    assert_verified(found)


def test_norms_of_groups_are_one_kernel() -> None:
    """Sixteen groups: of a few sums that cancel, the largest error is a matter of luck."""
    build = Builder("norm")
    x = build.input("x", TensorType(DType.F32, (N, 6, S)))
    weights = [build.param(name, TensorType(DType.F32, (6,)), init="ones") for name in ("weight", "bias")]
    found = programs(build, y=build.op("group_norm", x, *weights, groups=2))
    assert kernels(found)[0] == ["fold"]
    assert_verified(found, N=8)


def test_few_stretches_are_not_held_by_as_few_programs() -> None:
    build = Builder("few")
    x = build.input("x", TensorType(DType.F32, (4, S)))
    greatest = build.op("amax", x, axes=(1,), keepdims=True)
    found = programs(build, y=build.op("sub", x, greatest))
    assert kernels(found)[0] == ["fold", "map"]
    assert reasons(found) >= {"no more than 4 programs would compute all of it"}
    assert_verified(found)


def test_what_reads_other_elements_of_an_earlier_pass_is_a_kernel_of_its_own() -> None:
    build = Builder("turned")
    x = build.op("exp", build.input("x", TensorType(DType.F32, (N, S))))
    total = build.op("sum", x, axes=(1,), keepdims=True)
    y = build.op("div", build.op("flip", x, axes=(1,)), total)
    found = programs(build, y=y)
    assert kernels(found)[0] == ["fold", "map"]
    assert reasons(found) >= {"it reads in another shape what other programs compute"}
    assert_verified(found)


def test_what_also_needs_a_kernel_between_is_a_kernel_of_its_own() -> None:
    build = Builder("between")
    x = build.input("x", TensorType(DType.F32, (N, S)))
    total = build.op("sum", x, axes=(1,), keepdims=True)
    running = build.op("cumsum", total, axis=0, reverse=False)
    found = programs(build, y=build.op("add", build.op("sub", x, total), running))
    assert kernels(found)[0] == ["fold", "cumsum", "map"]
    assert_verified(found)
