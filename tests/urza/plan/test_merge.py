"""What shares a kernel across the flow of values: counted in kernels and launches, with reasons where not."""

from __future__ import annotations

import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value, symbol
from esper.lang import lower
from esper.urza.compiler import Programs, make_programs
from esper.urza.plan.groups import Group
from esper.urza.verify.verification import verify_programs

N, T = symbol("N"), symbol("T")
KERNELS = {"transformer_block": (7, 15), "mlp_block": (3, 6), "attention_layer": (3, 11), "highway": (2, 5)}
"""Forward and backward kernels of library blocks in bf16."""


@pytest.mark.parametrize("name", KERNELS)
def test_blocks_of_the_library_launch_as_many_kernels_as_expected(name: str) -> None:
    found = make_programs(lower(name, precision="bf16"))
    assert (len(found.forward.kernels), len(found.backward.kernels)) == KERNELS[name]
    assert found.outside_calls == ()


def projections(widths: tuple[int, ...], add: bool = False) -> Programs:
    """Linear projections of one input, each an output, or all added up."""
    build = Builder("projections")
    x = build.input("x", TensorType(DType.F32, (N, T, 24)))
    results: list[Value] = []
    for number, width in enumerate(widths):
        weight = build.param(f"weight{number}", TensorType(DType.F32, (width, 24)), "zeros")
        bias = build.param(f"bias{number}", TensorType(DType.F32, (width,)), "zeros")
        product = build.op("matmul", x, weight, transpose_b=True)
        results.append(build.op("add", product, build.op("broadcast_to", bias, shape=(N, T, width))))
    if add:
        total = results[0]
        for result in results[1:]:
            total = build.op("add", total, result)
        results = [total]
    return make_programs(build.finish({f"y{number}": result for number, result in enumerate(results)}))


def groups(programs: Programs, kind: str) -> tuple[list[Group], list[Group]]:
    forward, backward = (
        [group for group in program.plan.groups if group.parts[0].kind == kind] for program in programs.both
    )
    return forward, backward


def test_parallel_projections_share_a_launch_and_their_gradients_an_accumulator() -> None:
    found = projections((16, 40, 5))
    (together,), (inputs, weights) = groups(found, "product")
    assert len(together.members) == 3
    assert len(inputs.products) == 3 and not inputs.members
    assert [member.sum_of for member in weights.members] == ["a", "a", "a"]
    assert len(found.backward.kernels) == 3


def test_layers_side_by_side_have_their_weights_and_biases_gradients_in_one_launch() -> None:
    """They share no factor, but wait for the same; the sums are over one space, of tensors apart."""
    build = Builder("apart")
    outputs = {}
    for number in range(2):
        x = build.input(f"x{number}", TensorType(DType.F32, (N, T, 24)))
        weight = build.param(f"weight{number}", TensorType(DType.F32, (16, 24)), "zeros")
        bias = build.param(f"bias{number}", TensorType(DType.F32, (16,)), "zeros")
        outputs[f"y{number}"] = build.op("add", build.op("matmul", x, weight, transpose_b=True), bias)
    found = make_programs(build.finish(outputs), wrt=("weight0", "bias0", "weight1", "bias1"))
    _, (weights,) = groups(found, "product")
    assert [member.sum_of for member in weights.members] == ["a", "a"]
    assert len(found.backward.kernels) == 2
    assert verify_programs(found, sizes={"N": 3, "T": 100}).ok


def test_a_product_without_partial_sums_stores_its_bias_gradient_itself() -> None:
    build = Builder("wide")
    x = build.input("x", TensorType(DType.F32, (N, 640)))
    weight = build.param("weight", TensorType(DType.F32, (1280, 640)), "zeros")
    bias = build.param("bias", TensorType(DType.F32, (1280,)), "zeros")
    product = build.op("matmul", x, weight, transpose_b=True)
    y = build.op("add", product, build.op("broadcast_to", bias, shape=(N, 1280)))
    found = make_programs(build.finish({"y": y}))
    assert len(found.backward.kernels) == 2
    assert found.backward.partials == {}


