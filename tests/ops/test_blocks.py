"""The composites that transformers are made of are torch's layers, weights and gradients included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from esper.ir import BlueprintIR, Builder, parse_type
from esper.ir.errors import TypeRuleViolated
from esper.lang import BlueprintRejected, lower
from esper.ops.reference.evaluate import evaluate
from esper.ops.reference.initialise import initial_values
from esper.ops.reference.random import dropout
from esper.passes import joint_graph, run_passes
from esper.testing.laws import REAL_TOLERANCE
from esper.urza.compiler import make_programs
from esper.urza.eager.torch_tier import call, graph_module
from esper.urza.verify.verification import verify_programs

FEATURES, HIDDEN, HEADS = 8, 12, 2
ENCODER = f"""
blueprint encoder(p: float = 0.0, causal: bool = false) {{
    input x: f32[N, T, {FEATURES}]
    h = add_and_norm(x, multi_head_attention(x, heads={HEADS}, causal=causal, dropout=p), dropout=p)
    output y = add_and_norm(h, feed_forward(h, {HIDDEN}, activation=relu, dropout=p), dropout=p)
}}
"""


def written(folder: Path, source: str) -> Path:
    path = folder / "net.esp"
    path.write_text(source)
    return path


def encoder_weights(layer: nn.TransformerEncoderLayer) -> dict[str, torch.Tensor]:
    """The weights of torch's layer by the names that `ENCODER` gives them."""
    attention = layer.self_attn
    weights: dict[str, torch.Tensor] = {}
    for name, part in zip("qkv", range(3), strict=True):
        rows = slice(part * FEATURES, (part + 1) * FEATURES)
        weights[f"multi_head_attention.weight_{name}"] = attention.in_proj_weight[rows]
        weights[f"multi_head_attention.bias_{name}"] = attention.in_proj_bias[rows]
    pairs = {
        "multi_head_attention.": attention.out_proj,
        "add_and_norm.": layer.norm1,
        "feed_forward.": layer.linear2,
        "add_and_norm_2.": layer.norm2,
    }
    for name, module in pairs.items():
        assert isinstance(module.weight, torch.Tensor) and isinstance(module.bias, torch.Tensor)
        weights |= {f"{name}weight": module.weight, f"{name}bias": module.bias}
    weights |= {"feed_forward.weight_in": layer.linear1.weight, "feed_forward.bias_in": layer.linear1.bias}
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in weights.items()}


def results(
    ir: BlueprintIR, inputs: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return evaluate(ir, inputs, weights, dtype=torch.float64)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE)


@pytest.mark.parametrize("causal", [False, True])
def test_an_encoder_layer_and_its_gradients_are_torchs(causal: bool, tmp_path: Path) -> None:
    ir = lower(written(tmp_path, ENCODER), causal=causal)
    layer = nn.TransformerEncoderLayer(
        FEATURES, HEADS, HIDDEN, dropout=0.0, batch_first=True, dtype=torch.float64
    )
    x = torch.randn(3, 5, FEATURES, dtype=torch.float64, requires_grad=True)
    future = torch.ones(5, 5).triu(1).bool() if causal else None
    y = layer(x, src_mask=future)
    g = torch.randn_like(y)
    names = ["x", "self_attn.out_proj.weight", "linear1.weight", "norm1.weight"]
    leaves = [x, *(dict(layer.named_parameters())[name] for name in names[1:])]
    expected = torch.autograd.grad(y, leaves, g)
    weights = encoder_weights(layer)
    assert weights.keys() == {node.name for node in ir.params}
    found = results(joint_graph(ir), {"x": x, "grad.y": g}, weights)
    close(found["y"], y)
    ours = ("x", "multi_head_attention.weight", "feed_forward.weight_in", "add_and_norm.weight")
    for name, gradient in zip(ours, expected, strict=True):
        close(found[f"grad.{name}"], gradient)


