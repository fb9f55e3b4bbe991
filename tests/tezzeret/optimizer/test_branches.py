"""Parallel paths: from where branches part to where they meet."""

from __future__ import annotations

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value, symbol
from esper.lang import lower, size_values
from esper.passes import run_passes
from esper.tezzeret.optimizer import Fork, forks


def forks_of(ir: BlueprintIR) -> tuple[Fork, ...]:
    ir = run_passes(ir)
    return forks(ir, size_values(ir, None))


def first_nodes(fork: Fork) -> list[str]:
    return [branch.nodes[0] for branch in fork.branches]


def test_projections_part_at_their_operand_and_meet_in_attention() -> None:
    (fork,) = forks_of(lower("attention"))
    assert (fork.at, fork.join) == ("layer_norm", "scaled_dot_product_attention")
    assert first_nodes(fork) == ["linear.matmul", "linear_2.matmul", "linear_3.matmul"]


def test_a_skip_connection_is_no_branch_and_hides_none() -> None:
    (fork,) = forks_of(lower("inception_block"))
    assert (fork.at, fork.join) == ("x", "concat")
    assert len(fork.branches) == 3
    assert forks_of(lower("resnet_block")) == ()


def test_a_projection_beside_a_branch_is_one() -> None:
    (fork,) = forks_of(lower("resnet_downsample"))
    assert (fork.at, fork.join, len(fork.branches)) == ("x", "add", 2)


def test_several_forks_are_told_in_order() -> None:
    assert [fork.at for fork in forks_of(lower("transformer_llama"))] == ["rms_norm", "rms_norm_2"]


def _product(build: Builder, x: Value) -> Value:
    name = build.fresh("w")
    return build.op("gelu", build.op("matmul", x, build.param(name, TensorType(DType.F32, (4, 4)))))


def test_branches_that_meet_in_no_node_meet_in_the_results() -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 4)))
    ir = build.finish({"a": _product(build, x), "b": _product(build, x)})
    (fork,) = forks_of(ir)
    assert (fork.at, fork.join) == ("x", None)
    assert {len(branch.nodes) for branch in fork.branches} == {2}
    assert all(branch.flops > 2 * 32 * 16 for branch in fork.branches)


def test_what_reads_another_branch_is_a_part_of_it() -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 4)))
    a, b = _product(build, x), _product(build, x)
    mixed = build.op("mul", a, b)
    ir = build.finish({"y": build.op("add", mixed, _product(build, mixed))})
    (fork,) = forks_of(ir)
    assert (fork.at, fork.join, len(fork.branches)) == ("x", mixed.node, 2)
