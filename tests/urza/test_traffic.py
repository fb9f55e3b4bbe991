"""Bytes that kernels ask for: each element that a kernel needs once, and no element that it does not."""

from __future__ import annotations

from esper.ir import Builder, DType, TensorType, symbol
from esper.ir.graph import BlueprintIR, Value
from esper.urza.generate.writer import Launch
from esper.urza.program import make_program
from esper.urza.traffic import traffic_of_buffers

WIDE = TensorType(DType.BF16, (symbol("N"), 64))
N = 100


def read_of(ir: BlueprintIR, buffer: str) -> int:
    """Bytes that the only kernel of `ir` reads of `buffer`."""
    program = make_program(ir, "forward")
    (step,) = program.steps
    assert isinstance(step, Launch)
    return traffic_of_buffers(program, step, {"N": N})[buffer].minimum


def part(build: Builder, x: Value, start: int, stop: int) -> Value:
    return build.op("slice", x, axes=(1,), start=(start,), stop=(stop,), step=(1,))


def test_of_a_slice_counts_what_it_names() -> None:
    build = Builder("b")
    y = build.op("gelu", part(build, build.input("x", WIDE), 8, 24))
    assert read_of(build.finish({"y": y}), "x") == N * 16 * 2


def test_of_slices_that_overlap_no_more_counts_than_the_whole() -> None:
    build = Builder("b")
    x = build.input("x", WIDE)
    y = build.op("mul", part(build, x, 0, 48), part(build, x, 16, 64))
    assert read_of(build.finish({"y": y}), "x") == N * 64 * 2


def test_what_is_read_whole_beside_a_slice_counts_whole() -> None:
    build = Builder("b")
    x = build.input("x", WIDE)
    y = build.op("mul", x, build.op("sum", part(build, x, 0, 8), axes=(1,), keepdims=True))
    program = make_program(build.finish({"y": y}), "forward")
    found = [
        traffic_of_buffers(program, step, {"N": N})["x"].minimum
        for step in program.steps
        if isinstance(step, Launch) and "x" in step.buffers.values()
    ]
    assert max(found) == N * 64 * 2


def test_of_rows_that_are_looked_up_count_those_that_are_named() -> None:
    build = Builder("b")
    table = build.param("table", TensorType(DType.BF16, (1000, 64)))
    tokens = build.input("tokens", TensorType(DType.I64, (symbol("N"),)))
    y = build.op("gelu", build.op("embedding", tokens, table))
    ir = build.finish({"y": y})
    assert read_of(ir, "table") == N * 64 * 2
