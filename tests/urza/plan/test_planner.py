"""What runs together: counted in kernels, and read in golden files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.lang import lower
from esper.urza.compiler import Programs, make_programs
from esper.urza.errors import UnsupportedElementType
from esper.urza.generate.templates import TEMPLATES
from esper.urza.plan.eligible import ELIGIBLE

Golden = Callable[[str, str], None]
N = symbol("N")


def programs(name: str, **params: Any) -> Programs:
    return make_programs(lower(name, **params))


@pytest.mark.parametrize("name", ["mlp_block", "conv_enhance"])
def test_the_plan_of_a_block_reads_as_expected(name: str, golden: Golden) -> None:
    found = programs(name, **{"features" if name == "mlp_block" else "channels": 32})
    golden(f"{name}.plan", found.stage("plan"))


def test_generated_kernels_read_as_expected(golden: Golden) -> None:
    golden("norm.kernels.py", programs("norm", features=32).stage("triton"))


def test_a_pre_norm_mlp_is_three_kernels_forward_and_no_library_call() -> None:
    found = programs("mlp_block", features=64)
    assert len(found.forward.kernels) == 3
    assert found.outside_calls == ()


def test_the_backward_of_a_row_norm_reads_its_operands_in_one_pass() -> None:
    found = programs("mlp_block", features=64).backward
    rows = [step for step in found.plan.groups if step.reduces_rows]
    assert len(rows) == 1
    assert [node.op for node in rows[0].sums] == ["sum", "sum"]


def unary(shape: tuple[int, ...], *steps: tuple[str, dict[str, Any]]) -> BlueprintIR:
    build = Builder("steps")
    value = build.input("x", TensorType(DType.F32, (N, *shape)))
    for op, attrs in steps:
        value = build.op(op, value, **attrs)
    return build.finish({"y": value})


def test_a_pointwise_chain_is_one_kernel() -> None:
    assert len(make_programs(unary((7,), ("exp", {}), ("gelu", {}), ("neg", {}))).forward.kernels) == 1


def test_a_sum_joins_the_kernel_that_reads_its_operand_and_not_a_later_one_of_its_shape() -> None:
    build = Builder("sums")
    x, y = (build.input(name, TensorType(DType.F32, (N, 5, 7))) for name in "xy")
    first = build.op("sum", x, axes=(0, 2), keepdims=True)
    scaled = build.op("mul", y, build.op("broadcast_to", first, shape=(N, 5, 7)))
    second = build.op("sum", scaled, axes=(0, 2), keepdims=True)
    third = build.op("sum", build.op("mul", x, x), axes=(0, 2), keepdims=True)
    found = make_programs(build.finish({"first": first, "second": second, "third": third})).forward
    sums = [[node.name for node in group.sums] for group in found.plan.groups if group.sums]
    assert sums == [[first.node, third.node], [second.node]]


def test_what_has_no_kernel_is_called_outside_and_the_plan_says_why() -> None:
    build = Builder("embed")
    weight = build.param("weight", TensorType(DType.F32, (5, 4)))
    indices = build.input("indices", TensorType(DType.I64, (N,)))
    found = make_programs(build.finish({"y": build.op("embedding", indices, weight)})).backward
    assert found.outside == ("embedding_backward",)
    (refusal,) = found.plan.refusals
    assert refusal.group == "kernels"
    assert "atomics" in refusal.reason


def test_float64_is_refused_with_the_node() -> None:
    build = Builder("wide")
    x = build.input("x", TensorType(DType.F64, (N,)))
    with pytest.raises(UnsupportedElementType, match=r"`x` is f64"):
        make_programs(build.finish({"y": build.op("neg", x)}))


def test_no_name_of_a_graph_can_clash_with_the_generated_text() -> None:
    build = Builder("names")
    axis = symbol("row"), symbol("size_0_"), symbol("S.0"), 5
    value = build.input("class", TensorType(DType.F32, axis))
    for name in ("mask", "tl", "N", "a.b", "a_b", "operands", "gelu", "class_ptr", "row", "size_1_"):
        value = build.op("add", build.op("gelu", value, name=f"of.{name}"), value, name=name)
    total = build.op("sum", value, axes=(3,), keepdims=True, name="BLOCK_K")
    for program in make_programs(build.finish({"y": total})).both:
        for kernel in program.kernels:
            compile(kernel.source, kernel.name, "exec")
            body = kernel.source.partition("operands):")[2].partition("@triton.jit")[0]
            targets = [line.split(" = ")[0].strip() for line in body.splitlines() if " = " in line]
            assert len(set(targets)) == len(targets)
            names = [argument.name for argument in kernel.arguments]
            assert len({*names, *kernel.constexprs}) == len(names) + len(kernel.constexprs)
            assert not set(targets) & {*names, "mask", "row", "column", "offsets", "operands", "tl", "gelu"}


def test_every_operator_that_may_have_its_own_kernel_has_one_who_writes_it() -> None:
    assert ELIGIBLE.keys() == TEMPLATES.keys()