def test_cross_attention_with_few_keys_heads_and_a_mask(tmp_path: Path) -> None:
    source = (
        "blueprint cross() {\n    input x: f32[N, T, 8]\n    input c: f32[N, S, 6]\n"
        "    input seen: bool[N, 1, 1, S]\n"
        "    output y = multi_head_attention(x, c, seen, heads=4, kv_heads=2, bias=false)\n}\n"
    )
    ir = lower(written(tmp_path, source))
    weights = {
        node.name: torch.randn(node.type.concrete_shape({}), dtype=torch.float64) for node in ir.params
    }
    assert {name.rpartition(".")[2]: tuple(w.shape) for name, w in weights.items()} == {
        "weight_q": (8, 8), "weight_k": (4, 6), "weight_v": (4, 6), "weight": (8, 8)
    }  # fmt: skip
    x, c = torch.randn(2, 3, 8, dtype=torch.float64), torch.randn(2, 5, 6, dtype=torch.float64)
    seen = torch.tensor([[True, True, False, False, True], [False, True, True, True, True]])[:, None, None]
    q, k, v, out = weights.values()
    heads = [
        F.linear(given, w).unflatten(-1, (-1, 2)).transpose(1, 2) for given, w in ((x, q), (c, k), (c, v))
    ]
    y = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=seen, enable_gqa=True)
    close(
        results(ir, {"x": x, "c": c, "seen": seen}, weights)["y"], F.linear(y.transpose(1, 2).flatten(2), out)
    )


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh", "glu", "swiglu", "geglu", "reglu"])
def test_feed_forward_with_every_activation(activation: str, tmp_path: Path) -> None:
    called = f"feed_forward(x, 6, activation={activation})"
    source = f"blueprint f() {{\n    input x: f32[N, 8]\n    output y = {called}\n}}\n"
    ir = lower(written(tmp_path, source))
    weights = {
        node.name: torch.randn(node.type.concrete_shape({}), dtype=torch.float64) for node in ir.params
    }
    w, b, v, c = weights.values()
    x = torch.randn(4, 8, dtype=torch.float64)
    h = F.linear(x, w, b)
    assert w.shape[0] == (12 if activation.endswith("glu") else 6)
    match activation:
        case "glu":
            h = h[:, :6] * torch.sigmoid(h[:, 6:])
        case "swiglu":
            h = h[:, :6] * F.silu(h[:, 6:])
        case "geglu":
            h = h[:, :6] * F.gelu(h[:, 6:])
        case "reglu":
            h = h[:, :6] * F.relu(h[:, 6:])
        case "silu":
            h = F.silu(h)
        case "tanh":
            h = torch.tanh(h)
        case _:
            h = F.gelu(h)
    close(results(ir, {"x": x}, weights)["y"], F.linear(h, v, c))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_squeeze_excite_is_two_convolutions_of_the_mean(axes: int, tmp_path: Path) -> None:
    maps = ", ".join("HWD"[:axes])
    source = f"blueprint f() {{\n    input x: f32[N, 6, {maps}]\n    output y = squeeze_excite(x, 3)\n}}\n"
    ir = lower(written(tmp_path, source))
    weights = {
        node.name: torch.randn(node.type.concrete_shape({}), dtype=torch.float64) for node in ir.params
    }
    w, b, v, c = weights.values()
    x = torch.randn(2, 6, *(4, 3, 5)[:axes], dtype=torch.float64)
    mean = x.mean(tuple(range(2, 2 + axes)))
    scale = torch.sigmoid(F.linear(F.relu(F.linear(mean, w, b)), v, c))
    close(results(ir, {"x": x}, weights)["y"], x * scale.reshape(2, 6, *[1] * axes))


def test_each_drop_has_an_offset_of_its_own_and_none_is_left_in_inference(tmp_path: Path) -> None:
    path = written(tmp_path, ENCODER)
    dropping, plain = lower(path, p=0.25), lower(path)
    expanded = run_passes(dropping, "expand")
    drops = [node for node in expanded.nodes if node.op in ("dropout", "scaled_dot_product_attention")]
    assert sorted(str(node.attrs["offset"]) for node in drops) == ["0", "1", "2", "3"]
    assert dropping.of("seed") and not plain.of("seed")
    assert run_passes(dropping, "inference,dce") == plain


def test_add_and_norm_drops_what_is_added(tmp_path: Path) -> None:
    source = (
        "blueprint f() {\n    input x: f32[N, 8]\n    input y: f32[N, 8]\n"
        "    output z = add_and_norm(x, y, dropout=0.5, affine=false)\n}\n"
    )
    ir = lower(written(tmp_path, source))
    x, y = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)
    found = evaluate(ir, {"x": x, "y": y}, {}, dtype=torch.float64, seed=9)["z"]
    close(found, F.layer_norm(x + dropout(y, torch.tensor(9), p=0.5, offset=0), (8,)))


