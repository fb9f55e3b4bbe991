"""Values are computed in the shapes in which they are read: results stay, and kernels become fewer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value, symbol, verify
from esper.ir.dims import Size
from esper.ir.graph import Node
from esper.ops.reference.evaluate import evaluate
from esper.passes import DECOMPOSED, joint_graph, run_passes
from esper.testing import blueprint_irs, random_values
from esper.urza.compiler import Programs, make_programs
from esper.urza.plan.access import with_copies, with_kept_axes
from esper.urza.plan.frames import with_frames
from esper.urza.verify.verification import verify_programs

N, S = symbol("N"), symbol("S")
SIZES = {"N": 3, "S": 21}


def of_last_axis(ir: BlueprintIR, node: Node) -> bool:
    (operand,) = node.operands
    assert operand is not None
    return node.attrs["axes"] == (ir.type(operand).rank - 1,)


def framed(ir: BlueprintIR) -> BlueprintIR:
    return run_passes(with_frames(ir, lambda node: of_last_axis(ir, node)), "cse,dce")


@settings.get_profile("law")
@given(ir=blueprint_irs(differentiable=True))
def test_results_and_gradients_stay_what_they_are(ir: BlueprintIR) -> None:
    """But for the order of sums over several axes."""
    joint = with_copies(with_kept_axes(run_passes(joint_graph(run_passes(ir)), DECOMPOSED)))
    found = framed(joint)
    verify(found)
    values = random_values(joint)
    expected = evaluate(joint, values.inputs, values.weights_of(joint), seed=values.seed)
    results = evaluate(found, values.inputs, values.weights_of(found), seed=values.seed)
    for name, result in expected.items():
        torch.testing.assert_close(results[name], result, rtol=1e-4, atol=1e-5, equal_nan=True, msg=name)


def programs(build: Builder, **outputs: Value) -> Programs:
    return make_programs(build.finish(outputs))


def assert_verified(found: Programs) -> None:
    verified = verify_programs(found, sizes={name: SIZES[name] for name in found.ir.symbols})
    assert verified.ok, verified.kernels


def kinds(found: Programs) -> list[str]:
    """Of the forward kernels."""
    return [kernel.name.split("_")[0] for kernel in found.forward.kernels]


def given_input(build: Builder, *shape: Size) -> Value:
    return build.input("x", TensorType(DType.F32, shape))


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0)], ids=str)
def test_what_is_read_turned_is_computed_by_its_reader(axes: tuple[int, ...]) -> None:
    build = Builder("turned")
    x = build.op("exp", given_input(build, N, 5, S))
    turned = build.op("permute", build.op("mul", x, x), axes=axes)
    found = programs(build, y=build.op("gelu", turned))
    assert kinds(found) == ["map"]
    assert_verified(found)


def test_a_shuffle_of_channels_takes_what_is_before_it_along() -> None:
    build = Builder("shuffle")
    scale = build.param("scale", TensorType(DType.F32, (6, 1)), "ones")
    x = build.op("relu", build.op("mul", given_input(build, N, 6, S), scale))
    found = programs(build, y=build.op("channel_shuffle", x, groups=2))
    assert kinds(found) == ["map"]
    assert_verified(found)


def test_what_follows_a_norm_of_groups_is_computed_over_its_groups() -> None:
    build = Builder("norm")
    x = given_input(build, N, 6, S)
    weights = [build.param(name, TensorType(DType.F32, (6,)), init="ones") for name in ("weight", "bias")]
    y = build.op("silu", build.op("group_norm", x, *weights, groups=2))
    total = build.op("sum", build.op("add", x, y), axes=(0, 2), keepdims=False)
    found = programs(build, y=y, total=total)
    assert kinds(found) == ["fold", "sums", "total"]
    assert_verified(found)


def test_gates_of_channels_are_computed_in_the_shape_of_the_map() -> None:
    build = Builder("gates")
    x = given_input(build, N, 6, S)
    weight = build.param("weight", TensorType(DType.F32, (6, 6)), "fan_in_uniform", fan_in=6)
    gates = build.op("matmul", build.op("exp", build.input("gates", TensorType(DType.F32, (N, 6)))), weight)
    joined = build.op("mul", build.op("reshape", x, shape=(N * 6, S)), 2.0)
    whole = build.op("reshape", joined, shape=(N, 6, S))
    found = programs(build, y=build.op("mul", whole, build.op("reshape", gates, shape=(N, 6, 1))))
    assert kinds(found) == ["map", "matmul", "map"]
    assert_verified(found)


def test_what_is_kept_is_not_computed_twice() -> None:
    build = Builder("kept")
    x = build.op("exp", given_input(build, N, 5, S))
    found = programs(build, x=x, y=build.op("gelu", build.op("permute", x, axes=(0, 2, 1))))
    assert kinds(found) == ["map", "map"]
    assert all("tl.exp(" not in kernel.source for kernel in found.forward.kernels[1:])
    assert_verified(found)


def test_what_is_made_of_many_tensors_is_stored_rather_than_computed_twice() -> None:
    build = Builder("many")
    shape = TensorType(DType.F32, (N, 5, S))
    a, b, c = (build.input(name, shape) for name in "abc")
    total = build.op("add", build.op("add", a, b), c)
    found = programs(build, y=build.op("gelu", build.op("permute", total, axes=(0, 2, 1))))
    assert kinds(found) == ["map", "map"]
    assert_verified(found)


def test_the_end_of_a_product_stays_with_it() -> None:
    build = Builder("product")
    weight = build.param("weight", TensorType(DType.F32, (8, 8)), "fan_in_uniform", fan_in=8)
    product = build.op("gelu", build.op("matmul", given_input(build, N, 8), weight))
    heads = build.op("permute", build.op("reshape", product, shape=(N, 2, 4)), axes=(1, 0, 2))
    found = programs(build, y=build.op("exp", heads))
    assert kinds(found) == ["matmul", "map"]
    assert "gelu" in found.forward.kernels[0].source
    assert_verified(found)


def test_rows_that_a_kernel_reduces_stay_whole() -> None:
    build = Builder("rows")
    x = build.op("permute", given_input(build, N, 4, S, 5), axes=(0, 2, 1, 3))
    copied = build.op("reshape", x, shape=(N, S, 20))
    shift = build.param("shift", TensorType(DType.F32, (20,)), "zeros")
    found = programs(build, y=build.op("softmax", build.op("add", copied, shift), axis=-1))
    assert kinds(found) == ["map", "rows"]
    assert_verified(found)
