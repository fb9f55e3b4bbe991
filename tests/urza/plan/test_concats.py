"""What pointwise operators make is computed where it is joined, and not stored before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.lang import lower
from esper.passes import DECOMPOSED, joint_graph, run_passes
from esper.testing import blueprint_irs
from esper.urza.compiler import make_programs
from esper.urza.plan.concats import with_concats_first
from esper.urza.program import make_program
from esper.urza.verify.verification import verify_programs
from tests.urza.plan.rewriting import rewritten

N, M = symbol("N"), symbol("M")


def rows(width: int) -> TensorType:
    return TensorType(DType.F32, (N, width))


def after(ir: BlueprintIR) -> BlueprintIR:
    return rewritten(ir, with_concats_first)


def joined(build: Builder, *values: Value) -> Value:
    return build.op("concat", *values, axis=1)


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_results_and_gradients_stay_what_they_are(ir: BlueprintIR) -> None:
    after(run_passes(joint_graph(run_passes(ir)), DECOMPOSED))


def test_what_is_made_alike_is_made_of_what_is_joined() -> None:
    build = Builder("b")
    parts = []
    for i in range(3):
        bias = build.param(f"b{i}", TensorType(DType.F32, (4,)))
        parts.append(build.op("gelu", build.op("add", build.input(f"x{i}", rows(4)), bias)))
    found = after(build.finish({"y": joined(build, *parts)}))
    assert sorted(node.op for node in found.nodes if node.operands) == ["add", "concat", "concat", "gelu"]
    assert [str(found.node(value.node).op) for _, value in found.outputs] == ["gelu"]


def test_what_is_made_in_different_ways_is_chosen_by_its_place() -> None:
    build = Builder("b")
    x, h = build.input("x", rows(3)), build.input("h", rows(5))
    y = joined(build, x, build.op("exp", h), build.op("log", build.input("z", rows(1))))
    ir = build.finish({"y": y})
    found = after(ir)
    assert not found.of("concat") and len(found.of("where")) == 2
    programs = make_programs(ir)
    assert len(programs.forward.kernels) == 1
    verified = verify_programs(programs, sizes={"N": 3})
    assert verified.ok, [kernel for kernel in verified.kernels if not kernel.ok]


@pytest.mark.parametrize(
    "made",
    [
        lambda b: [b.op("add", b.input("x", axes(N, 1, 1)), b.input("y", axes(1, M, 1)))] * 2,
        lambda b: [
            b.op("add", b.input(name, rows(4)), b.input(f"{name}_of", axes(size, 4)))
            for name, size in (("x", 1), ("y", N))
        ],
        lambda b: [
            b.op("logical_not", b.input("x", axes(N, 3, dtype=DType.BOOL))),
            b.input("y", axes(N, 4, dtype=DType.BOOL)),
        ],
        lambda b: [
            b.op("maximum", b.input("x", axes(N, 3, dtype=DType.I64)), 2.0),
            b.input("y", axes(N, 4, dtype=DType.I64)),
        ],
    ],
)
def test_operands_of_unlike_shapes_and_of_integers_are_joined_as_they_may_be(
    made: Callable[[Builder], list[Value]],
) -> None:
    build = Builder("b")
    values = made(build)
    axis = build.type(values[0]).rank - 1
    ir = build.finish({"y": build.op("concat", *values, axis=axis)})
    after(ir)
    assert make_program(ir, "forward").kernels


def axes(*shape: Size, dtype: DType = DType.F32) -> TensorType:
    return TensorType(dtype, shape)


def both_halves(build: Builder) -> list[Value]:
    """Made of the same tensors: one kernel computes both and stores them side by side."""
    x, y = build.input("x", rows(4)), build.input("y", rows(4))
    return [build.op("mul", x, y), build.op("add", x, y)]


def behind_a_product(build: Builder) -> list[Value]:
    product = build.op("matmul", build.input("x", rows(4)), build.param("w", TensorType(DType.F32, (4, 4))))
    return [build.op("gelu", product), build.input("y", rows(4))]


def behind_a_sum(build: Builder) -> list[Value]:
    total = build.op("sum", build.input("x", TensorType(DType.F32, (N, 4, 3))), axes=(2,), keepdims=False)
    return [build.op("gelu", total), build.input("y", rows(4))]


def needed_in_memory(build: Builder) -> list[Value]:
    h = build.op("gelu", build.input("x", rows(4)))
    build.op("matmul", h, build.param("w", TensorType(DType.F32, (4, 4))), name="reader")
    return [h, build.input("y", rows(4))]


def random(build: Builder) -> list[Value]:
    return [
        build.op("dropout", build.input("x", rows(4)), build.seed(), p=0.5, offset=0),
        build.input("y", rows(4)),
    ]


def inputs(build: Builder) -> list[Value]:
    return [build.input("x", rows(4)), build.input("y", rows(4))]


@pytest.mark.parametrize(
    "parts",
    [both_halves, behind_a_product, behind_a_sum, needed_in_memory, random, inputs],
    ids=lambda f: f.__name__,
)
def test_others_are_joined_from_memory(parts: Callable[[Builder], list[Value]]) -> None:
    build = Builder("b")
    values = parts(build)
    outputs = {"y": joined(build, *values)}
    if any(node.name == "reader" for node in build.nodes):
        outputs["z"] = Value("reader")
    ir = run_passes(build.finish(outputs), "cse,dce")
    assert run_passes(with_concats_first(ir), "cse,dce") == ir


def test_an_activation_is_stored_where_it_is_joined() -> None:
    programs = make_programs(lower("residual_dense", channels=8))
    assert [kernel.name for kernel in programs.forward.kernels if "relu" in kernel.name] == []
    found = verify_programs(programs, sizes={"N": 2, "S": (3, 5)})
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]