def test_init_is_that_of_the_last_layer_alone(tmp_path: Path) -> None:
    """With the others at zero too, no gradient would ever reach a weight."""
    source = (
        "blueprint f() {\n    input x: f32[N, T, 8]\n    a = multi_head_attention(x, heads=2, init=zeros)\n"
        "    output y = a + feed_forward(x, 6, init=zeros)\n}\n"
    )
    values = initial_values(lower(written(tmp_path, source)), torch.Generator().manual_seed(0))
    zero = {name for name, tensor in values.items() if not tensor.any()}
    last = {
        f"{node}.{name}" for node in ("multi_head_attention", "feed_forward") for name in ("weight", "bias")
    }
    assert zero == last


def test_the_torch_tier_runs_an_encoder_of_any_length(tmp_path: Path) -> None:
    ir = run_passes(lower(written(tmp_path, ENCODER)))
    layer = nn.TransformerEncoderLayer(FEATURES, HEADS, HIDDEN, dropout=0.0, batch_first=True)
    module, weights = graph_module(ir), encoder_weights(layer)
    for batch, length in ((1, 1), (3, 17)):
        x = torch.randn(batch, length, FEATURES)
        torch.testing.assert_close(call(module, ir, {"x": x, **weights})[0], layer(x), rtol=1e-4, atol=1e-5)


def test_the_kernels_of_an_encoder_layer_are_right(tmp_path: Path) -> None:
    found = verify_programs(make_programs(lower(written(tmp_path, ENCODER))), sizes={"N": 2, "T": 5})
    assert found.ok
    assert found.outside == ()


X, W8, W4 = "f32[N, T, 8]", "f32[8, 8]", "f32[4, 8]"


@pytest.mark.parametrize(
    ("types", "attrs", "message"),
    [
        (["f32[N, 8]", None, None, W8, W8, W8, W8], {"heads": 2}, "expected [N, T, features]"),
        ([X, None, None, W8, W8, W8, W8], {"heads": 3}, "8 is not divisible by heads = 3"),
        ([X, None, None, W8, W8, W8, W8], {"heads": 0}, "`heads` is 0, expected at least 1"),
        ([X, None, None, W8, W8, W8, W8], {"heads": 4, "kv_heads": 3}, "expected a divisor of heads = 4"),
        (
            [X, None, None, W8, W8, W8, W8],
            {"heads": 2, "kv_heads": 1},
            "`weight_k` is f32[8, 8], expected f32[4, 8]",
        ),
        ([X, "f32[M, S, 8]", None, W8, W8, W8, W8], {"heads": 2}, "its dtype or batch is not that of"),
        (
            [X, "f32[N, S, 6]", None, W8, W8, W8, W8],
            {"heads": 2},
            "`weight_k` is f32[8, 8], expected f32[8, 6]",
        ),
        ([X, None, "bool[5, 5]", W8, W8, W8, W8], {"heads": 2}, "expected bool or f32 that broadcasts to"),
        ([X, None, None, W8, W8, W8, W4], {"heads": 2}, "`weight` is f32[4, 8], expected f32[8, 8]"),
        ([X, None, None, W8, W8, W8, W8], {"heads": 2, "dropout": 0.5}, "`seed` is left out"),
    ],
)
def test_what_multi_head_attention_refuses(
    types: list[str | None], attrs: dict[str, int | float], message: str
) -> None:
    build = Builder("b")
    x, context, mask, *weights = (
        None if text is None else build.input(f"x{index}", parse_type(text))
        for index, text in enumerate(types)
    )
    layers = [operand for weight in weights for operand in (weight, None)]
    with pytest.raises(TypeRuleViolated) as caught:
        build.ops("multi_head_attention", x, context, mask, None, *layers, name=None, span=None, **attrs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call_", "message"),
    [
        ("multi_head_attention(x, heads=3)", "8 is not divisible by heads = 3"),
        ("multi_head_attention(x, heads=0)", "`heads` is 0, expected at least 1"),
        ("feed_forward(x, 6, activation=gelo)", "is `gelo`, expected one of gelu, relu"),
        ("feed_forward(x, 6, dropout=1.5)", "`dropout` is 1.5, expected a probability below 1"),
        ("add_and_norm(x, slice(x, axes=1, start=1))", "expected f32[N, T, 8] as `x` is"),
        ("squeeze_excite(flatten(x), 4)", "`flatten(x)` is f32[8*N*T]: too few axes"),
    ],
)
def test_what_a_source_may_not_ask(call_: str, message: str, tmp_path: Path) -> None:
    source = f"blueprint f() {{\n    input x: f32[N, T, 8]\n    output y = {call_}\n}}\n"
    with pytest.raises(BlueprintRejected) as caught:
        lower(written(tmp_path, source))
    assert message in str(caught.value)
