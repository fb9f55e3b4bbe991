"""Every operator has a kernel, or the plan says why a use of it has not."""

from __future__ import annotations

import hashlib

import pytest

from esper.ir import OPERATORS, BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.operator import Operator
from esper.lang import LibraryEntry, library, lower
from esper.passes import joint_graph, run_passes
from esper.testing.sampler import GraphSampler
from esper.testing.strategies import sampled_operators
from esper.urza.compiler import make_programs
from esper.urza.plan.groups import Plan
from esper.urza.plan.planner import make_plan

STAYS = {
    *("convolution", "convolution_input_grad", "convolution_weight_grad"),
    *("convolution_channels_last", "convolution_input_grad_channels_last"),
    "convolution_weight_grad_channels_last",
    *("embedding_backward", "ensure_shape"),
}
"""Operators that may be library calls whatever their sizes are."""

SIZED = {
    *("attention_forward", "attention_query_grad", "attention_key_value_grad", "attention_mask_grad"),
    *("avg_pool", "avg_pool_backward", "max_pool", "max_pool_backward", "adaptive_max_pool_backward"),
    *("adaptive_avg_pool", "adaptive_avg_pool_backward", "adaptive_max_pool", "gather_backward"),
    *("scan", "pad_backward", "rotary_embedding", "sinusoidal_encoding", "alibi_bias"),
}
"""Operators that some sizes, or masks, leave to a library."""

USES = 3


def use(entry: Operator, number: int) -> BlueprintIR:
    """A use of `entry`, drawn by its own sampling rule; every second one has symbolic sizes."""
    build = Builder("use")
    rows = (symbol("N"), symbol("M"))
    sampler = GraphSampler(
        build, (2, 1, 3, 4, *rows) if number % 2 else (2, 1, 3, 4), (DType.F32, DType.BF16)
    )
    sampler.rewind(hashlib.sha512(f"{entry.name}.{number}".encode()).digest())
    assert entry.sample is not None
    operands, attrs = entry.sample(sampler)
    results = build.ops(entry.name, *operands, name=None, span=None, **attrs)
    build.input("sizes", TensorType(DType.F32, rows))
    return build.finish({f"y{index}": value for index, value in enumerate(results)})


def require_reasons(plan: Plan, allowed: set[str]) -> None:
    reasons = {refusal.node: refusal.reason for refusal in plan.refusals if refusal.group == "kernels"}
    for group in plan.groups:
        if group.kind == "outside":
            (node,) = group.nodes
            assert node.op in allowed
            assert len(reasons[node.name].split()) > 3


@pytest.mark.parametrize("name", sampled_operators())
def test_a_use_of_an_operator_has_a_kernel_or_a_reason(name: str) -> None:
    entry = OPERATORS[name]
    for number in range(USES):
        ir = run_passes(use(entry, number))
        require_reasons(make_plan(ir), STAYS | SIZED)
        differentiable = all(OPERATORS[node.op].vjp or not node.operands for node in ir.nodes)
        if differentiable and any(
            node.op in ("input", "param") and node.type.dtype.is_floating for node in ir.nodes
        ):
            require_reasons(make_plan(joint_graph(ir)), STAYS | SIZED)


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
def test_a_blueprint_calls_a_library_for_dense_convolutions_alone(entry: LibraryEntry) -> None:
    for program in make_programs(lower(entry.name)).both:
        require_reasons(program.plan, {name for name in STAYS if name.startswith("convolution")})
