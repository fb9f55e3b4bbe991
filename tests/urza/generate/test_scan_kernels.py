"""Loops in kernels compute what their bodies mean, whatever the sizes; others are refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value, symbol
from esper.ir.dims import Size
from esper.lang import lower
from esper.passes import run_passes
from esper.passes.errors import NotAJointGraph, NotDifferentiable
from esper.testing import blueprint_irs
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import make_programs
from esper.urza.errors import UnsupportedElementType
from esper.urza.generate.writer import Launch
from esper.urza.plan.planner import make_plan
from esper.urza.traffic import traffic
from esper.urza.verify.simulate import simulate
from esper.urza.verify.verification import Verification, verify_programs

N, T = symbol("N"), symbol("T")
LAYERS = ("rnn", "gru", "lstm")


def layers(dtype: DType, *widths: int) -> BlueprintIR:
    """Recurrent layers of each kind and width over inputs of their own, some of them from the end."""
    build = Builder("layers")
    outputs: dict[str, Value] = {}
    for number, (name, width) in enumerate((name, width) for name in LAYERS for width in widths):
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[name] * width
        x = build.input(f"x{number}", TensorType(dtype, (N, T, 4)))
        shapes = ((gates, 4), (gates, width), (gates,), (gates,))
        weights = [build.param(f"w{number}_{i}", TensorType(dtype, shape)) for i, shape in enumerate(shapes)]
        results = build.ops(name, x, *weights, name=None, span=None, reverse=number % 2 == 1)
        outputs |= {f"y{number}_{index}": value for index, value in enumerate(results)}
    return build.finish(outputs)


def wrong(found: Verification) -> list[str]:
    return [str(kernel) for kernel in found.kernels if not kernel.ok]


@pytest.mark.parametrize("n, t", [(1, 1), (3, 7), (17, 2)])
@pytest.mark.parametrize("dtype, widths", [(DType.F32, (5, 16)), (DType.BF16, (8, 33)), (DType.F16, (1, 2))])
def test_layers_and_their_gradients_are_right_at_any_size(
    dtype: DType, widths: tuple[int, ...], n: int, t: int
) -> None:
    found = verify_programs(make_programs(layers(dtype, *widths)), sizes={"N": n, "T": t})
    assert wrong(found) == []
    assert found.outside == ()
    loops = [kernel for kernel in found.kernels if kernel.name.startswith("scan")]
    assert len(loops) == 2 * len(LAYERS) * len(widths)


def test_a_state_wider_than_a_tile_is_held_in_several() -> None:
    programs = make_programs(layers(DType.BF16, 72))
    assert verify_programs(programs, sizes={"N": 2, "T": 2}).ok
    gru = next(
        kernel for kernel in programs.kernels if kernel.name.startswith("scan") and "gru" in kernel.name
    )
    assert "(h_0, h_64,) = state" in gru.source


Body = Callable[[Builder, Mapping[str, Value]], Mapping[str, Value]]


def loop(
    body: Body, carries: Mapping[str, tuple[Size, ...]], **given: tuple[tuple[Size, ...], ...] | int | DType
) -> BlueprintIR:
    """A loop over symbols N and T.

    sequences, constants: shapes of `x0`, … (of slices) and `c0`, …; along, dtype. The body's outputs are the
    next carries by their names, then what it yields.
    """
    dtype = given.get("dtype", DType.F32)
    along = given.get("along", 0)
    assert isinstance(dtype, DType) and isinstance(along, int)
    build, step = Builder("loop"), Builder("step")
    values: dict[str, Value] = {}
    operands = []
    groups = {"x": given.get("sequences", ((N, 4),)), "c": given.get("constants", ())}
    shapes = dict(carries)
    for letter, group in groups.items():
        assert isinstance(group, tuple)
        shapes |= {f"{letter}{index}": shape for index, shape in enumerate(group)}
    for name, shape in shapes.items():
        values[name] = step.input(name, TensorType(dtype, shape))
        whole = shape
        if name[0] == "x":
            axis = min(along, len(shape))
            whole = (*shape[:axis], T, *shape[axis:])
        operands.append(build.input(name, TensorType(dtype, whole)))
    inner = step.finish(body(step, values))
    sequences = len([name for name in shapes if name[0] == "x"])
    results = build.ops(
        "scan",
        *operands,
        body=inner,
        carries=len(carries),
        sequences=sequences,
        along=along,
        name=None,
        span=None,
    )
    return build.finish({f"y{index}": value for index, value in enumerate(results)})


def columns(b: Builder, value: Value, start: int, stop: int) -> Value:
    return b.op("slice", value, axes=(-1,), start=(start,), stop=(stop,))


def decaying(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    after = b.op("add", b.op("mul", v["h"], v["c0"]), v["x0"])
    return {"h": after, "y": after}


def shuffled(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    """Slices of slices, joined in another order, and a product with a part of the state."""
    left, right = columns(b, v["h"], 0, 3), columns(b, v["h"], 3, 8)
    middle = columns(b, right, 1, 3)
    product = b.op("matmul", left, v["c0"])
    joined = b.op("concat", middle, product, left, b.op("mul", middle, middle), axis=1)
    after = b.op("tanh", b.op("add", b.op("add", joined, columns(b, v["x0"], 1, 9)), v["h"]))
    return {"h": after, "y": right, "z": joined}


def gated(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    """A choice by a column that each row has, of which the sum of a state with itself is one part."""
    gate = b.op("greater", columns(b, v["x0"], 0, 1), 0.0)
    kept = b.op("where", gate, v["h"], b.op("add", v["h"], v["h"]))
    return {"h": b.op("mul", b.op("sub", kept, v["x0"]), 0.5), "y": b.op("sigmoid", columns(b, kept, 2, 3))}


def crossed(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    """Two states of which each is multiplied for the other, by matrices read either way round."""
    wide = b.op("tanh", b.op("add", b.op("matmul", v["h"], v["c0"]), v["x0"]))
    narrow = b.op("tanh", b.op("matmul", v["g"], v["c1"], transpose_b=True))
    return {"g": wide, "h": narrow, "y": b.op("mul", wide, v["g"])}


LOOPS = {
    "a vector": loop(decaying, {"h": (5,)}, sequences=((5,),), constants=((5,),)),
    "numbers": loop(decaying, {"h": ()}, sequences=((),), constants=((),)),
    "two axes of rows": loop(decaying, {"h": (N, 3, 5)}, sequences=((N, 3, 5),), constants=((5,),), along=1),
    "a line for all rows": loop(decaying, {"h": (N, 4)}, sequences=((4,),), constants=((N, 1),)),
    "slices": loop(shuffled, {"h": (N, 8)}, sequences=((N, 9),), constants=((3, 1),), along=1),
    "choices": loop(gated, {"h": (N, 4)}, along=2, dtype=DType.BF16),
    "two states": loop(
        crossed, {"g": (N, 20), "h": (N, 6)}, sequences=((N, 20),), constants=((6, 20), (6, 20))
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_of_any_body_that_works_row_by_row_has_a_kernel(name: str) -> None:
    programs = make_programs(LOOPS[name])
    assert "scan" not in programs.forward.outside
    for n, t in ((1, 1), (19, 3)):
        sizes = {name: size for name, size in (("N", n), ("T", t)) if name in programs.ir.symbols}
        assert wrong(verify_programs(programs, sizes=sizes)) == []


@settings(max_examples=12, phases=(Phase.explicit, Phase.generate))  # each takes a process: nothing shrinks
@given(blueprint_irs(operators=["scan"], max_nodes=1))
def test_any_loop_and_its_gradient_are_right_in_kernels_or_refused_with_a_reason(ir: BlueprintIR) -> None:
    try:
        programs = make_programs(ir)
    except (NotAJointGraph, NotDifferentiable, UnsupportedElementType):
        return
    for program in programs.both:
        reasons = {refusal.node: refusal.reason for refusal in program.plan.refusals}
        for group in program.plan.groups:
            if group.kind == "outside" and group.nodes[0].op == "scan":
                assert len(reasons[group.nodes[0].name].split()) > 3
    if any(kernel.name.startswith("scan") for kernel in programs.kernels):
        assert wrong(verify_programs(programs)) == []


def refusal(ir: BlueprintIR) -> str:
    (reason,) = (found.reason for found in make_plan(run_passes(ir)).refusals if found.group == "kernels")
    return reason


def summed(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    return {"h": b.op("add", v["h"], b.op("sum", v["h"], axes=(0,)))}


def transposed(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    return {"h": b.op("add", b.op("permute", v["h"], axes=(1, 0)), v["x0"])}


def multiplied(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    return {"h": b.op("tanh", b.op("matmul", v["h"], v["c0"]))}


def by_sequence(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    return {"h": b.op("matmul", v["h"], v["x0"])}


def every_second(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    part = b.op("slice", v["h"], axes=(1,), start=(0,), stop=(4,), step=(2,))
    return {"h": b.op("concat", part, part, axis=1)}


def whole(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    part = b.op("slice", v["h"], axes=(1,), start=(), stop=(), step=())
    return {"h": b.op("exp", part)}


def yields_a_line(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
    return {"h": b.op("mul", v["h"], v["x0"]), "y": b.op("exp", v["x0"])}


ROWS, SQUARE = {"h": (N, 4)}, {"h": (4, 4)}
REFUSED = {
    "`sum` in its step, which computes more than row by row": loop(summed, ROWS),
    "`permute` in its step, which computes more than row by row": loop(
        transposed, SQUARE, sequences=((4, 4),)
    ),
    "`matmul` of its step is no product of rows with a matrix that stays the same": loop(
        by_sequence, SQUARE, sequences=((4, 4),)
    ),
    "`slice` of its step is no slice of columns side by side": loop(every_second, ROWS),
    "`slice` of its step begins or ends at a column that is no number": loop(whole, ROWS),
    "`y` of its step is f32[4], expected floating [N, columns], since programs share out rows": loop(
        yields_a_line, ROWS, sequences=((4,),)
    ),
    "`h` of its step is f32[4, N], neither [4, columns] of a fixed width nor one line": loop(
        decaying, {"h": (4, N)}, sequences=((4, N),), constants=((4, 1),)
    ),
    "a step multiplies each row with 82944 numbers of f32, padded to tiles, above 65536": loop(
        multiplied, {"h": (N, 288)}, constants=((288, 288),)
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_loop_that_has_no_kernel_is_a_library_call_and_the_plan_says_why(reason: str) -> None:
    assert refusal(REFUSED[reason]) == reason


def test_a_loop_without_a_state_is_refused() -> None:
    ir = loop(lambda b, v: {"y": b.op("exp", v["x0"])}, {})
    assert refusal(ir) == "a loop without a state: its steps do not wait for each other"


def test_a_loop_that_multiplies_with_a_matrix_of_one_number_is_refused() -> None:
    ir = loop(multiplied, ROWS, constants=((4, 4),))
    half = Builder("half")
    for node in ir.nodes:
        if node.name == "c0":
            half.op("broadcast_to", half.constant(0.5), shape=(4, 4), name="c0")
        else:
            half.append(node)
    found = half.finish(dict(ir.outputs))
    assert refusal(found) == "`c0` of its step is a constant, and lies nowhere in memory"


def test_a_row_has_the_same_bits_whatever_its_neighbours() -> None:
    programs = make_programs(layers(DType.F32, 16))
    generator = torch.Generator().manual_seed(0)
    leaves = {node.name: node.type for node in (*programs.ir.inputs, *programs.ir.params)}
    sizes = {"N": 18, "T": 3}
    given = {
        name: torch.randn(type.concrete_shape(sizes), generator=generator) * 0.3
        for name, type in leaves.items()
    }
    whole = simulate(programs.forward, given, sizes).results
    alone = {name: tensor[17:] if name[0] == "x" else tensor for name, tensor in given.items()}
    part = simulate(programs.forward, alone, {**sizes, "N": 1}).results
    assert all(torch.equal(whole[f"y{i}_0"][17:], part[f"y{i}_0"]) for i in range(len(LAYERS)))


@pytest.mark.parametrize("name", ["gru_layer", "lstm_layer"])
def test_a_layer_runs_in_kernels_alone_and_few_of_them(name: str) -> None:
    programs = make_programs(lower(name, precision="bf16"))
    assert programs.outside_calls == ()
    assert not any(program.constants for program in programs.both)
    assert len(programs.kernels) <= 9
    loops = [kernel for kernel in programs.kernels if kernel.name.startswith("scan")]
    assert [kernel.direction for kernel in loops] == ["forward", "backward"]


@pytest.mark.parametrize(
    "name, precision", [("gru_layer", "bf16"), ("lstm_layer", "bf16"), ("lstm_layer", "f32")]
)
def test_nothing_spills_and_products_of_steps_are_matrix_instructions(
    name: str, precision: str, tmp_path: Path
) -> None:
    programs = make_programs(lower(name, precision=precision))
    kernels = [kernel for kernel in programs.kernels if kernel.name.startswith("scan")]
    targets = {"sm_80": "mma", "sm_90": "mma", "gfx942": "mfma"}
    for one in build_kernels(kernels, list(targets), cache=KernelCache(tmp_path)).kernels:
        used = one.resources
        assert used.spill_bytes == 0
        if one.target != "gfx942":
            assert used.wide_share > 0.95
        if precision == "bf16":
            assert used.matrix_kind == targets[one.target]
            assert 0 < one.ttir.count("tt.dot ") <= used.matrix_instructions


def test_a_state_of_one_column_beside_itself_is_a_whole_tile(tmp_path: Path) -> None:
    def spread(b: Builder, v: Mapping[str, Value]) -> Mapping[str, Value]:
        total = b.op("add", v["h"], v["x0"])
        first = b.op("slice", total, axes=(1,), start=(0,), stop=(1,), step=(1,))
        return {"h": b.op("broadcast_to", first, shape=(N, 4)), "y": total}

    programs = make_programs(loop(spread, ROWS))
    assert wrong(verify_programs(programs)) == []
    loops = [kernel for kernel in programs.kernels if kernel.name.startswith("scan")]
    assert loops and build_kernels(loops, ["sm_90"], cache=KernelCache(tmp_path), jobs=1).kernels


def test_matrices_are_read_before_the_loop_where_they_fit() -> None:
    """Once for each program; and in every step, where they are too large to wait in shared memory."""
    sizes = {"N": 40, "T": 10}
    for width, times in ((64, 3), (192, 30)):
        program = make_programs(layers(DType.BF16, width)).forward
        launch = next(
            step for step in program.steps if isinstance(step, Launch) and step.kernel.name.endswith("_rnn")
        )
        found = traffic(program, launch, sizes)
        weight = 2 * width * width
        assert (found.moved - found.minimum) // weight == times - 1


def test_generated_loops_are_readable(golden: Callable[[str, str], None]) -> None:
    text = make_programs(lower("gru_layer", precision="bf16")).stage("triton")
    sections = re.split(r"^(?=# (?:forward|backward): )", text, flags=re.MULTILINE)
    golden("gru_layer.loops.py", "".join(section for section in sections if "\ndef scan_" in section))
