"""The pointwise library of `kernels/functions.py` against torch in float64, and the counter hash's twin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from esper.ops.reference.random import uniform
from esper.urza.grid import CeilDiv
from esper.urza.kernel import Argument, KernelSource
from esper.urza.verify.interpret import KernelCall, interpret

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
}
DERIVATIVES = ("gelu", "gelu_tanh", "silu", "sigmoid", "tanh")


def apply(function: str, x: torch.Tensor) -> torch.Tensor:
    source = f"""
import triton
import triton.language as tl
from esper.kernels.functions import {function}
from esper.kernels.pointwise import pointwise

@triton.jit
def body(offsets, mask, operands):
    x, y = operands
    tl.store(y + offsets, {function}(tl.load(x + offsets, mask, 0.0)), mask)

@triton.jit
def entry(x, y, n, BLOCK: tl.constexpr):
    pointwise(n, (x, y), body, BLOCK)
"""
    arguments = (
        Argument("x", "pointer", "f32"),
        Argument("y", "pointer", "f32", writes=True),
        Argument("n", "size"),
    )
    kernel = KernelSource(
        "apply", "forward", source, "entry", arguments, (CeilDiv("n", "BLOCK"),), {"BLOCK": 1024}
    )
    call = KernelCall(kernel, {"x": "x", "y": "y"}, {"n": x.numel()})
    result = interpret([call], {"x": x.numpy()}, {"y": ("f32", tuple(x.shape))})
    assert result.findings == ()
    return torch.from_numpy(result.buffers["y"])


def samples() -> torch.Tensor:
    return torch.cat([torch.linspace(-12, 12, 2001), torch.logspace(-6, 0, 200), torch.tensor([-90.0, 90.0])])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_equals_torch(name: str) -> None:
    x = samples()
    expected = FUNCTIONS[name](x.double())
    torch.testing.assert_close(apply(name, x).double(), expected, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_a_derivative_equals_autograd(name: str) -> None:
    x = samples().double().requires_grad_()
    (expected,) = torch.autograd.grad(FUNCTIONS[name](x).sum(), x)
    actual = apply(f"{name}_gradient", samples()).double()
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_clipping_passes_nan_on(name: str) -> None:
    assert apply(name, torch.tensor([float("nan")])).isnan().all()


@pytest.mark.parametrize("seed", [0, 1, -5, 2**40 + 3, -(2**62) + 1])
def test_kernels_and_torch_draw_the_same_bits(seed: int) -> None:
    source = """
import triton
import triton.language as tl
from esper.kernels.functions import uniform
from esper.kernels.pointwise import pointwise

@triton.jit
def body(offsets, mask, operands):
    seed, out = operands
    tl.store(out + offsets, uniform(tl.load(seed), 7, offsets), mask)

@triton.jit
def entry(seed, out, n, BLOCK: tl.constexpr):
    pointwise(n, (seed, out), body, BLOCK)
"""
    arguments = (
        Argument("seed", "pointer", "i64"),
        Argument("out", "pointer", "f32", writes=True),
        Argument("n", "size"),
    )
    kernel = KernelSource(
        "draw", "forward", source, "entry", arguments, (CeilDiv("n", "BLOCK"),), {"BLOCK": 1024}
    )
    call = KernelCall(kernel, {"seed": "seed", "out": "out"}, {"n": 3000})
    result = interpret([call], {"seed": np.array([seed], np.int64)}, {"out": ("f32", (3000,))})
    assert torch.equal(torch.from_numpy(result.buffers["out"]), uniform(seed, 7, (3000,)))


EXACT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "round_to_even": torch.round,
}


@pytest.mark.parametrize("name", EXACT)
def test_a_function_is_exact_near_zero_and_at_its_edges(name: str) -> None:
    edges = torch.tensor([0.0, 0.5, 1.5, 2.5, 8388607.5, 1e10, float("inf"), float("nan")])
    x = torch.cat([torch.logspace(-30, 1.9, 400), edges])
    x = torch.cat([x, -x[x < 0.99]]) if name == "log1p" else torch.cat([x, -x])
    torch.testing.assert_close(
        apply(name, x).double(), EXACT[name](x.double()).float().double(), rtol=5e-7, atol=0.0, equal_nan=True
    )