def chained() -> BlueprintIR:
    """Two projections of one input, the second of which also needs the first."""
    build = Builder("chained")
    x = build.input("x", TensorType(DType.F32, (N, 24)))
    weights = [build.param(f"w{i}", TensorType(DType.F32, (24, 24)), "zeros") for i in range(2)]
    first = build.op("matmul", x, weights[0], transpose_b=True)
    second = build.op("matmul", x, weights[1], transpose_b=True)
    return build.finish({"y": build.op("mul", second, build.op("exp", first))})


def test_a_product_whose_epilogue_needs_the_other_is_refused_its_launch() -> None:
    found = make_programs(chained())
    refused = [
        one for one in found.forward.plan.refusals if one.reason == "one needs what the other computes"
    ]
    assert len(refused) == 1 and len(found.forward.kernels) == 2


def test_values_recomputed_for_later_come_out_of_the_kernel_that_reads_the_same() -> None:
    """The activation that a weight's gradient needs leaves the product that needs its derivative."""
    backward = make_programs(lower("mlp_block", features=64)).backward
    (product,) = [g for g in backward.plan.groups if any(n.op == "gelu_backward" for n in g.nodes)]
    assert product.kind == "product"
    assert [node.op for node in product.nodes if node.result() in backward.plan.stored] == [
        "gelu",
        "gelu_backward",
    ]


def test_totals_are_finished_together() -> None:
    _, totals = groups(make_programs(lower("mlp_block", features=64)), "finish")
    assert [len(group.members) for group in totals] == [5]


def beside(needed: bool, widths: tuple[int, ...] = (5,)) -> Programs:
    """Means of channels, and a map of another input, which needs the first of them or none."""
    build = Builder("beside")
    y = build.input("y", TensorType(DType.F32, (N, 7)))
    means: list[Value] = []
    for number, width in enumerate(widths):
        x = build.input(f"x{number}", TensorType(DType.F32, (N, width, 3)))
        means.append(build.op("mean", x, axes=(0, 2), keepdims=False))
    if needed:
        y = build.op("add", y, build.op("sum", means[0], axes=(0,), keepdims=True))
    outputs = {"y": build.op("exp", y)} | {f"mean{number}": mean for number, mean in enumerate(means)}
    return make_programs(build.finish(outputs))


def test_totals_are_added_up_beside_a_map_that_does_not_need_them() -> None:
    kernels = [[kernel.name.split("_")[0] for kernel in beside(n).forward.kernels] for n in (False, True)]
    assert kernels[0] == ["sums", "map"]
    assert "total" in kernels[1]


@pytest.mark.parametrize("widths", [(5,), (5, 5), (3, 300, 5), (5, 300, 300)], ids=str)
def test_maps_beside_totals_are_right(widths: tuple[int, ...]) -> None:
    found = beside(False, widths)
    (launch,) = [group for group in found.forward.plan.groups if group.beside]
    assert sum(len(total.totals) for total in launch.beside) == len(widths)
    verified = verify_programs(found, sizes={"N": 2053})
    assert verified.ok, [kernel for kernel in verified.kernels if not kernel.ok]


@pytest.mark.parametrize("add", [False, True])
def test_kernels_that_share_are_right(add: bool) -> None:
    found = verify_programs(projections((16, 40, 5) if not add else (24, 24), add), sizes={"N": 19})
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]


@pytest.mark.parametrize("name", ["attention_layer", "grouped_query_attention"])
def test_blocks_with_parallel_projections_are_right(name: str) -> None:
    found = verify_programs(make_programs(lower(name)))
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]


def test_parts_of_a_saved_product_are_read_where_they_lie() -> None:
    """A gated unit keeps its product, no slices of it, and computes its value again beside its derivative."""
    found = make_programs(lower("glu_block", precision="bf16"))
    assert [
        saved.value.node for saved in found.parts.saved if saved.type.rank == 4 and saved.type.shape[-1] != 1
    ] == ["linear.matmul"]
    (product,) = [g for g in found.backward.plan.groups if any(n.op == "silu_backward" for n in g.nodes)]
    assert product.kind == "product"
