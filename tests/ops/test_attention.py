"""Attention with masks and groups of heads is torch's; a query without keys is zero; drops are repeated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from esper.ir import BlueprintIR, Builder, DType, TensorType, parse_type
from esper.ir.errors import InvalidNode, TypeRuleViolated
from esper.lang import lower
from esper.ops.reference.attention import attention, attention_result
from esper.ops.reference.evaluate import evaluate
from esper.ops.reference.random import uniform
from esper.passes import joint_graph, run_passes
from esper.testing.laws import REAL_TOLERANCE
from esper.urza.compiler import make_programs

B, H, K, T, S, D, E = 2, 4, 2, 3, 5, 8, 6
PLAIN: dict[str, Any] = {"causal": False, "scale": 0.0, "dropout": 0.0, "offset": 0}


def operands() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shapes = ((B, H, T, D), (B, K, S, D), (B, K, S, E))
    q, k, v = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return q, k, v


def lowered(folder: Path, mask: str = "", arguments: str = "") -> BlueprintIR:
    path = folder / "net.esp"
    given = f"    input mask: {mask}\n" if mask else ""
    operand = ", mask" if mask else ""
    path.write_text(
        "blueprint net() {\n"
        f"    input q: f32[B, {H}, T, {D}]\n"
        f"    input k: f32[B, {K}, S, {D}]\n"
        f"    input v: f32[B, {K}, S, {E}]\n"
        f"{given}    output y = scaled_dot_product_attention(q, k, v{operand}{arguments})\n}}\n"
    )
    return lower(path)


MASKS: dict[str, tuple[str, torch.Tensor]] = {
    "keys": ("bool[B, 1, 1, S]", torch.rand(B, 1, 1, S) < 0.7),
    "each": ("bool[T, S]", torch.rand(T, S) < 0.7),
    "bias": ("f32[4, T, S]", torch.randn(H, T, S, dtype=torch.float64)),
    "row": ("f32[S]", torch.randn(S, dtype=torch.float64)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_groups_and_gradients_are_torchs(kind: str, tmp_path: Path) -> None:
    declared, mask = MASKS[kind]
    if mask.dtype is torch.bool:
        mask = mask.clone()
        mask[..., 0] = True  # torch's own gradient where no key is seen is another test's
    leaves = dict(zip("qkv", operands(), strict=True)) | {"mask": mask}
    if mask.is_floating_point():
        leaves["mask"] = mask.clone()
    wanted = [t.requires_grad_() for t in leaves.values() if t.is_floating_point()]
    whole = leaves["mask"].expand(B, H, T, S)
    y = F.scaled_dot_product_attention(leaves["q"], leaves["k"], leaves["v"], whole, enable_gqa=True)
    g = torch.randn_like(y)
    gradients = iter(torch.autograd.grad(y, wanted, g))
    with torch.no_grad():
        found = evaluate(
            joint_graph(lowered(tmp_path, declared)), {**leaves, "grad.y": g}, {}, dtype=torch.float64
        )
    torch.testing.assert_close(found["y"], y, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE)
    for name, leaf in leaves.items():
        if leaf.is_floating_point():
            torch.testing.assert_close(
                found[f"grad.{name}"], next(gradients), rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE
            )
    assert (f"grad.{'mask'}" in found) == mask.is_floating_point()


@pytest.mark.parametrize("kind", [*MASKS, "none"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, T, S, S + 2])
def test_both_references_agree_and_a_query_sees_the_keys_up_to_its_own_number(
    kind: str, causal: bool, length: int
) -> None:
    _, k, v = operands()
    q = torch.randn(B, H, length, D, dtype=torch.float64)
    mask = None if kind == "none" else MASKS[kind][1]
    if mask is not None and mask.ndim > 1 and mask.shape[-2] == T:
        mask = mask[..., :1, :]
    attrs = {**PLAIN, "causal": causal}
    result, logsumexp = attention(q, k, v, mask, None, **attrs)
    torch.testing.assert_close(attention_result(q, k, v, mask, None, **attrs), result)
    for t in range(length):
        seen = slice(0, t + 1) if causal else slice(None)
        part = None if mask is None else mask[..., seen]
        row, lse = attention(q[:, :, t : t + 1], k[:, :, seen], v[:, :, seen], part, None, **PLAIN)
        torch.testing.assert_close(result[:, :, t : t + 1], row)
        torch.testing.assert_close(logsumexp[..., t : t + 1], lse)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float64])
def test_a_query_that_sees_no_key_is_zero_and_has_no_gradient(dtype: torch.dtype, tmp_path: Path) -> None:
    q, k, v = operands()
    mask = torch.ones(T, S, dtype=torch.bool)
    mask[1] = False
    declared = "bool[T, S]"
    if dtype is not torch.bool:
        mask, declared = torch.zeros(T, S, dtype=dtype).masked_fill(~mask, -math.inf), "f32[T, S]"
    result, logsumexp = attention(q, k, v, mask, None, **PLAIN)
    assert not result[:, :, 1].any() and not logsumexp[:, :, 1].any() and result[:, :, 0].all()
    torch.testing.assert_close(attention_result(q, k, v, mask, None, **PLAIN), result)
    given = {"q": q, "k": k, "v": v, "mask": mask, "grad.y": torch.randn(B, H, T, E, dtype=torch.float64)}
    ir = joint_graph(lowered(tmp_path, declared))
    found = evaluate(ir, given, {}, dtype=torch.float64)
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert not found["grad.q"][:, :, 1].any()
    given["grad.y"][:, :, 1] = 0.0
    again = evaluate(ir, given, {}, dtype=torch.float64)
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_dropout_scales_the_weights_that_stay_and_the_counter_says_which(tmp_path: Path) -> None:
    q, k, _ = operands()
    v = torch.eye(S, dtype=torch.float64).expand(B, K, S, S)  # the result is the weights
    attrs = {**PLAIN, "dropout": 0.25, "offset": 3}
    seed = torch.tensor(11)
    (dropped, logsumexp), (weights, same) = (
        attention(q, k, v, None, seed, **attrs), attention(q, k, v, None, None, **PLAIN)
    )  # fmt: skip
    keep = uniform(seed, 3, (B, H, T, S)) >= 0.25
    torch.testing.assert_close(dropped, weights * keep / 0.75)
    assert torch.equal(logsumexp, same)
    assert torch.equal(attention_result(q, k, v, None, seed, **attrs), dropped)
    assert not torch.equal(attention(q, k, v, None, torch.tensor(12), **attrs)[0], dropped)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("examples", [0, 1, 3])
def test_both_references_agree_where_weights_are_dropped(examples: int, causal: bool) -> None:
    q, v = torch.randn(examples, H, T, D), torch.randn(examples, H, S, D + 1)
    k = torch.randn(examples, H, S, D)
    if causal:
        k, v = k[:, :, :T], v[:, :, :T]
    attrs = {**PLAIN, "causal": causal, "dropout": 0.25, "offset": 3}
    expected, _ = attention(q, k, v, None, torch.tensor(11), **attrs)
    torch.testing.assert_close(attention_result(q, k, v, None, torch.tensor(11), **attrs), expected)


def test_a_source_that_drops_reads_the_seed_and_inference_takes_it_away(tmp_path: Path) -> None:
    dropping = lowered(tmp_path, arguments=", dropout=0.5")
    plain = lowered(tmp_path)
    assert dropping.of("seed") and not plain.of("seed")
    assert run_passes(dropping, "inference,dce") == plain
    (backward,) = joint_graph(dropping).of("scaled_dot_product_attention_backward")
    (forward,) = dropping.of("scaled_dot_product_attention")
    assert backward.operands[4] == forward.operands[4] == dropping.of("seed")[0].result()
    assert all(backward.attrs[name] == value for name, value in forward.attrs.items())


def test_each_use_has_an_offset_of_its_own_and_only_equal_ones_without_draws_are_merged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "net.esp"
    path.write_text(
        "blueprint net(p: float = 0.5) {\n    input q: f32[B, 2, T, 4]\n"
        "    a = scaled_dot_product_attention(q, q, q, dropout=p)\n"
        "    output y = a + scaled_dot_product_attention(q, q, q, dropout=p)\n}\n"
    )
    dropping = run_passes(lower(path))
    assert [node.attrs["offset"] for node in dropping.of("scaled_dot_product_attention")] == [0, 1]
    assert len(run_passes(lower(path, p=0.0)).of("scaled_dot_product_attention")) == 1


def test_attention_without_draws_may_stand_in_a_loop() -> None:
    step = Builder("step")
    x = step.input("x", TensorType(DType.F32, (1, 2, 3, 4)))
    seed = step.input("s", TensorType(DType.I64))
    plain = step.op("scaled_dot_product_attention", x, x, x, None, None)
    body = step.finish({"y": plain})
    dropping = step.op("scaled_dot_product_attention", x, x, x, None, seed, dropout=0.5)
    random = step.finish({"y": dropping})
    for inner, is_valid in ((body, True), (random, False)):
        build = Builder("loop")
        xs = build.input("xs", TensorType(DType.F32, (5, 1, 2, 3, 4)))
        s = build.input("seed", TensorType(DType.I64))
        y = build.op("scan", xs, s, body=inner, carries=0, sequences=1)
        if is_valid:
            build.finish({"y": y})
        else:
            with pytest.raises(InvalidNode, match="may not stand in a body"):
                build.finish({"y": y})


def test_the_same_as_torchs_layer(tmp_path: Path) -> None:
    """`nn.MultiheadAttention` with a mask of keys, whose sense is the opposite."""
    layer = nn.MultiheadAttention(H * D, H, batch_first=True, dtype=torch.float64)
    x = torch.randn(B, T, H * D, dtype=torch.float64)
    hidden = torch.tensor([[False, False, True], [False, True, True]])
    wanted, _ = layer(x, x, x, key_padding_mask=hidden)
    q, k, v = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    heads = [part.unflatten(-1, (H, D)).transpose(1, 2) for part in (q, k, v)]
    y, _ = attention(heads[0], heads[1], heads[2], ~hidden[:, None, None], None, **PLAIN)
    torch.testing.assert_close(layer.out_proj(y.transpose(1, 2).flatten(2)), wanted)


def test_a_mask_and_its_gradient_are_read_and_written_by_kernels(tmp_path: Path) -> None:
    assert make_programs(lowered(tmp_path, "f32[4, T, S]")).outside_calls == ()


Q, KV = "f32[2, 4, 3, 8]", "f32[2, 2, 5, 8]"
SEED = "i64[]"


@pytest.mark.parametrize(
    ("types", "attrs", "message"),
    [
        ([Q, "f32[2, 3, 5, 8]", "f32[2, 3, 5, 8]", None, None], {}, "or its heads do not divide those"),
        ([Q, "f32[1, 2, 5, 8]", KV, None, None], {}, "its batch is not that of f32[2, 4, 3, 8]"),
        ([Q, KV, "f32[2, 1, 5, 8]", None, None], {}, "their heads differ"),
        ([Q, KV, "f32[2, 2, 4, 8]", None, None], {}, "their lengths differ"),
        (["f32[4, 3, 8]", KV, KV, None, None], {}, "`q` is f32[4, 3, 8], expected [B, H, T, D]"),
        ([Q, KV, KV, "f32[3, 4]", None], {}, "does not broadcast to f32[2, 4, 3, 5]"),
        ([Q, KV, KV, "f32[1, 2, 4, 3, 5]", None], {}, "does not broadcast to f32[2, 4, 3, 5]"),
        ([Q, KV, KV, "bf16[3, 5]", None], {}, "expected bool or the dtype f32 of `q`"),
        ([Q, KV, KV, None, None], {"dropout": 0.5}, "`seed` is left out, expected i64[] for dropout = 0.5"),
        ([Q, KV, KV, None, SEED], {}, "`seed` is i64[], expected none for dropout = 0.0"),
        ([Q, KV, KV, None, SEED], {"dropout": 1.0}, "`dropout` is 1.0, expected a probability below 1"),
        ([Q, KV, KV, None, SEED], {"dropout": 0.5, "offset": -1}, "`offset` is -1, expected 0 to"),
        ([Q, KV, KV, None, None], {"offset": 1}, "`offset` is 1, expected 0 for dropout = 0.0"),
        ([Q, KV, KV, None, None], {"scale": -1.0}, "`scale` is -1.0, expected zero or more"),
    ],
)
def test_what_attention_refuses(types: list[str | None], attrs: dict[str, Any], message: str) -> None:
    build = Builder("b")
    given = [None if t is None else build.input(f"x{i}", parse_type(t)) for i, t in enumerate(types)]
    with pytest.raises(TypeRuleViolated) as caught:
        build.op("scaled_dot_product_attention", *given, **attrs)
    assert message in str(caught.value)
