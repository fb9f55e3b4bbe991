"""The references are torch's own layers and functions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir.operator import OPERATORS, Operator
from esper.ops.reference.evaluate import evaluate, reference
from esper.testing import blueprint_irs, random_values

WITH_FAST_PATH = tuple(e for e in OPERATORS.values() if e.first_result_reference is not None)
X = torch.arange(48, dtype=torch.float64).sin().reshape(2, 4, 6)


def call(operator: str, *operands: torch.Tensor | None, **attrs: object) -> Sequence[torch.Tensor]:
    path = OPERATORS[operator].reference
    assert path is not None
    found = reference(path)(*operands, **attrs)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("entry", WITH_FAST_PATH, ids=lambda entry: entry.name)
@settings(max_examples=30)
@given(data=st.data())
def test_the_faster_reference_gives_the_first_result(entry: Operator, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1))
    values = random_values(ir)
    node = ir.of(entry.name)[0]
    ir = ir.replace(
        outputs=[
            ("result", node.result()),
            *((f"operand.{i}", operand) for i, operand in enumerate(node.operands) if operand is not None),
        ]
    )
    found = evaluate(ir, values.inputs, values.weights, dtype=torch.float64)
    operands = [found.get(f"operand.{i}") for i in range(len(node.operands))]
    assert entry.first_result_reference is not None
    fast = reference(entry.first_result_reference)(*operands, **node.attrs)
    torch.testing.assert_close(fast, found["result"], rtol=1e-9, atol=1e-9)


def test_layer_norm_is_torchs_layer() -> None:
    layer = nn.LayerNorm(6, eps=1e-3, dtype=torch.float64)
    y, mean, rstd = call("layer_norm", X, layer.weight, layer.bias, eps=1e-3)
    torch.testing.assert_close(y, layer(X))
    torch.testing.assert_close(mean, X.mean(-1, keepdim=True))
    torch.testing.assert_close(rstd, (X.var(-1, correction=0, keepdim=True) + 1e-3).rsqrt())


def test_rms_norm_is_torchs_layer() -> None:
    layer = nn.RMSNorm(6, eps=1e-3, dtype=torch.float64)
    torch.testing.assert_close(call("rms_norm", X, layer.weight, eps=1e-3)[0], layer(X))


def test_group_norm_is_torchs_layer() -> None:
    layer = nn.GroupNorm(2, 4, dtype=torch.float64)
    torch.testing.assert_close(
        call("group_norm", X, layer.weight, layer.bias, groups=2, eps=1e-5)[0], layer(X)
    )


def test_batch_norm_follows_torchs_layer_over_steps_and_changes_nothing_in_place() -> None:
    layer = nn.BatchNorm1d(4, momentum=0.3, dtype=torch.float64)
    mean, var = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    attrs = {"momentum": 0.3, "eps": 1e-5}
    for step in range(3):
        x = X * (step + 1) + step
        before = mean.clone()
        y, _, _, new_mean, new_var = call(
            "batch_norm", x, layer.weight, layer.bias, mean, var, training=True, **attrs
        )
        torch.testing.assert_close(y, layer(x))
        assert torch.equal(mean, before)
        mean, var = new_mean, new_var
    assert layer.running_mean is not None and layer.running_var is not None
    torch.testing.assert_close(mean, layer.running_mean)
    torch.testing.assert_close(var, layer.running_var)
    y, _, _, kept_mean, kept_var = call(
        "batch_norm", X, layer.weight, layer.bias, mean, var, training=False, **attrs
    )
    torch.testing.assert_close(y, layer.eval()(X))
    assert torch.equal(kept_mean, mean) and torch.equal(kept_var, var)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, -1, 1), (2, 1, 1), (1, -1, 2), (1, 0, 2)])
def test_conv_is_torchs_in_any_number_of_axes(axes: int, stride: int, padding: int, dilation: int) -> None:
    layers = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    zeros = dilation if padding == -1 else padding
    layer = layers[axes](
        4, 6, 3, stride=stride, padding=zeros, dilation=dilation, groups=2, dtype=torch.float64
    )
    x = torch.randn(2, 4, *(range(7, 7 + axes)), dtype=torch.float64)
    attrs = {"stride": stride, "padding": padding, "dilation": dilation}
    (y,) = call("conv", x, layer.weight, layer.bias, groups=2, **attrs)
    torch.testing.assert_close(y, layer(x))
    depthwise = torch.randn(4, 1, *([3] * axes), dtype=torch.float64)
    (y,) = call("depthwise_conv", x, depthwise, None, **attrs)
    torch.testing.assert_close(y, call("conv", x, depthwise, None, groups=4, **attrs)[0])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [0.0, 0.25])
def test_attention_is_torchs(causal: bool, scale: float) -> None:
    q = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    k, v = torch.randn(2, 3, 5, 8, dtype=torch.float64), torch.randn(2, 3, 5, 4, dtype=torch.float64)
    out, _ = call(
        "scaled_dot_product_attention", q, k, v, None, None, causal=causal, scale=scale, dropout=0.0, offset=0
    )
    torch.testing.assert_close(
        out, F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale or None)
    )


def test_dropout_keeps_the_share_that_it_says_and_the_mean() -> None:
    x = torch.ones(1 << 18, dtype=torch.float64)
    (y,) = call("dropout", x, torch.tensor(5), p=0.3, offset=2)
    kept = (y != 0).double()
    assert abs(kept.mean().item() - 0.7) < 4.5 * (0.3 * 0.7 / len(x)) ** 0.5
    torch.testing.assert_close(y, kept / 0.7)


def test_dropout_draws_the_same_for_the_same_seed_and_offset_only() -> None:
    x = torch.ones(4, 256)
    draws = {
        (seed, offset): call("dropout", x, torch.tensor(seed), p=0.5, offset=offset)[0]
        for seed in (1, 2)
        for offset in (0, 1)
    }
    assert torch.equal(call("dropout", x, torch.tensor(1), p=0.5, offset=0)[0], draws[1, 0])
    patterns = {tuple(y.flatten().tolist()) for y in draws.values()}
    assert len(patterns) == 4


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_dropout_draws_in_row_major_order_whatever_the_strides(p: float) -> None:
    x = torch.randn(6, 8)
    (y,) = call("dropout", x, torch.tensor(1), p=p, offset=0)
    (strided,) = call("dropout", x.T.contiguous().T, torch.tensor(1), p=p, offset=0)
    assert torch.equal(y, strided)
