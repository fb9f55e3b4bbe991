"""Means in float16 stay in its range: they are summed, and counted, in float32."""

from __future__ import annotations

import pytest
import torch

from esper.ir import BlueprintIR, Builder, DType, TensorType
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph, run_passes


def _mean(op: str, shape: tuple[int, ...], **attrs: object) -> BlueprintIR:
    build = Builder("means")
    x = build.input("x", TensorType(DType.F16, shape))
    return build.finish({"y": build.op(op, x, **attrs)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ir",
    [_mean("mean", (2, 70_000), axes=(1,)), _mean("global_avg_pool", (1, 2, 300, 300))],
    ids=["mean", "global_avg_pool"],
)
@pytest.mark.parametrize("value", [0.5, 100.0])
def test_a_mean_of_many_is_exact_with_its_gradient(ir: BlueprintIR, value: float) -> None:
    shape = ir.inputs[0].type.concrete_shape({})
    x = torch.full(shape, value, dtype=torch.float16)
    for graph in (ir, run_passes(ir, "expand,decompose")):
        assert torch.all(evaluate(graph, {"x": x}, {})["y"] == value)
    joint = joint_graph(ir)
    (asked,) = (node.name for node in joint.inputs if node.name != "x")
    (gradient,) = (name for name, _ in joint.outputs if name != "y")
    ones = torch.ones(joint.node(asked).type.concrete_shape({}), dtype=torch.float16)
    found = evaluate(joint, {"x": x, asked: ones}, {})[gradient]
    elements = x.numel() // ones.numel()
    torch.testing.assert_close(found, torch.full(shape, 1.0 / elements, dtype=torch.float16))
