"""What several kernels compute is stored by the first of them where that moves fewer bytes."""

from __future__ import annotations

import pytest

from esper.ir import Builder, DType, TensorType, symbol
from esper.ir.graph import Value
from esper.lang import lower
from esper.urza.compiler import make_programs
from esper.urza.generate.writer import Launch
from esper.urza.program import Program, make_program
from esper.urza.traffic import traffic
from esper.urza.verify.verification import verify_programs

N = symbol("N")
SIZES = {"N": 1000}
BYTES = 1000 * 64 * 4


def centred(tensors: int) -> Program:
    """`v - sum(exp(v))` over the first axis, v the product of so many tensors: two kernels need v."""
    build = Builder("b")
    first, *rest = (build.input(f"x{i}", TensorType(DType.F32, (N, 64))) for i in range(tensors))
    v: Value = first
    for factor in rest:
        v = build.op("mul", v, factor)
    total = build.op("sum", build.op("exp", v), axes=(0,), keepdims=True)
    return make_program(build.finish({"y": build.op("sub", v, total)}), "forward")


def moved(program: Program) -> int:
    """Whole tensors that kernels read and write."""
    steps = [step for step in program.steps if isinstance(step, Launch)]
    return round(sum(traffic(program, step, SIZES).minimum for step in steps) / BYTES)


@pytest.mark.parametrize("tensors, expected", [(1, 3), (2, 5), (3, 6), (4, 7)])
def test_a_value_made_of_many_tensors_is_stored(tensors: int, expected: int) -> None:
    """Computed again it costs each tensor twice, stored each once and itself twice; and the result."""
    program = centred(tensors)
    assert moved(program) == expected
    assert sorted(program.buffers) == sorted(["sub", "sum", *({3: ["mul_2"], 4: ["mul_3"]}.get(tensors, []))])


def test_the_gradient_at_a_residual_is_stored_once() -> None:
    """It is made of three tensors, and read by sums, by a convolution's gradient and by the input's."""
    programs = make_programs(lower("resnet_block", channels=8))
    readers = [
        step
        for step in programs.backward.steps
        if isinstance(step, Launch) and "grad.result" in step.buffers.values()
    ]
    assert len(readers) == 1
    found = verify_programs(programs, sizes={"N": 2, "S": (3, 5)})
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]
