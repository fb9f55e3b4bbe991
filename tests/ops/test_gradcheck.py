"""Every operator's gradient against finite differences, by `torch.autograd.gradcheck` in float64.

The operators are those of the table that a gradient can pass; composites count through `expand`. One use of
each, as its own `sample` rule draws it, is the function: its forward runs the references, its backward the
joint graph, so a rule and a reference that are wrong alike are found, where a comparison of the two is blind.

Kinks: points are drawn from continuous distributions and in float64 from the start, so that no two elements
tie and none stands on a kink, but with a probability of about the step, 1e-6, for each element; coarser
dtypes would put many there. Random operators draw by counter from one seed, the same mask each time.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir import BlueprintIR, DType
from esper.ops.reference.evaluate import evaluate
from esper.passes import run_passes
from esper.passes.autodiff import GRADIENT
from esper.testing import GraphValues, blueprint_irs, random_values
from esper.testing.strategies import sampled_operators

STEP = 1e-6
RELATIVE, ABSOLUTE = 1e-5, 1e-6  # what central differences with that step can show in float64


class Graph(torch.autograd.Function):
    """The floating outputs of a graph as a function of its floating inputs and params."""

    @staticmethod
    def forward(ctx: Any, ir: BlueprintIR, values: GraphValues, *leaves: torch.Tensor) -> Any:
        ctx.ir, ctx.values = ir, values
        ctx.save_for_backward(*leaves)
        inputs, weights = given_values(ir, values, leaves)
        found = evaluate(ir, inputs, weights, dtype=torch.float64, seed=values.seed)
        return tuple(found[name] for name in floating_outputs(ir))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        ir, values = ctx.ir, ctx.values
        inputs, weights = given_values(ir, values, ctx.saved_tensors)
        named = {GRADIENT + name: g for name, g in zip(floating_outputs(ir), gradients, strict=True)}
        joint = run_passes(ir, "expand,autodiff")
        found = evaluate(joint, {**inputs, **named}, weights, dtype=torch.float64, seed=values.seed)
        leaves = zip(floating_leaves(ir), ctx.saved_tensors, strict=True)
        return None, None, *(found.get(GRADIENT + name, torch.zeros_like(leaf)) for name, leaf in leaves)


def floating_leaves(ir: BlueprintIR) -> list[str]:
    return [node.name for node in (*ir.inputs, *ir.params) if node.type.dtype.is_floating]


def floating_outputs(ir: BlueprintIR) -> list[str]:
    return [name for name, value in ir.outputs if ir.type(value).dtype.is_floating]


def given_values(
    ir: BlueprintIR, values: GraphValues, leaves: tuple[torch.Tensor, ...]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """`values` with `leaves` in the places of the floating inputs and params."""
    named = dict(zip(floating_leaves(ir), leaves, strict=True))
    return (
        {name: named.get(name, tensor) for name, tensor in values.inputs.items()},
        {name: named.get(name, tensor) for name, tensor in values.weights.items()},
    )


def require_gradcheck(ir: BlueprintIR, seed: int = 0) -> None:
    """Raises `GradcheckError` unless the joint graph's gradients are those of finite differences."""
    values = random_values(ir, seed=seed)
    both = {**values.inputs, **values.weights}
    leaves = [both[name].double().requires_grad_() for name in floating_leaves(ir)]
    if leaves and floating_outputs(ir):
        torch.autograd.gradcheck(
            lambda *leaves: Graph.apply(ir, values, *leaves),  # type: ignore[no-untyped-call]
            leaves,
            eps=STEP,
            rtol=RELATIVE,
            atol=ABSOLUTE,
            check_undefined_grad=False,  # gradients that are absent are the pass's affair, not the rule's
        )


@pytest.mark.parametrize("name", sampled_operators(differentiable=True))
@settings(max_examples=10)
@given(data=st.data())
def test_the_gradient_is_that_of_finite_differences(name: str, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[name], max_nodes=1, dtypes=[DType.F64]))
    require_gradcheck(ir, seed=data.draw(st.integers(0, 2**16)))
