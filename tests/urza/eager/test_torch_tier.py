"""The torch tier: torch's own operators, no more of them than a module by hand runs, and equal results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from esper.ir import Builder, DType, TensorType, symbol
from esper.lang import lower
from esper.ops.reference.evaluate import TORCH_DTYPES, evaluate
from esper.urza.eager.torch_tier import call, graph_module
from esper.urza.run.seed import CompiledSeed

N, S = symbol("N"), symbol("S")


class Residual(nn.Module):
    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = x + self.branch(x)
        return found


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        return func(*args, **(kwargs or {}))


def operators(module: nn.Module, x: torch.Tensor) -> int:
    """How many a call forward and backward dispatches."""
    counted = Counted()
    with counted:
        torch.autograd.grad(module(x), [x, *module.parameters()], torch.ones_like(x))
    return counted.operators


BY_HAND: dict[str, tuple[dict[str, Any], tuple[int, ...], Callable[[], nn.Module]]] = {
    "norm": ({"features": 16}, (2, 4, 16), lambda: Residual(nn.RMSNorm(16), nn.Linear(16, 16))),
    "mlp_block": (
        {"features": 16},
        (2, 4, 16),
        lambda: Residual(nn.LayerNorm(16), nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)),
    ),
    "conv_block": (
        {"channels": 8},
        (2, 8, 4, 4),
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_call_dispatches_no_more_operators_than_the_module_by_hand(name: str) -> None:
    arguments, shape, by_hand = BY_HAND[name]
    x = torch.randn(shape, requires_grad=True)
    found = operators(CompiledSeed(lower(name, **arguments)), x)
    assert 0 < found <= operators(by_hand(), x)


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16], ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("attrs", [{}, {"groups": 2, "stride": 2}, {"dilation": 2, "padding": 1}], ids=str)
def test_convolutions_give_what_their_reference_gives(dtype: DType, axes: int, attrs: dict[str, int]) -> None:
    build = Builder("convolution")
    x = build.input("x", TensorType(dtype, (N, 4, *[S] * axes)))
    weight = build.input("weight", TensorType(dtype, (6, 4 // attrs.get("groups", 1), *[3] * axes)))
    filters = build.input("filters", TensorType(dtype, (4, 1, *[3] * axes)))
    depthwise = {name: value for name, value in attrs.items() if name != "groups"}
    ir = build.finish(
        {
            "conv": build.op("conv", x, weight, None, name=None, span=None, **attrs),
            "depthwise": build.op("depthwise_conv", x, filters, None, name=None, span=None, **depthwise),
        }
    )
    inputs = {
        node.name: torch.randn(node.type.concrete_shape({"N": 2, "S": 5})).to(TORCH_DTYPES[dtype])
        for node in ir.inputs
    }
    for found, expected in zip(
        call(graph_module(ir), ir, inputs), evaluate(ir, inputs, {}).values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
