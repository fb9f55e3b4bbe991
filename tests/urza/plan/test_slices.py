"""Slices are taken before what is computed of them, and gradients of parts are joined."""

from __future__ import annotations

from hypothesis import given, settings

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.graph import Value
from esper.lang import lower
from esper.passes import DECOMPOSED, joint_graph, run_passes
from esper.testing import blueprint_irs
from esper.urza.compiler import make_programs
from esper.urza.plan.slices import with_slices_first
from esper.urza.verify.verification import verify_programs
from tests.urza.plan.rewriting import require_equal_results, rewritten

N = symbol("N")
ROWS = TensorType(DType.F32, (N, 12))


def part(build: Builder, x: Value, start: int, stop: int, step: int = 1) -> Value:
    return build.op("slice", x, axes=(1,), start=(start,), stop=(stop,), step=(step,))


def after(build: Builder, y: Value) -> BlueprintIR:
    return rewritten(build.finish({"y": y}), with_slices_first)


def ops(ir: BlueprintIR) -> list[str]:
    return [node.op for node in ir.nodes if node.operands]


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_results_and_gradients_stay_what_they_are(ir: BlueprintIR) -> None:
    joint = run_passes(joint_graph(run_passes(ir)), DECOMPOSED)
    require_equal_results(joint, with_slices_first(joint))


@settings.get_profile("law")
@given(ir=blueprint_irs())
def test_there_is_nothing_to_do_the_second_time(ir: BlueprintIR) -> None:
    once = run_passes(with_slices_first(run_passes(ir, "cse,dce")), "cse,dce")
    assert run_passes(with_slices_first(once), "cse,dce").hash == once.hash


def test_what_is_only_sliced_is_computed_of_slices() -> None:
    build = Builder("b")
    x, bias = build.input("x", ROWS), build.param("bias", TensorType(DType.F32, (12,)))
    scale = build.op("broadcast_to", build.input("s", TensorType(DType.F32, (N, 1))), shape=(N, 12))
    h = build.op("gelu", build.op("mul", build.op("add", x, bias), scale))
    found = after(build, build.op("mul", part(build, h, 0, 6), part(build, h, 6, 12)))
    assert ops(found).count("slice") == 4
    assert all(not found.node(n.operands[0].node).operands for n in found.of("slice") if n.operands[0])
    assert all(node.type.shape[-1] in (1, 6) for node in found.nodes if node.operands)


def test_a_slice_of_a_slice_is_one() -> None:
    build = Builder("b")
    twice = part(build, part(build, build.input("x", ROWS), 2, 11, 2), 1, 4, 2)
    found = after(build, build.op("gelu", twice))
    (one,) = found.of("slice")
    assert (one.attrs["start"], one.attrs["stop"], one.attrs["step"]) == ((4,), (9,), (4,))


def test_what_is_read_whole_as_well_is_sliced_where_it_is() -> None:
    build = Builder("b")
    h = build.op("gelu", build.input("x", ROWS))
    ir = build.finish({"y": part(build, h, 0, 6), "z": build.op("exp", h)})
    assert run_passes(with_slices_first(ir), "cse,dce").hash == ir.hash


def test_random_numbers_keep_their_places() -> None:
    build = Builder("b")
    dropped = build.op("dropout", build.input("x", ROWS), build.seed(), p=0.5, offset=0)
    ir = build.finish({"y": part(build, dropped, 6, 12)})
    assert run_passes(with_slices_first(ir), "cse,dce").hash == ir.hash


def test_what_stands_behind_a_product_stays_in_its_kernel() -> None:
    build = Builder("b")
    product = build.op("matmul", build.input("x", ROWS), build.param("w", TensorType(DType.F32, (12, 12))))
    h = build.op("gelu", product)
    ir = build.finish({"y": build.op("mul", part(build, h, 0, 6), part(build, h, 6, 12))})
    assert run_passes(with_slices_first(ir), "cse,dce").hash == ir.hash


def test_a_value_made_of_three_tensors_is_stored_and_sliced() -> None:
    build = Builder("b")
    x, y, z = (build.input(name, ROWS) for name in "xyz")
    total = build.op("add", build.op("add", x, y), z)
    ir = build.finish({"u": build.op("mul", part(build, total, 0, 6), part(build, total, 6, 12))})
    assert run_passes(with_slices_first(ir), "cse,dce").hash == ir.hash


def test_gradients_of_parts_that_cover_a_tensor_are_joined() -> None:
    build = Builder("b")
    a, b, c = (build.input(name, TensorType(DType.F32, (N, 4))) for name in "abc")
    placed = [
        build.op("slice_backward", g, shape=(N, 12), axes=(1,), start=(start,), stop=(start + 4,), step=(1,))
        for g, start in ((b, 4), (a, 0), (c, 8))
    ]
    total = build.op("add", build.op("add", placed[0], placed[1]), placed[2])
    found = after(build, total)
    assert ops(found) == ["concat"]
    assert [str(operand) for operand in found.of("concat")[0].operands] == ["%a", "%b", "%c"]


def test_gradients_of_parts_with_gaps_are_added() -> None:
    build = Builder("b")
    placed = [
        build.op("slice_backward", build.input(name, TensorType(DType.F32, (N, 4))), shape=(N, 12), axes=(1,),
                 start=(start,), stop=(start + 4,), step=(1,))
        for name, start in (("a", 0), ("b", 8))
    ]  # fmt: skip
    ir = build.finish({"y": build.op("add", *placed)})
    assert run_passes(with_slices_first(ir), "cse,dce").hash == ir.hash


def test_the_gradients_of_a_gate_and_of_what_it_gates_are_stored_side_by_side_by_one_product() -> None:
    programs = make_programs(lower("glu_block", features=8, precision="bf16"))
    (name,) = [node.name for node in programs.backward.ir.of("concat")]
    assert programs.backward.plan.owners[name].kind == "product"
    found = verify_programs(programs, sizes={"N": 3, "S": (2, 5)})
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]
