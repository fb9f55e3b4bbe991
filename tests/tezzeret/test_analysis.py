"""What a graph does by its plan: work, memory over time, the bottleneck, and what relieves it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from esper.errors import EsperError
from esper.ir.build import Builder
from esper.ir.dims import symbol
from esper.ir.graph import BlueprintIR
from esper.ir.types import DType, TensorType
from esper.lang import SizeValue, lower, signature
from esper.testing.strategies import blueprint_irs
from esper.tezzeret.analysis import analyze, reliefs, smaller_parameters
from esper.tezzeret.analysis.relief import CHECKPOINT, PRECISION
from esper.tezzeret.analysis.steps import MATRIX_RATES
from esper.tezzeret.costs import DEVICES
from esper.tezzeret.errors import UnknownTarget
from esper.urza.arena import arena, residents
from esper.urza.compiler import make_programs
from esper.urza.traffic import flops as flops_of

SIZES: dict[str, SizeValue] = {"N": 4, "S": (8,)}


def product(dtype: DType) -> BlueprintIR:
    build = Builder("product")
    a = build.input("a", TensorType(dtype, (512, 256)))
    b = build.input("b", TensorType(dtype, (256, 1024)))
    return build.finish({"y": build.op("matmul", a, b)})


def diamond() -> BlueprintIR:
    """Two branches of one and of two operators, which meet."""
    build = Builder("diamond")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 8)))
    short = build.op("relu", x, name="short")
    long = build.op("exp", build.op("tanh", x, name="first"), name="second")
    return build.finish({"y": build.op("add", short, long, name="meet")})


@pytest.mark.parametrize("name", ["mlp_block", "mobilenet_block"])
def test_the_steps_do_all_the_work_of_their_direction(name: str) -> None:
    found = analyze(lower(name, sizes=SIZES), SIZES)
    for direction, flops in found.flops.items():
        assert sum(step.flops for step in found.of(direction)) == flops > 0
    for program in make_programs(found.ir).both:
        assert found.flops[program.direction] >= flops_of(program.ir, found.sizes)


@pytest.mark.parametrize("name", ["mlp_block", "conv_enhance"])
def test_the_memory_over_time_peaks_where_most_lives_at_once(name: str) -> None:
    ir = lower(name, sizes=SIZES)
    found = analyze(ir, SIZES)
    for program in make_programs(ir).both:
        memory, planned = found.memory[program.direction], arena(program, found.sizes)
        steps = found.of(program.direction)
        assert memory.peak == max(step.alive for step in steps)
        assert steps[memory.at].alive == sum(size for _, size in memory.living) == memory.peak
        assert planned.least <= memory.peak <= planned.least + memory.returned
        assert memory.size == planned.size >= planned.least


def test_what_library_calls_return_lives_until_its_last_reader_beside_the_arena() -> None:
    found = analyze(lower("mobilenet_block", sizes=SIZES), SIZES)
    steps = found.of("backward")
    grad = "conv_2.convolution.convolution_input_grad"
    made = next(number for number, step in enumerate(steps) if step.is_call and step.nodes == (grad,))
    last = max(number for number, step in enumerate(steps) if "relu6_2.relu6_backward" in step.nodes)
    size = 4 * found.sizes["N"] * 256 * found.sizes["S.0"]  # of the widened map
    arenas = [
        sum(one.size for one in residents(program, found.sizes) if one.span.first <= number <= one.span.last)
        for program in make_programs(found.ir).both
        if program.direction == "backward"
        for number in range(len(steps))
    ]
    beside = [step.alive - arena for step, arena in zip(steps, arenas, strict=True)]
    assert beside[made : last + 1] == [size] * (last + 1 - made) and beside[made - 1] == beside[last + 1] == 0
    assert found.memory["backward"].returned == size
    assert found.peak == found.weights + found.saved + found.memory["backward"].size + size


def test_a_kernel_takes_the_longer_of_its_arithmetic_and_its_traffic() -> None:
    (step,) = analyze(product(DType.F32)).of("forward")
    flops, moved = 2 * 512 * 256 * 1024, 4 * (512 * 256 + 256 * 1024 + 512 * 1024)
    assert (step.flops, step.bytes) == (flops, moved)
    assert step.seconds == max(
        flops / DEVICES["sm_80"].flops_per_second, moved / DEVICES["sm_80"].bytes_per_second
    )
    assert step.bound == "arithmetic"


def test_products_of_narrow_factors_run_on_matrix_units() -> None:
    (step,) = analyze(product(DType.BF16), target="sm_90").of("forward")
    memory = step.bytes / DEVICES["sm_90"].bytes_per_second
    assert step.flops / MATRIX_RATES["sm_90"] < memory
    assert (step.seconds, step.bound) == (memory, "memory")


def test_depth_is_the_longest_chain_of_operators() -> None:
    assert analyze(diamond()).chain == ("first", "second", "meet")


def test_width_counts_the_values_that_live_at_once() -> None:
    width = analyze(diamond(), {"N": 4}).width
    assert width is not None
    assert (width.alive, width.at, width.widest_bytes) == (3, "first", 4 * 8 * 4)  # x, short, first


def test_the_bottleneck_takes_most_of_the_time() -> None:
    found = analyze(lower("mlp_block", sizes=SIZES), SIZES)
    assert found.bottleneck is not None
    assert found.bottleneck.seconds == max(step.seconds for step in found.steps)


def test_a_graph_without_operators_has_no_bottleneck() -> None:
    build = Builder("identity")
    found = analyze(build.finish({"y": build.input("x", TensorType(DType.F32, (4,)))}))
    assert (found.chain, found.width, found.total) == ((), None, 0.0)


def test_relief_has_the_figures_of_its_own_plan() -> None:
    found = analyze(lower("mlp_block", sizes=SIZES), SIZES)
    smaller = lower("mlp_block", expand=2, sizes=SIZES)
    relief = {
        one.change: one
        for one in reliefs(
            found,
            SIZES,
            {
                "expand=2": lambda: smaller,
                "features=128": lambda: lower("mlp_block", features=128, sizes=SIZES),
                "expand=-1": lambda: lower("mlp_block", expand=-1, sizes=SIZES),
            },
        )
    }
    assert relief.keys() == {PRECISION, CHECKPOINT, "expand=2"}  # another width fits another place
    planned, tried = analyze(smaller, SIZES), relief["expand=2"]
    assert (tried.seconds, tried.saved, tried.peak) == (planned.total, planned.saved, planned.peak)
    assert all(one.helps(found) for one in relief.values())
    assert relief[CHECKPOINT].saved == 0
    assert relief[CHECKPOINT].seconds == found.total + found.seconds("forward")


def test_a_change_that_saves_nothing_is_no_relief() -> None:
    found = analyze(lower("mlp_block", precision="bf16", sizes=SIZES), SIZES)
    same = {"same": lambda: found.ir, "more": lambda: lower("mlp_block", expand=8, sizes=SIZES)}
    changes = [one.change for one in reliefs(found, SIZES, same)]
    assert "same" not in changes
    assert "more" not in changes


def test_smaller_parameters_are_those_next_below_and_other_choices() -> None:
    tried = dict(smaller_parameters(signature("mlp_block"), {"expand": 8}))
    assert tried["expand"] == 4
    assert tried["act"] != "gelu"


def test_a_target_without_a_datasheet_is_refused() -> None:
    with pytest.raises(UnknownTarget, match="sm_1") as raised:
        analyze(product(DType.F32), target="sm_1")
    assert raised.value.help_text == "it knows sm_80, sm_90"


@settings(max_examples=25)
@given(blueprint_irs(max_nodes=5, dtypes=(DType.F32,), symbolic=False))
def test_what_can_be_planned_can_be_analyzed(ir: BlueprintIR) -> None:
    try:
        make_programs(ir)
    except EsperError:
        with pytest.raises(EsperError):
            analyze(ir)
        return
    found = analyze(ir)
    assert all(step.flops >= 0 and step.bytes >= 0 and step.seconds >= 0 for step in found.steps)
    for program in make_programs(ir).both:
        assert found.flops[program.direction] >= flops_of(program.ir, found.sizes)
